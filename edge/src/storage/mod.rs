//! Object stores: the R2 bucket binding, and stores that speak S3.
//!
//! - `object_store`: the trait [`Storage`] that both implement, with its types and limits.
//! - `configured`: [`Store`], the one that the settings name.
//! - `bucket`: the R2 binding. It also moves the bytes for the URLs that the worker serves itself.
//! - `s3`: S3 requests, their signatures, and the XML they exchange.
//! - `digest`: digests computed by the runtime.
//!
//! May call `clock` and `model`. Errors are [`StorageError`]; their text is for the log.

mod bucket;
mod configured;
mod digest;
mod object_store;
mod s3;

pub(crate) use bucket::{Bucket, Download, PutError};
pub(crate) use configured::Store;
pub(crate) use object_store::{Listing, MAX_DELETE, MAX_LIST, Storage, StorageError, StoredObject};
pub(crate) use s3::{S3, S3Settings, push_escaped};
