//! Upload and download URLs that the worker serves itself.

use crate::{app::App, clock};
use axum::http::header;
use keepsake_shared::{FileName, MediaType, ObjectKey, ObjectToken, Sha256Digest};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Signs URLs of `/v1/objects/{token}`.
#[derive(Debug)]
pub(crate) struct Signer<'a>(pub(crate) &'a App);

/// A PUT that a client may make once, with exactly these headers.
#[derive(Debug)]
pub(crate) struct SignedUpload {
    /// Where to.
    pub(crate) url: String,
    /// Every header it must carry, as a JSON object. `Content-Length`, which clients set
    /// themselves, is fixed too.
    pub(crate) headers: Value,
}

impl Signer<'_> {
    /// When an upload URL made now stops working.
    pub(crate) fn upload_expiry(&self) -> OffsetDateTime {
        clock::now() + Duration::from_secs(self.0.config.upload_ttl)
    }

    /// A URL that stores one object: exactly this long, of this type and content, and never over
    /// another.
    pub(crate) fn upload(
        &self,
        key: ObjectKey,
        size: u64,
        media_type: MediaType,
        sha256: Sha256Digest,
        expires_at: OffsetDateTime,
    ) -> SignedUpload {
        SignedUpload {
            headers: json!({
                header::CONTENT_TYPE.as_str(): media_type.as_str(),
                header::IF_NONE_MATCH.as_str(): "*",
                super::CHECKSUM_HEADER.as_str(): sha256.to_base64(),
            }),
            url: self.url(&ObjectToken::Upload {
                key,
                size,
                media_type,
                sha256,
                expires_at,
            }),
        }
    }

    /// A URL that reads one object, under the name its uploader gave it. It is shown in place only
    /// if that is asked for and its type is safe to show.
    pub(crate) fn download(
        &self,
        key: ObjectKey,
        file_name: FileName,
        media_type: MediaType,
        size: u64,
        inline: bool,
    ) -> String {
        self.url(&ObjectToken::Download {
            key,
            media_type,
            file_name,
            inline: inline && media_type.is_inline_safe(),
            size,
            expires_at: clock::now() + Duration::from_secs(self.0.config.download_ttl),
        })
    }

    fn url(&self, token: &ObjectToken) -> String {
        let origin = self
            .0
            .config
            .objects_origin
            .as_deref()
            .unwrap_or(&self.0.origin);
        format!(
            "{origin}/v1/objects/{}",
            token.sign(&self.0.config.url_keys)
        )
    }
}
