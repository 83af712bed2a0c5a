//! What the rest of the service speaks about, as data: who calls, and what was declared.
//!
//! - `caller`: the tenant and the claims of a verified token.
//! - `declared_file`: one file of an upload set.
//! - `multipart`: a file's multipart upload and its stored parts.
//! - `scope`: what a token may allow.
//!
//! Plain types without behaviour. Nothing here may call another room.

mod caller;
mod declared_file;
mod multipart;
mod scope;

pub use caller::Caller;
pub use declared_file::DeclaredFile;
pub use multipart::{Multipart, StoredPart};
pub use scope::Scope;
