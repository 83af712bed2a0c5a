//! A presigned URL: the signature and all it needs stand in the query.

use alloc::string::String;
use core::fmt;

use time::OffsetDateTime;

use super::{
    ALGORITHM, CanonicalRequest, Request, SigV4Error, Signer, SigningKey, SigningKeyCache,
    SortedHeaders, Timestamp, canonical_request, encode::push_encoded, query::QueryWriter,
    signature, string_to_sign,
};
use crate::sha256::push_hex;

/// The longest life of a presigned URL, in seconds: seven days, on S3 and on R2.
pub const MAX_EXPIRES_SECONDS: u32 = 604_800;

/// A request to be made by whoever holds the URL.
#[derive(Debug, Clone, Copy)]
pub struct PresignRequest<'a> {
    /// The request. Its headers beside `host` must be sent exactly as they are signed.
    pub request: Request<'a>,
    /// How long the URL may be used, in seconds: 1 to [`MAX_EXPIRES_SECONDS`]. With temporary
    /// credentials it ends with these, if that is earlier.
    pub expires_seconds: u32,
}

/// Signs a request and gives its URL, in exactly the encoding that was signed.
///
/// `now` becomes the start of the URL's life and chooses the day of its key. The key is taken from
/// `keys`, or derived and put there.
///
/// Source: AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
///
/// # Errors
/// A [`SigV4Error`] says what in the request cannot be signed.
pub fn presign(
    request: &PresignRequest<'_>,
    signer: &Signer,
    keys: &mut SigningKeyCache,
    now: OffsetDateTime,
) -> Result<String, SigV4Error> {
    presigned_request(request, signer, keys, now).map(|presigned| presigned.url())
}

/// As [`presign`], with every step to look at: for tests, and to find the step at which another
/// signer differs.
///
/// # Errors
/// As [`presign`].
pub fn presigned_request<'a>(
    request: &PresignRequest<'a>,
    signer: &'a Signer,
    keys: &mut SigningKeyCache,
    now: OffsetDateTime,
) -> Result<PresignedRequest<'a>, SigV4Error> {
    if !(1..=MAX_EXPIRES_SECONDS).contains(&request.expires_seconds) {
        return Err(SigV4Error::Expires);
    }
    let timestamp = Timestamp::new(now)?;
    let key = keys.key(signer, &timestamp);
    let endpoint = request.request.target.endpoint;
    let headers = SortedHeaders::new(endpoint.host(), request.request.headers)?;
    let (signed_token, added_token) = signer.session_tokens();
    let parameters = PresignParameters {
        key,
        timestamp,
        expires_seconds: request.expires_seconds,
        session_token: signed_token,
    };
    let canonical_request = canonical_request(&request.request, &headers, Some(&parameters))?;
    let string_to_sign = string_to_sign(&timestamp, key.scope(), &canonical_request);
    Ok(PresignedRequest {
        scheme: endpoint.scheme(),
        host: endpoint.host(),
        signature: signature(key, &string_to_sign),
        canonical_request,
        string_to_sign,
        added_token,
    })
}

/// The parameters that a presigned URL adds to the query.
#[derive(Debug)]
pub struct PresignParameters<'a> {
    key: &'a SigningKey,
    timestamp: Timestamp,
    expires_seconds: u32,
    session_token: Option<&'a str>,
}

impl PresignParameters<'_> {
    /// Appends them in the order of their names.
    pub(super) fn push(&self, query: &mut QueryWriter<'_>, headers: &SortedHeaders<'_>) {
        query.push("X-Amz-Algorithm", ALGORITHM);
        query.push("X-Amz-Credential", self.key.encoded_credential());
        query.push("X-Amz-Date", self.timestamp.as_str());
        query.push_with("X-Amz-Expires", |out| {
            push_decimal(out, self.expires_seconds)
        });
        if let Some(token) = self.session_token {
            query.push_with("X-Amz-Security-Token", |out| push_encoded(out, token));
        }
        query.push_with("X-Amz-SignedHeaders", |out| headers.push_names(out, "%3B"));
    }

    /// About the bytes they take beside the names of the headers.
    pub(super) fn len_bytes(&self) -> usize {
        const NAMES_AND_FIXED_VALUES: usize = 180;
        NAMES_AND_FIXED_VALUES
            + self.key.encoded_credential().len()
            + self.session_token.map_or(0, |token| token.len() * 3 / 2)
    }
}

/// A signed URL in its parts.
pub struct PresignedRequest<'a> {
    scheme: &'static str,
    host: &'a str,
    added_token: Option<&'a str>,
    canonical_request: CanonicalRequest,
    string_to_sign: String,
    signature: [u8; 32],
}

impl PresignedRequest<'_> {
    /// Step 1.
    #[must_use]
    pub const fn canonical_request(&self) -> &CanonicalRequest {
        &self.canonical_request
    }

    /// Step 2.
    #[must_use]
    pub fn string_to_sign(&self) -> &str {
        &self.string_to_sign
    }

    /// Step 3.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 32] {
        &self.signature
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> String {
        const SIGNATURE_PARAMETER: usize = "&X-Amz-Signature=".len() + 64;
        let (path, query) = (
            self.canonical_request.path(),
            self.canonical_request.query(),
        );
        let token_bytes = self.added_token.map_or(0, |token| token.len() * 3 / 2 + 24);
        let mut url = String::with_capacity(
            self.scheme.len()
                + self.host.len()
                + path.len()
                + query.len()
                + token_bytes
                + SIGNATURE_PARAMETER
                + 1,
        );
        url.push_str(self.scheme);
        url.push_str(self.host);
        url.push_str(path);
        url.push('?');
        url.push_str(query);
        if let Some(token) = self.added_token {
            url.push_str("&X-Amz-Security-Token=");
            push_encoded(&mut url, token);
        }
        url.push_str("&X-Amz-Signature=");
        push_hex(&mut url, &self.signature);
        url
    }
}

/// A signed URL is a secret while it lives.
impl fmt::Debug for PresignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresignedRequest")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

fn push_decimal(out: &mut String, number: u32) {
    use core::fmt::Write;
    // Writing to a `String` cannot fail.
    let _ = write!(out, "{number}");
}
