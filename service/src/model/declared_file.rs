use super::Multipart;
use keepsake_shared::{AttachmentId, FileName, MediaType, ObjectKey, Sha256Digest};
use serde::Deserialize;

/// One file of an upload set, as the database stores it.
#[derive(Debug, Clone, Deserialize)]
pub struct DeclaredFile {
    /// The attachment it becomes.
    pub attachment_id: AttachmentId,
    /// The name its uploader gave it.
    pub name: FileName,
    /// The media type of its extension.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// The key its bytes are stored under.
    pub object_key: ObjectKey,
    /// Its state.
    pub state: Option<String>,
    /// Its multipart upload, once it has begun.
    #[serde(default)]
    pub multipart: Option<Multipart>,
}
