//! A signed POST policy: what an HTML form may upload, without a script.
//!
//! Source: AWS, "Creating a POST Policy" and "Authenticating Requests in Browser-Based Uploads Using
//! POST (AWS Signature Version 4)".

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    ALGORITHM, Bucket, MAX_EXPIRES_SECONDS, SigV4Error, Signer, SigningKeyCache, Timestamp,
    signature,
};
use crate::sha256::push_hex;

/// An upload that a form is to be allowed.
#[derive(Debug, Clone, Copy)]
pub struct PostRequest<'a> {
    /// Where the form is sent.
    pub bucket: &'a Bucket,
    /// The one key it may store.
    pub key: &'a str,
    /// Further fields, each with the one value it may have.
    pub fields: &'a [(&'static str, &'a str)],
    /// The exact length of the file in bytes.
    pub content_length: u64,
    /// How long the form may be sent, in seconds: 1 to [`MAX_EXPIRES_SECONDS`].
    pub expires_seconds: u32,
}

/// A form: its address and its hidden fields. The file comes last, in a field named `file`.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedForm {
    /// Its `action`; its `enctype` is `multipart/form-data`.
    pub url: String,
    /// Name and value of each hidden field.
    pub fields: Vec<(&'static str, String)>,
}

/// A signed form is a secret while it lives.
impl fmt::Debug for SignedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedForm")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Signs a form. Its policy takes every field at its one value, the file at its exact length, and no
/// field beside.
///
/// # Errors
/// A [`SigV4Error`] says what in the request cannot be signed.
pub fn post_form(
    request: &PostRequest<'_>,
    signer: &Signer,
    keys: &mut SigningKeyCache,
    now: OffsetDateTime,
) -> Result<SignedForm, SigV4Error> {
    if !(1..=MAX_EXPIRES_SECONDS).contains(&request.expires_seconds) {
        return Err(SigV4Error::Expires);
    }
    // Checks the key.
    request.bucket.object(request.key)?;
    let timestamp = Timestamp::new(now)?;
    let key = keys.key(signer, &timestamp);
    let credential = format!("{}/{}", signer.credentials().access_key_id(), key.scope());
    let mut fields: Vec<(&'static str, String)> = Vec::from([("key", request.key.into())]);
    for (name, value) in request.fields {
        fields.push((name, (*value).into()));
    }
    fields.push(("x-amz-algorithm", ALGORITHM.into()));
    fields.push(("x-amz-credential", credential));
    fields.push(("x-amz-date", timestamp.as_str().into()));
    if let (Some(token), _) = signer.session_tokens() {
        fields.push(("x-amz-security-token", token.into()));
    }
    let ends = now + time::Duration::seconds(request.expires_seconds.into());
    let policy = policy(request, &fields, ends)?;
    let mut digits = String::with_capacity(64);
    push_hex(&mut digits, &signature(key, &policy));
    fields.push(("policy", policy));
    fields.push(("x-amz-signature", digits));
    let endpoint = request.bucket.endpoint();
    Ok(SignedForm {
        url: format!(
            "{}{}{}",
            endpoint.scheme(),
            endpoint.host(),
            request.bucket.path()
        ),
        fields,
    })
}

/// The policy, in base64: what is signed.
fn policy(
    request: &PostRequest<'_>,
    fields: &[(&'static str, String)],
    ends: OffsetDateTime,
) -> Result<String, SigV4Error> {
    let mut conditions: Vec<Value> = fields
        .iter()
        .map(|(name, value)| json!(["eq", format!("${name}"), value]))
        .collect();
    conditions.push(json!({ "bucket": request.bucket.name() }));
    let length = request.content_length;
    conditions.push(json!(["content-length-range", length, length]));
    let expiration = ends.format(&Rfc3339).map_err(|_| SigV4Error::Time)?;
    let policy = json!({ "expiration": expiration, "conditions": conditions });
    Ok(STANDARD.encode(format!("{policy}")))
}
