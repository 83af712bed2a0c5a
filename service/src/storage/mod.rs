//! Object stores: those that the service serves itself, and stores that speak S3.
//!
//! - `object_store`: the trait [`Storage`] that all implement, and [`Bucket`] of those that the service serves, whose
//!   implementation is the host's.
//! - `configured`: [`Store`], the one that the settings name.
//! - `s3`: S3 requests, their signatures, and the XML they exchange.
//!
//! May call `runtime`, `clock` and `model`. Errors are [`StorageError`]; their text is for the log.

mod configured;
mod object_store;
mod s3;

pub use configured::Store;
pub(crate) use object_store::put_subject;
pub use object_store::{
    Bucket, Download, Listing, MAX_DELETE, MAX_LIST, Part, PutError, Storage, StorageError,
    StoredObject, Undeleted,
};
pub(crate) use s3::push_escaped;
pub use s3::{S3, S3Settings};
