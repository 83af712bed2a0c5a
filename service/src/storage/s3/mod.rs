//! A store that speaks S3: R2's own S3 API, AWS, MinIO, Garage
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>).
//!
//! - `settings`: where the store is, and what it signs: presigned URLs and forms.
//! - `call`: one signed request, repeated where that is safe.
//! - `store`: [`Storage`](super::Storage) by such requests.
//! - `multipart`: multipart uploads.
//! - `xml`: the little XML that S3 needs.

mod call;
mod multipart;
mod settings;
mod store;
mod xml;

pub use settings::{S3, S3Settings};
pub(crate) use xml::push_escaped;
