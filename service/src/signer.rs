//! Upload and download URLs: the worker's own for the bucket binding, the store's for S3.
//!
//! May call `clock`, `model` and `config`. Errors are [`SigningError`].

use crate::{
    clock,
    config::{Config, StoreSettings},
    model::DeclaredFile,
    storage::put_subject,
};
use keepsake_shared::{FileName, MediaType, ObjectKey, ObjectToken, content_disposition};
use serde_json::{Map, Value, json};
use std::{fmt, time::Duration};
use time::OffsetDateTime;

/// Signs URLs.
#[derive(Debug)]
pub(crate) struct Signer<'a> {
    /// The store, the keys and the lifetimes.
    pub(crate) config: &'a Config,
    /// The origin of the worker's own URLs, unless the settings name another.
    pub(crate) origin: &'a str,
}

/// Why nothing was signed. The limits and thresholds keep every such request away, so that this is a defect of ours; the
/// text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign: {0}")]
pub(crate) struct SigningError(String);

impl SigningError {
    fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

/// A PUT that a client may make once, with exactly these headers.
#[derive(Debug)]
pub(crate) struct SignedUpload {
    /// Where to.
    pub(crate) url: String,
    /// Every header it must carry, as a JSON object. `Content-Length`, which clients set
    /// themselves, is fixed too.
    pub(crate) headers: Value,
}

/// A part that is to be signed.
#[derive(Debug)]
pub(crate) struct PartSubject<'a> {
    /// Where the object goes.
    pub(crate) key: &'a ObjectKey,
    /// What the store calls the upload.
    pub(crate) storage_id: &'a str,
    /// The part's number.
    pub(crate) number: u16,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Its checksum in base64, of the kind that the store verifies.
    pub(crate) checksum: Option<&'a str>,
}

impl Signer<'_> {
    /// When an upload URL made now stops working.
    pub(crate) fn upload_expiry(&self) -> OffsetDateTime {
        clock::now() + Duration::from_secs(self.config.upload_url_ttl)
    }

    /// A URL that stores one object: exactly this long, of this type and content, and never over
    /// another, as far as the store has locks for it.
    ///
    /// # Errors
    /// What the store cannot do.
    pub(crate) fn upload(
        &self,
        key: ObjectKey,
        file: &DeclaredFile,
        expires_at: OffsetDateTime,
    ) -> Result<SignedUpload, SigningError> {
        let store = &self.config.store;
        let headers = store
            .capabilities()
            .put_headers(&put_subject(file))
            .map_err(SigningError::new)?;
        let url = match store {
            StoreSettings::R2 | StoreSettings::File(_) => self.url(&ObjectToken::Upload {
                key,
                size: file.size,
                media_type: file.media_type,
                sha256: file.sha256,
                expires_at,
            }),
            StoreSettings::S3(s3) => {
                let signed = borrowed(&headers);
                s3.presign("PUT", key.as_str(), &[], &signed, seconds_until(expires_at))
                    .map_err(SigningError::new)?
            }
        };
        Ok(SignedUpload {
            url,
            headers: sent_by_client(headers),
        })
    }

    /// A form that does the same as the URL of [`upload`](Self::upload), for pages without a script;
    /// `None` where the store takes none.
    ///
    /// # Errors
    /// What cannot be signed.
    pub(crate) fn form(
        &self,
        file: &DeclaredFile,
        expires_at: OffsetDateTime,
    ) -> Result<Option<Value>, SigningError> {
        let StoreSettings::S3(s3) = &self.config.store else {
            return Ok(None);
        };
        let Ok(fields) = s3.kind.capabilities().form_fields(&put_subject(file)) else {
            return Ok(None);
        };
        let fields = borrowed(&fields);
        let form = s3
            .form(
                &file.object_key,
                &fields,
                file.size,
                seconds_until(expires_at),
            )
            .map_err(SigningError::new)?;
        Ok(Some(
            json!({ "method": "POST", "url": form.url, "fields": object(form.fields) }),
        ))
    }

    /// A URL that stores one part: exactly this long, and of this checksum if the store verifies one.
    ///
    /// # Errors
    /// What cannot be signed.
    pub(crate) fn part(
        &self,
        part: &PartSubject<'_>,
        expires_at: OffsetDateTime,
    ) -> Result<SignedUpload, SigningError> {
        let store = &self.config.store;
        let mut headers = vec![("content-length", part.size.to_string())];
        let kind = store.capabilities().parts.checksum;
        if let (Some(kind), Some(checksum)) = (kind, part.checksum) {
            headers.push((kind.header(), checksum.to_owned()));
        }
        let url = match store {
            StoreSettings::R2 | StoreSettings::File(_) => self.url(&ObjectToken::Part {
                key: part.key.clone(),
                storage_id: part.storage_id.to_owned(),
                number: part.number,
                size: part.size,
                sha256: part
                    .checksum
                    .unwrap_or_default()
                    .parse()
                    .map_err(SigningError::new)?,
                expires_at,
            }),
            StoreSettings::S3(s3) => {
                let signed = borrowed(&headers);
                let number = part.number.to_string();
                let query = [
                    ("partNumber", number.as_str()),
                    ("uploadId", part.storage_id),
                ];
                s3.presign(
                    "PUT",
                    part.key.as_str(),
                    &query,
                    &signed,
                    seconds_until(expires_at),
                )
                .map_err(SigningError::new)?
            }
        };
        Ok(SignedUpload {
            url,
            headers: sent_by_client(headers),
        })
    }

    /// A URL that reads one object with `method`, GET or HEAD, under the name its uploader gave it. It is shown in place
    /// only if that is asked for and its type is safe to show.
    ///
    /// # Errors
    /// What cannot be signed.
    pub(crate) fn download(
        &self,
        method: &str,
        key: ObjectKey,
        file_name: FileName,
        media_type: MediaType,
        size: u64,
        inline: bool,
    ) -> Result<String, SigningError> {
        let inline = inline && media_type.is_inline_safe();
        let config = &self.config;
        let window = Window::of(clock::now(), config.download_window, config.download_ttl);
        match &self.config.store {
            StoreSettings::R2 | StoreSettings::File(_) => Ok(self.url(&ObjectToken::Download {
                key,
                media_type,
                file_name,
                inline,
                size,
                expires_at: window.ends_at,
            })),
            StoreSettings::S3(s3) => s3
                .download(
                    method,
                    &key,
                    &content_disposition(&file_name, inline),
                    window.begun_at,
                    window.seconds(),
                )
                .map_err(SigningError::new),
        }
    }

    fn url(&self, token: &ObjectToken) -> String {
        let origin = self.config.objects_origin.as_deref();
        let origin = origin.unwrap_or(self.origin);
        format!("{origin}/v1/objects/{}", token.sign(&self.config.url_keys))
    }
}

