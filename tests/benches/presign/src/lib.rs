//! Signing as the worker does it, to be measured beside aws4fetch in the same runtime.

use keepsake_shared::sigv4::{
    Bucket, Credentials, Endpoint, Payload, PresignRequest, Request, Signer, SigningKeyCache,
    presign,
};
use std::hint::black_box;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use wasm_bindgen::prelude::*;

/// Signs a PUT so many times, with its signing key kept, and answers with the last URL; nothing for none.
///
/// # Errors
/// What cannot be signed. `now` is RFC 3339; `headers` are names and values in turn, sorted by name.
#[wasm_bindgen]
#[expect(clippy::needless_pass_by_value, reason = "what JavaScript hands over")]
pub fn presign_many(
    count: u32,
    endpoint: &str,
    bucket: &str,
    key: &str,
    headers: Vec<String>,
    credentials: Vec<String>,
    now: &str,
) -> Result<String, JsError> {
    let [id, secret] = credentials.as_slice() else {
        return Err(JsError::new("an id and a secret"));
    };
    let now = OffsetDateTime::parse(now, &Rfc3339)?;
    let signer = Signer::s3(Credentials::new(id, secret, None)?, "auto")?;
    let bucket = Bucket::path_style(Endpoint::parse(endpoint)?, bucket)?;
    let headers: Vec<(&str, &str)> = headers
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[name, value]| (name.as_str(), value.as_str()))
        .collect();
    let mut kept = SigningKeyCache::default();
    let mut url = String::new();
    for _ in 0..count {
        let request = PresignRequest {
            request: Request {
                method: "PUT",
                target: bucket.object(black_box(key))?,
                query: &[],
                headers: &headers,
                payload: Payload::Unsigned,
            },
            expires_seconds: 900,
        };
        url = black_box(presign(&request, &signer, &mut kept, now)?);
    }
    Ok(url)
}
