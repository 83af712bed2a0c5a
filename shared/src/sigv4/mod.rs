//! AWS Signature Version 4, for S3 and the stores that speak like it.
//!
//! One file is one step of the AWS documentation's own account of it
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>):
//! [`canonical_request()`], [`string_to_sign()`], [`signature()`]; and [`presign()`] puts the result
//! into a URL, [`authorization()`] into headers; [`post_form()`] signs a policy instead.
//!
//! S3's rules hold throughout: a path is encoded once and never normalised. For another service,
//! [`normalise_path`] does what it expects.
//!
//! ```
//! use keepsake_shared::sigv4::{
//!     Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, Signer, SigningKeyCache, presign,
//! };
//!
//! let endpoint = Endpoint::parse("https://s3.eu-central-1.amazonaws.com")?;
//! let bucket = Bucket::path_style(endpoint, "attachments")?;
//! let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "a secret", None)?;
//! let signer = Signer::s3(credentials, "eu-central-1")?;
//! let request = PresignRequest {
//!     request: Request {
//!         method: "PUT",
//!         target: bucket.object("a/b.png")?,
//!         query: &[],
//!         headers: &[("content-type", "image/png"), ("if-none-match", "*")],
//!         payload: Payload::Unsigned,
//!     },
//!     expires_seconds: 900,
//! };
//! let now = time::macros::datetime!(2026-09-01 00:00 UTC);
//! let url = presign(&request, &signer, &mut SigningKeyCache::default(), now)?;
//! assert!(url.starts_with("https://s3.eu-central-1.amazonaws.com/attachments/a/b.png?X-Amz-Algorithm="));
//! # Ok::<(), keepsake_shared::sigv4::SigV4Error>(())
//! ```

mod authorization;
mod canonical_request;
mod credentials;
mod encode;
mod endpoint;
mod error;
mod headers;
mod post_policy;
mod presign;
mod query;
mod request;
mod signature;
mod string_to_sign;
mod timestamp;

pub use authorization::{AuthorizationRequest, SignedRequest, authorization};
pub use canonical_request::{CanonicalRequest, canonical_request};
pub use credentials::{Credentials, SessionTokenUse, Signer};
pub use encode::{normalise_path, percent_encode};
pub use endpoint::{Bucket, Endpoint, MAX_KEY_BYTES, Target};
pub use error::SigV4Error;
pub use headers::{MAX_HEADERS, SortedHeaders};
pub use post_policy::{PostRequest, SignedForm, post_form};
pub use presign::{
    MAX_EXPIRES_SECONDS, PresignParameters, PresignRequest, PresignedRequest, presign,
    presigned_request,
};
pub use query::canonical_query;
pub use request::{Payload, Request};
pub use signature::{SigningKey, SigningKeyCache, signature};
pub use string_to_sign::{ALGORITHM, string_to_sign};
pub use timestamp::Timestamp;
