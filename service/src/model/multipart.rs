use serde::Deserialize;

/// A multipart upload, as the database records it.
#[derive(Debug, Clone, Deserialize)]
pub struct Multipart {
    /// The store's id of the upload.
    pub storage_id: String,
    /// Bytes of every part but the last.
    pub part_size: u64,
    /// The parts that the worker stored itself.
    pub parts: Vec<StoredPart>,
}

/// A part that the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredPart {
    /// Its number, from 1.
    pub number: u16,
    /// The store's entity tag of its content.
    pub etag: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its checksum, in base64, if the store reports one; completing the upload repeats it.
    #[serde(default)]
    pub checksum: Option<String>,
}
