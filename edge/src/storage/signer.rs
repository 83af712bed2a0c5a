//! Upload and download URLs: of the worker itself for the bucket binding, of the store for S3.

use crate::{app::App, clock, config::StoreSettings, inspection::DeclaredFile, problem::ApiError};
use keepsake_shared::{FileName, MediaType, ObjectKey, ObjectToken, capabilities::PutSubject};
use serde_json::{Map, Value};
use std::time::Duration;
use time::OffsetDateTime;

/// Signs URLs.
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
    /// another, as far as the store has locks for it.
    ///
    /// # Errors
    /// 500 for what the store cannot do; the limits and thresholds keep it from being asked.
    pub(crate) fn upload(
        &self,
        key: ObjectKey,
        file: &DeclaredFile,
        expires_at: OffsetDateTime,
    ) -> Result<SignedUpload, ApiError> {
        let store = &self.0.config.store;
        let headers = store
            .capabilities()
            .put_headers(&PutSubject {
                size: file.size,
                media_type: file.media_type,
                sha256: &file.sha256,
                name: &file.name,
            })
            .map_err(ApiError::internal)?;
        let url = match store {
            StoreSettings::R2 => self.url(&ObjectToken::Upload {
                key,
                size: file.size,
                media_type: file.media_type,
                sha256: file.sha256,
                expires_at,
            }),
            StoreSettings::S3(s3) => {
                let signed: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                s3.presign("PUT", key.as_str(), &[], &signed, seconds_until(expires_at))
                    .map_err(ApiError::internal)?
            }
        };
        Ok(SignedUpload {
            url,
            headers: sent_by_client(headers),
        })
    }

    /// A URL that reads one object, under the name its uploader gave it. It is shown in place only
    /// if that is asked for and its type is safe to show.
    ///
    /// # Errors
    /// 500 for what cannot be signed.
    pub(crate) fn download(
        &self,
        key: ObjectKey,
        file_name: FileName,
        media_type: MediaType,
        size: u64,
        inline: bool,
    ) -> Result<String, ApiError> {
        let inline = inline && media_type.is_inline_safe();
        let expires_at = clock::now() + Duration::from_secs(self.0.config.download_ttl);
        match &self.0.config.store {
            StoreSettings::R2 => Ok(self.url(&ObjectToken::Download {
                key,
                media_type,
                file_name,
                inline,
                size,
                expires_at,
            })),
            StoreSettings::S3(s3) => s3
                .download(&key, &file_name, inline, seconds_until(expires_at))
                .map_err(ApiError::internal),
        }
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

fn seconds_until(time: OffsetDateTime) -> u32 {
    (time - clock::now())
        .whole_seconds()
        .try_into()
        .unwrap_or_default()
}

/// The headers as a client is told them. `Content-Length` it sets itself; browsers let nobody else.
fn sent_by_client(headers: Vec<(&'static str, String)>) -> Value {
    headers
        .into_iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<Map<_, _>>()
        .into()
}
