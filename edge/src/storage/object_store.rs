//! What the worker asks of any object store.

use crate::model::{DeclaredFile, Multipart, StoredPart};
use keepsake_shared::{ObjectKey, Sha256Digest};

/// Most keys of one [`Storage::delete_many`], R2's and S3's own bound.
pub(crate) const MAX_DELETE: u32 = 1000;

/// Most keys of one [`Storage::list`], R2's and S3's own bound.
pub(crate) const MAX_LIST: u32 = 1000;

/// The operations of every store.
pub(crate) trait Storage {
    /// Inspects a stored object: its size, its checksum, and its first `head` bytes. `None` when it does not
    /// exist.
    async fn observe(
        &self,
        key: &ObjectKey,
        head: usize,
    ) -> Result<Option<StoredObject>, StorageError>;

    /// Reads a part of an object: `length` bytes from `offset`, fewer at its end, none past it.
    async fn read(
        &self,
        key: &ObjectKey,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError>;

    /// The SHA-256 of an object of so many bytes, from those: they are read once, and none is kept.
    /// `None` when it is not there. For an object of which [`observe`](Self::observe) could not
    /// tell it.
    async fn digest(
        &self,
        key: &ObjectKey,
        size: u64,
    ) -> Result<Option<Sha256Digest>, StorageError>;

    /// Deletes objects, at most [`MAX_DELETE`]. One that is not there counts as deleted.
    async fn delete_many(&self, keys: &[String]) -> Result<(), StorageError>;

    /// Lists at most `limit` keys, of at most [`MAX_LIST`], that begin with `prefix` and come behind
    /// `after`, in the order of their bytes.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Listing, StorageError>;

    /// Begins a multipart upload, and returns the store's id of it.
    async fn begin_multipart(&self, file: &DeclaredFile) -> Result<String, StorageError>;

    /// The stored parts, in order; `None` when the upload no longer exists.
    async fn list_parts(
        &self,
        key: &ObjectKey,
        multipart: &Multipart,
    ) -> Result<Option<Vec<StoredPart>>, StorageError>;

    /// Completes a multipart upload. One that was completed or aborted before stays as it is: the object
    /// tells which.
    async fn complete_multipart(
        &self,
        key: &ObjectKey,
        storage_id: &str,
        parts: &[StoredPart],
    ) -> Result<(), StorageError>;

    /// Aborts a multipart upload. One that does not exist counts as aborted.
    async fn abort_multipart(&self, key: &ObjectKey, storage_id: &str) -> Result<(), StorageError>;
}

/// Some keys of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The keys.
    pub(crate) keys: Vec<String>,
    /// Whether there are more behind them.
    pub(crate) more: bool,
}

/// An object as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredObject {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The SHA-256 of the whole of it that the store checked when it took it in.
    pub(crate) sha256: Option<Sha256Digest>,
    /// As many of its first bytes as were asked for; none of an encoded one.
    pub(crate) first_bytes: Vec<u8>,
    /// Whether it is sent with a `Content-Encoding`.
    pub(crate) encoded: bool,
}

/// The store did not do it. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StorageError(pub(crate) String);
