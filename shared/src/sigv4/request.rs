//! The request to be signed.

use core::fmt;

use super::Target;
use crate::{Sha256Digest, sha256::hex_digits};

/// A request as far as it is signed.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// Where it goes.
    pub target: Target<'a>,
    /// Query parameters, not yet encoded, in any order. The parameters of the signature itself are
    /// not given here.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers to sign beside `host`, in any order and either case. Whoever sends the request must
    /// send exactly these.
    pub headers: &'a [(&'a str, &'a str)],
    /// What is signed of the body.
    pub payload: Payload,
}

/// Shows names but no values, for some are secrets.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

/// What is signed of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: `UNSIGNED-PAYLOAD`, as in presigned URLs for S3. What the body must be is then said
    /// by signed headers such as `content-length` and `x-amz-checksum-sha256`.
    Unsigned,
    /// Its SHA-256.
    Sha256(Sha256Digest),
}

impl Payload {
    /// The payload hash as it stands in the canonical request.
    pub(super) fn write<R>(self, write: impl FnOnce(&str) -> R) -> R {
        match self {
            Self::Unsigned => write("UNSIGNED-PAYLOAD"),
            Self::Sha256(digest) => {
                let digits = hex_digits(digest.as_bytes());
                write(core::str::from_utf8(&digits).unwrap_or_default())
            }
        }
    }
}
