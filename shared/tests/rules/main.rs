//! The rules for names, types, ids, keys, uploads, tokens and errors.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first thing that is not as it says"
)]

mod capabilities;
mod content;
mod content_disposition;
mod error;
mod file_name;
mod file_types;
mod id;
mod key_ring;
mod media_type;
mod object_key;
mod sha256;
mod token;
mod upload;
