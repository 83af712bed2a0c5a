//! A bucket in a folder.
//!
//! - `folder`: the files themselves. No path leads out of the root: each folder is opened by its name inside the one above,
//!   and a symbolic link is refused wherever it stands.
//! - `bucket`: the service's `Storage` and `Bucket` by them.
//!
//! Under the root lie `objects/` (each object under its key), `parts/` (those of multipart uploads, a folder each) and
//! `incoming/`. A file is written to `incoming/`, with its length and SHA-256 checked on the way; it is then brought to the
//! disk, moved to its place by one step that overwrites nothing, and the folder is brought to the disk as well. So an object
//! is there whole or not at all, whenever the machine stops, and any number of servers may share a root.

mod bucket;
mod folder;

pub(crate) use bucket::FileStore;
