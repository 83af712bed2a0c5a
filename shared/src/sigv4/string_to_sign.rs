//! Step 2: the string to sign, which binds the canonical request to a time, region and service.

use alloc::string::String;

use super::{CanonicalRequest, Timestamp};
use crate::{Sha256Digest, sha256::push_hex};

/// The algorithm's name.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Writes the algorithm, the time, the scope (`20260901/auto/s3/aws4_request`) and the hash of the
/// canonical request, a line each.
///
/// Source: AWS, "Create a signed AWS API request", steps 2 and 3.
#[must_use]
pub fn string_to_sign(timestamp: &Timestamp, scope: &str, canonical: &CanonicalRequest) -> String {
    const HASH_DIGITS: usize = 64;
    let mut text = String::with_capacity(ALGORITHM.len() + 16 + scope.len() + HASH_DIGITS + 3);
    text.push_str(ALGORITHM);
    text.push('\n');
    text.push_str(timestamp.as_str());
    text.push('\n');
    text.push_str(scope);
    text.push('\n');
    push_hex(
        &mut text,
        Sha256Digest::of(canonical.as_str().as_bytes()).as_bytes(),
    );
    text
}
