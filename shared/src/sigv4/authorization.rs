//! A signed request: the signature stands in the `Authorization` header.

use alloc::{format, string::String};
use core::fmt;

use time::OffsetDateTime;

use super::{
    ALGORITHM, CanonicalRequest, Request, SigV4Error, Signer, SigningKeyCache, SortedHeaders,
    Timestamp, canonical_request, signature, string_to_sign,
};
use crate::sha256::push_hex;

const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// A request that the signer itself will send.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    /// The request.
    pub request: Request<'a>,
    /// Whether the payload's hash is sent and signed as `x-amz-content-sha256`. S3 wants it; other
    /// services do without.
    pub send_content_sha256: bool,
}

/// The headers that a request must carry beside its own, and the steps to them.
#[derive(Clone)]
pub struct SignedRequest {
    /// The value of `authorization`.
    pub authorization: String,
    /// The value of `x-amz-date`.
    pub x_amz_date: String,
    /// The value of `x-amz-content-sha256`, if it is to be sent.
    pub x_amz_content_sha256: Option<String>,
    /// The value of `x-amz-security-token`, for temporary credentials.
    pub x_amz_security_token: Option<String>,
    /// Step 1.
    pub canonical_request: CanonicalRequest,
    /// Step 2.
    pub string_to_sign: String,
    /// Step 3.
    pub signature: [u8; 32],
}

impl SignedRequest {
    /// The headers to send beside the request's own.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("authorization", Some(&self.authorization)),
            ("x-amz-date", Some(&self.x_amz_date)),
            (CONTENT_SHA256, self.x_amz_content_sha256.as_ref()),
            ("x-amz-security-token", self.x_amz_security_token.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value.as_str())))
    }
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("x_amz_date", &self.x_amz_date)
            .finish_non_exhaustive()
    }
}

/// Signs a request and gives the headers to send with it.
///
/// Source: AWS, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".
///
/// # Errors
/// A [`SigV4Error`] says what in the request cannot be signed.
pub fn authorization(
    request: &AuthorizationRequest<'_>,
    signer: &Signer,
    keys: &mut SigningKeyCache,
    now: OffsetDateTime,
) -> Result<SignedRequest, SigV4Error> {
    let timestamp = Timestamp::new(now)?;
    let key = keys.key(signer, &timestamp);
    let payload = request.request.payload.write(|text| String::from(text));
    let content_sha256 = request.send_content_sha256.then_some(payload);
    let (signed_token, added_token) = signer.session_tokens();

    let host = request.request.target.endpoint.host();
    let mut headers = SortedHeaders::new(host, request.request.headers)?;
    headers.insert("x-amz-date", timestamp.as_str())?;
    if let Some(token) = signed_token {
        headers.insert("x-amz-security-token", token)?;
    }
    if let Some(digest) = &content_sha256 {
        if headers.has(CONTENT_SHA256) {
            return Err(SigV4Error::ReservedHeader);
        }
        headers.insert(CONTENT_SHA256, digest)?;
    }

    let canonical_request = canonical_request(&request.request, &headers, None)?;
    let string_to_sign = string_to_sign(&timestamp, key.scope(), &canonical_request);
    let signature = signature(key, &string_to_sign);
    let mut authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders=",
        signer.credentials().access_key_id(),
        key.scope()
    );
    headers.push_names(&mut authorization, ";");
    authorization.push_str(", Signature=");
    push_hex(&mut authorization, &signature);
    Ok(SignedRequest {
        authorization,
        x_amz_date: timestamp.as_str().into(),
        x_amz_content_sha256: content_sha256,
        x_amz_security_token: signed_token.or(added_token).map(String::from),
        canonical_request,
        string_to_sign,
        signature,
    })
}
