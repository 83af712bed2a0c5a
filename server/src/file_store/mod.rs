//! A bucket in a folder.
//!
//! - `folder`: the files themselves. No path leads out of the root: each folder is opened by its name inside the one above,
//!   and a symbolic link is refused wherever it stands.
//! - `folders`: what lies under the root, and the work on it that may wait for the disk.
//! - `incoming`: a file that one upload has to itself. `receive`: how bytes get into it. `waiting`: for another's.
//! - `parts`: those of large files, and joining them. `digest`: of what lies on the disk.
//! - `found`: what a file tells of itself. `list` and `delete`: of many.
//! - `probe`: whether a file could be stored now.
//! - `bucket`: the service's `Storage` and `Bucket` by all of them.
//!
//! Under the root lie `objects/` (each object under its key), `parts/` (those of multipart uploads, a folder each) and
//! `incoming/`. A file is written to `incoming/`, with its length and SHA-256 checked on the way; it is then brought to the
//! disk, moved to its place by one step that overwrites nothing, and the folder is brought to the disk as well. So an object
//! is there whole or not at all, whenever the machine stops, and any number of servers may share a root.

mod bucket;
mod delete;
mod digest;
mod folder;
mod folders;
mod found;
mod incoming;
mod list;
mod parts;
mod probe;
mod receive;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use bucket::FileStore;
