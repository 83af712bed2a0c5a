//! What the service asks of any object store, and of one that it serves itself.

use crate::{
    model::{DeclaredFile, Multipart, StoredPart},
    runtime::{Content, Task},
};
use axum::body::Bytes;
use keepsake_shared::{MediaType, ObjectKey, Sha256Digest, capabilities::PutSubject};
use std::{fmt::Debug, ops::Range, time::Duration};

/// Most keys of one [`Storage::delete_many`], R2's and S3's own bound.
pub const MAX_DELETE: u32 = 1000;

/// Most keys of one [`Storage::list`], R2's and S3's own bound.
pub const MAX_LIST: u32 = 1000;

/// The operations of every store.
pub trait Storage {
    /// Stores a file that is in memory, if nothing is stored under its key yet and its bytes are those that were declared.
    fn store<'a>(
        &'a self,
        file: &'a DeclaredFile,
        bytes: &'a Bytes,
    ) -> Task<'a, Result<(), PutError>>;

    /// Inspects a stored object: its size, its checksum, and its first `head` bytes. `None` when it does not
    /// exist.
    fn observe<'a>(
        &'a self,
        key: &'a ObjectKey,
        head: usize,
    ) -> Task<'a, Result<Option<StoredObject>, StorageError>>;

    /// Reads a part of an object: `length` bytes from `offset`, fewer at its end, none past it.
    fn read<'a>(
        &'a self,
        key: &'a ObjectKey,
        offset: u64,
        length: usize,
    ) -> Task<'a, Result<Vec<u8>, StorageError>>;

    /// The SHA-256 of an object of so many bytes, from those: they are read once, and none is kept.
    /// `None` when it is not there. For an object of which [`observe`](Self::observe) could not
    /// tell it.
    fn digest<'a>(
        &'a self,
        key: &'a ObjectKey,
        size: u64,
    ) -> Task<'a, Result<Option<Sha256Digest>, StorageError>>;

    /// Deletes objects, at most [`MAX_DELETE`], and tells those that could not be deleted, where the store tells them apart.
    /// One that is not there counts as deleted.
    fn delete_many<'a>(
        &'a self,
        keys: &'a [String],
    ) -> Task<'a, Result<Vec<Undeleted>, StorageError>>;

    /// Lists at most `limit` keys, of at most [`MAX_LIST`], that begin with `prefix` and come behind
    /// `after`, in the order of their bytes.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    ) -> Task<'a, Result<Listing, StorageError>>;

    /// Begins a multipart upload, and returns the store's id of it.
    fn begin_multipart<'a>(
        &'a self,
        file: &'a DeclaredFile,
    ) -> Task<'a, Result<String, StorageError>>;

    /// The stored parts, in order; `None` when the upload no longer exists.
    fn list_parts<'a>(
        &'a self,
        key: &'a ObjectKey,
        multipart: &'a Multipart,
    ) -> Task<'a, Result<Option<Vec<StoredPart>>, StorageError>>;

    /// Completes a multipart upload. One that was completed or aborted before stays as it is: the object
    /// tells which.
    fn complete_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
        parts: &'a [StoredPart],
    ) -> Task<'a, Result<(), StorageError>>;

    /// Aborts a multipart upload. One that does not exist counts as aborted.
    fn abort_multipart<'a>(
        &'a self,
        key: &'a ObjectKey,
        storage_id: &'a str,
    ) -> Task<'a, Result<(), StorageError>>;
}

/// Some keys of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The keys.
    pub keys: Vec<String>,
    /// Whether there are more behind them.
    pub more: bool,
}

/// An object as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of the whole of it that the store checked when it took it in.
    pub sha256: Option<Sha256Digest>,
    /// As many of its first bytes as were asked for; none of an encoded one.
    pub first_bytes: Vec<u8>,
    /// Whether it is sent with a `Content-Encoding`.
    pub encoded: bool,
}

/// An object that was not deleted, unlike others of the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeleted {
    /// Its key.
    pub key: String,
    /// Why.
    pub error: StorageError,
}

/// The store did not do it. The text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub String);

/// A store whose objects the service serves itself, under URLs of its own.
pub trait Bucket: Storage + Debug + Send + Sync {
    /// Stores a content of known length, if nothing is stored under its key yet and its bytes have this length and SHA-256.
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        content: Content,
        size: u64,
        media_type: MediaType,
        sha256: &'a Sha256Digest,
    ) -> Task<'a, Result<(), PutError>>;

    /// Stores a part, and gives what the bucket calls it, if its bytes have this length and SHA-256. One of other bytes
    /// stays unknown: nothing names it, and the next of its number takes its place.
    fn put_part<'a>(
        &'a self,
        part: Part<'a>,
        content: Content,
    ) -> Task<'a, Result<String, PutError>>;

    /// Whether it could take an object in now. None is stored, and `nothing` is the key of none.
    fn probe<'a>(&'a self, nothing: &'a ObjectKey) -> Task<'a, Result<(), StorageError>> {
        Box::pin(async move { self.observe(nothing, 0).await.map(drop) })
    }

    /// An object without its bytes.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> Task<'a, Result<Option<Download>, StorageError>>;

    /// An object's bytes, or a part of them.
    fn get<'a>(
        &'a self,
        key: &'a ObjectKey,
        part: Option<Range<u64>>,
    ) -> Task<'a, Result<Option<Download>, StorageError>>;
}

/// A part that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The object that it is a part of.
    pub key: &'a ObjectKey,
    /// The bucket's id of the multipart upload.
    pub storage_id: &'a str,
    /// Its number, from 1.
    pub number: u16,
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: &'a Sha256Digest,
}

/// Why an object was not stored.
#[derive(Debug, PartialEq, Eq)]
pub enum PutError {
    /// Something is stored under this key already; it was left as it is.
    Exists,
    /// The bytes do not have the declared length; nothing was stored.
    LengthMismatch,
    /// The bytes do not have the declared SHA-256; nothing was stored.
    Sha256Mismatch,
    /// The bytes of a part do not have the declared SHA-256, and the part that was there before is gone.
    PartLost,
    /// The multipart upload was completed or aborted.
    Closed,
    /// As many uploads of the same as the bucket takes in at a time are under way.
    Busy,
    /// The client sent nothing for so long; nothing was stored.
    Stalled(Duration),
    /// The client stopped half way; nothing was stored.
    BrokenOff(StorageError),
    /// The store failed, or cannot tell that the client stopped half way; nothing was stored.
    Failed(StorageError),
}

/// What a PUT of a declared file has to say.
pub(crate) fn put_subject(file: &DeclaredFile) -> PutSubject<'_> {
    PutSubject {
        size: file.size,
        media_type: file.media_type,
        sha256: &file.sha256,
        name: &file.name,
    }
}

/// What a download found.
#[derive(Debug)]
pub struct Download {
    /// Size of the whole object, in bytes.
    pub size: u64,
    /// Its strong entity tag, quoted.
    pub etag: String,
    /// When it was stored, as `Last-Modified` says it.
    pub modified: String,
    /// The bytes asked for; none when only the head was.
    pub content: Option<Content>,
}
