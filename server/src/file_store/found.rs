//! What a file tells of itself.

use super::folder::kept_digest;
use keepsake_service::{runtime::Content, storage::Download};
use keepsake_shared::Sha256Digest;
use std::{fs::File, io, time::SystemTime};
use time::{OffsetDateTime, macros::format_description};

/// What a file tells of itself.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its size in bytes.
    pub(super) size: u64,
    /// The SHA-256 that was kept with it.
    pub(super) sha256: Option<Sha256Digest>,
    stored: SystemTime,
}

impl Found {
    /// Asks a file.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            size: metadata.len(),
            sha256: kept_digest(file).map(Sha256Digest::from_bytes),
            stored: metadata.modified()?,
        })
    }

    /// An object never changes under its key, so that what it is may as well be told by when it was stored.
    fn etag(&self) -> String {
        match &self.sha256 {
            Some(digest) => format!("\"{}\"", &digest.to_hex()[..32]),
            None => {
                let stored = self.stored.duration_since(SystemTime::UNIX_EPOCH);
                let stored = stored.map_or(0, |stored| stored.as_nanos());
                format!("\"{:x}-{stored:x}\"", self.size)
            }
        }
    }

    /// As RFC 9110 §5.6.7 wants it.
    fn modified(&self) -> String {
        let form = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let stored = OffsetDateTime::from(self.stored);
        stored.format(form).unwrap_or_default()
    }

    /// As a download, with its bytes or without.
    pub(super) fn download(self, content: Option<Content>) -> Download {
        Download {
            size: self.size,
            etag: self.etag(),
            modified: self.modified(),
            content,
        }
    }
}
