use super::Multipart;
use keepsake_shared::{AttachmentId, FileName, MediaType, ObjectKey, Sha256Digest};
use serde::Deserialize;

/// One file of an upload set, as the database stores it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DeclaredFile {
    /// The attachment it becomes.
    pub(crate) attachment_id: AttachmentId,
    /// The name its uploader gave it.
    pub(crate) name: FileName,
    /// The media type of its extension.
    pub(crate) media_type: MediaType,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its digest.
    pub(crate) sha256: Sha256Digest,
    /// The key its bytes are stored under.
    pub(crate) object_key: ObjectKey,
    /// Its state.
    pub(crate) state: Option<String>,
    /// Its multipart upload, once it has begun.
    #[serde(default)]
    pub(crate) multipart: Option<Multipart>,
}
