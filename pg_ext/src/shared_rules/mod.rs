//! The rules of `keepsake-shared` as SQL functions, so that database, worker and browser judge alike.
//!
//! - `rules` has file names, media types, sizes and keys; `presign` signs URLs of S3.
//!
//! It uses `model` and `call`. No other room uses it.

pub mod presign;
pub mod rules;