/// The time in which all downloads of one file have one URL, so that a browser or a cache that
/// follows the redirect finds the bytes again. Every such URL works for the full time that one of
/// its own would, and for the rest of the window besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    begun_at: OffsetDateTime,
    ends_at: OffsetDateTime,
}

impl Window {
    /// Windows of `length` seconds, 0 for none, and URLs that work for at least `lifetime` seconds.
    fn of(now: OffsetDateTime, length: u64, lifetime: u64) -> Self {
        let into = now
            .unix_timestamp()
            .unsigned_abs()
            .checked_rem(length)
            .unwrap_or_default();
        let begun_at = now - Duration::from_secs(into);
        Self {
            begun_at,
            ends_at: begun_at + Duration::from_secs(length + lifetime),
        }
    }

    fn seconds(self) -> u32 {
        let length = self.ends_at - self.begun_at;
        length.whole_seconds().try_into().unwrap_or_default()
    }
}

fn seconds_until(time: OffsetDateTime) -> u32 {
    (time - clock::now())
        .whole_seconds()
        .try_into()
        .unwrap_or_default()
}

fn borrowed<'a>(pairs: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    pairs
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

fn object(pairs: Vec<(&'static str, String)>) -> Value {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<Map<_, _>>()
        .into()
}

/// The headers as a client is told them. `Content-Length` it sets itself; browsers let nobody else.
fn sent_by_client(mut headers: Vec<(&'static str, String)>) -> Value {
    headers.retain(|(name, _)| *name != "content-length");
    object(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(second: i64, length: u64) -> (i64, i64, u32) {
        let now = OffsetDateTime::from_unix_timestamp(second).unwrap();
        let window = Window::of(now, length, 300);
        (
            window.begun_at.unix_timestamp(),
            window.ends_at.unix_timestamp(),
            window.seconds(),
        )
    }

    #[test]
    fn a_url_is_the_same_for_a_window_and_works_its_full_time_to_the_last_second() {
        for second in [1200, 1201, 1799] {
            assert_eq!(window(second, 600), (1200, 2100, 900), "{second}");
        }
        assert_eq!(window(1800, 600), (1800, 2700, 900));
        assert_eq!(window(1799, 0), (1799, 2099, 300), "no window");
    }
}
