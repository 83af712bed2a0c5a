//! The rules of Keepsake, written once: what a name, a type, a key, a limit, a token and a
//! signature may be. The worker, the PostgreSQL extension and the browser page call this same code.
//!
//! Everything here is pure. The time, random values and secrets come in as arguments; nothing is
//! read from a clock, a file, the network or the environment, and nothing is kept in a global. The
//! crate is `no_std` and builds for native targets and for `wasm32-unknown-unknown`.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod capabilities;
pub mod content;
pub mod content_disposition;
pub mod error;
pub mod file_name;
pub mod file_types;
pub mod id;
pub mod key_ring;
mod keyed_hash;
pub mod limits;
pub mod media_type;
mod nfc;
pub mod object_key;
pub mod object_serde;
mod percent;
#[cfg(not(target_arch = "wasm32"))]
pub mod search;
mod sentence;
pub mod sha256;
pub mod shown_origin;
pub mod sigv4;
mod text_serde;
pub mod token;
pub mod upload;
pub mod webhook;
pub mod whole_number;

pub use content_disposition::content_disposition;
pub use error::{ErrorCode, FieldError, Problem};
pub use file_name::{FileName, FileNameError};
pub use file_types::{FileTypes, FileTypesError};
pub use id::{AttachmentId, DeletionId, EntityId, EntityType, IdError, TenantId, UploadId};
pub use key_ring::{KeyRing, KeyRingError};
pub use limits::Limits;
pub use media_type::{MediaType, MediaTypeMismatch};
pub use object_key::{ObjectKey, ObjectKeyError};
pub use sha256::{Sha256Digest, Sha256Error};
pub use shown_origin::ShownOrigin;
pub use token::{ObjectToken, TokenError};
pub use webhook::{WebhookKeys, WebhookUrl};
pub use whole_number::whole_number;
