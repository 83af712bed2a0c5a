use crate::clock;
use keepsake_shared::{
    ObjectKey,
    capabilities::StoreKind,
    sigv4::{
        Bucket, Payload, PostRequest, PresignRequest, Request, SigV4Error, SignedForm, Signer,
        SigningKeyCache, post_form, presign,
    },
};
use std::sync::{Arc, Mutex, PoisonError};
use time::OffsetDateTime;

/// Where the store is, and who signs.
#[derive(Debug)]
pub struct S3Settings {
    /// What kind of store it is.
    pub(crate) kind: StoreKind,
    /// The bucket at its endpoint.
    pub(crate) bucket: Bucket,
    pub(super) signer: Signer,
    /// Signing keys of the last days, for all requests of this isolate.
    pub(super) keys: Mutex<SigningKeyCache>,
}

impl S3Settings {
    /// Settings that have been checked.
    pub(crate) fn new(kind: StoreKind, bucket: Bucket, signer: Signer) -> Self {
        Self {
            kind,
            bucket,
            signer,
            keys: Mutex::default(),
        }
    }

    /// A URL with which whoever has it may make one request, for so many seconds from now.
    ///
    /// # Errors
    /// What cannot be signed.
    pub(crate) fn presign(
        &self,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        expires_seconds: u32,
    ) -> Result<String, SigV4Error> {
        self.presign_at(clock::now(), method, key, query, headers, expires_seconds)
    }

    fn presign_at(
        &self,
        signed_at: OffsetDateTime,
        method: &str,
        key: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        expires_seconds: u32,
    ) -> Result<String, SigV4Error> {
        let request = PresignRequest {
            request: Request {
                method,
                target: self.bucket.object(key)?,
                query,
                headers,
                payload: Payload::Unsigned,
            },
            expires_seconds,
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        presign(&request, &self.signer, &mut keys, signed_at)
    }

    /// A form that uploads one object for so many seconds.
    ///
    /// # Errors
    /// What cannot be signed.
    pub(crate) fn form(
        &self,
        key: &ObjectKey,
        fields: &[(&'static str, &str)],
        content_length: u64,
        expires_seconds: u32,
    ) -> Result<SignedForm, SigV4Error> {
        let request = PostRequest {
            bucket: &self.bucket,
            key: key.as_str(),
            fields,
            content_length,
            expires_seconds,
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        post_form(&request, &self.signer, &mut keys, clock::now())
    }

    /// A URL that reads one object with `method`, GET or HEAD, for so many seconds from `signed_at`. Where the store lets the
    /// URL say so, the answer has this `Content-Disposition`, and nobody in between may compress it; elsewhere the first was
    /// fixed when it was stored.
    ///
    /// # Errors
    /// What cannot be signed.
    pub(crate) fn download(
        &self,
        method: &str,
        key: &ObjectKey,
        disposition: &str,
        signed_at: OffsetDateTime,
        expires_seconds: u32,
    ) -> Result<String, SigV4Error> {
        let query = [
            ("response-cache-control", "private, no-transform"),
            ("response-content-disposition", disposition),
        ];
        let query = if self.kind.capabilities().disposition_override {
            &query[..]
        } else {
            &[]
        };
        self.presign_at(signed_at, method, key.as_str(), query, &[], expires_seconds)
    }
}

/// The store of the settings.
#[derive(Debug)]
pub struct S3(pub(crate) Arc<S3Settings>);
