//! An upload set whose bytes came with one request: declare it, store its files, make all available, or leave nothing.
//!
//! The rows come first, so that at every moment each object is named by one: whoever stops in the middle leaves a pending
//! set, which ends by itself, and whose objects go through the outbox. Nobody else completes it. Of bytes that were looked at here, and
//! whose length and SHA-256 the store checks as it takes them in, nothing is read again.

use super::UploadError;
use crate::{
    clock,
    db::{CallerFunction, Database, DbError},
    log::{self, Level},
    model::{Caller, DeclaredFile},
    runtime::all,
    storage::{PutError, Storage, StorageError},
};
use axum::body::Bytes;
use keepsake_shared::{AttachmentId, Sha256Digest, UploadId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Seconds that the set lives: several times [`STORE_TIME`], so that nothing is stored any more when its end has come.
const LIFE: Duration = Duration::from_secs(300);

/// How long all its files may take to be stored.
const STORE_TIME: Duration = Duration::from_secs(120);

/// Files that are stored side by side. A worker has six connections.
const SIDE_BY_SIDE: usize = 4;

/// A file as it came.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Their digest.
    pub(crate) sha256: Sha256Digest,
    /// Whether it is to be downloaded and never shown in place.
    pub(crate) download_only: bool,
}

/// A set that came with one request.
#[derive(Debug)]
pub(crate) struct AtOnce<'a, D, S> {
    /// The database.
    pub(crate) database: &'a D,
    /// The store.
    pub(crate) storage: &'a S,
    /// Who asks.
    pub(crate) caller: &'a Caller,
    /// The `Idempotency-Key` of the request, if it has one.
    pub(crate) key: Option<&'a str>,
}

/// Why nothing became available.
#[derive(Debug)]
pub(crate) struct Undone {
    /// The error.
    pub(crate) error: UploadError,
    /// Whether a set was closed, whose objects are to be deleted.
    pub(crate) is_closed: bool,
}

impl<E: Into<UploadError>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            is_closed: false,
        }
    }
}

/// What the database makes of the declaration.
#[derive(Deserialize)]
struct Declared {
    id: UploadId,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    files: Vec<DeclaredFile>,
    /// What a request with the same key has come to before.
    completed: Option<Value>,
}

/// When a set that is declared now ends.
pub(crate) fn expiry() -> OffsetDateTime {
    clock::now() + LIFE
}

impl<D: Database, S: Storage> AtOnce<'_, D, S> {
    /// Makes files available.
    ///
    /// 1. Declare them, under all the rules of any declaration.
    /// 2. Store each. With a key, a set that the store did not take stays open for the next try; otherwise it is closed.
    /// 3. Make all available in one transaction. A set that cannot be any more is closed.
    ///
    /// # Errors
    /// Why none is available. After a lost answer of the database nobody knows: then the rows tell.
    pub(crate) async fn run(
        &self,
        mut declaration: Value,
        received: &[Received],
    ) -> Result<Value, Undone> {
        declaration["one_request"] = true.into();
        if let Some(key) = self.key {
            declaration["idempotency_key"] = key.into();
        }
        let declared: Declared = self
            .database
            .read_for_caller(CallerFunction::CreateUpload, self.caller, declaration)
            .await?;
        if let Some(completed) = declared.completed {
            return Ok(completed);
        }
        if let Err(error) = self.store(&declared, received).await {
            let is_closed = self.key.is_none() && self.close(declared.id).await;
            return Err(Undone {
                error: error.into(),
                is_closed,
            });
        }
        let request = json!({
            "upload_id": declared.id,
            "download_only": download_only(&declared.files, received),
        });
        let completed = self
            .database
            .for_caller(CallerFunction::CompleteUpload, self.caller, request)
            .await;
        match completed {
            Err(DbError::Refused(refusal)) => Err(Undone {
                is_closed: self.close(declared.id).await,
                error: DbError::Refused(refusal).into(),
            }),
            completed => Ok(completed?),
        }
    }

    async fn store(&self, declared: &Declared, received: &[Received]) -> Result<(), StorageError> {
        let left = declared.expires_at - clock::now();
        let time = STORE_TIME.min(left.try_into().unwrap_or_default());
        let stored = clock::timeout(time, self.store_all(&declared.files, received));
        stored.await.unwrap_or_else(|| {
            let seconds = time.as_secs();
            Err(StorageError(format!("it took longer than {seconds} s")))
        })
    }

    async fn store_all(
        &self,
        files: &[DeclaredFile],
        received: &[Received],
    ) -> Result<(), StorageError> {
        // The same files as were declared, or what was declared with the same key, of which the database compares the digests.
        let is_same = |(file, one): (&DeclaredFile, &Received)| file.sha256 == one.sha256;
        if files.len() != received.len() || !files.iter().zip(received).all(is_same) {
            return Err(StorageError("other files were declared".to_owned()));
        }
        let pairs: Vec<_> = files.iter().zip(received).collect();
        for some in pairs.chunks(SIDE_BY_SIDE) {
            let tasks = some
                .iter()
                .map(|(file, one)| self.storage.store(file, &one.bytes));
            for stored in all(tasks.collect()).await {
                is_stored(stored)?;
            }
        }
        Ok(())
    }

    /// Closes a set that comes to nothing. Where that fails its time runs out.
    async fn close(&self, upload: UploadId) -> bool {
        let request = json!({ "upload_id": upload });
        let closed = self
            .database
            .for_caller(CallerFunction::AbortUpload, self.caller, request)
            .await;
        if let Err(error) = &closed {
            let cause = format!("{error:?}");
            log::write(Level::Warning, "close_upload", json!({ "cause": cause }));
        }
        closed.is_ok()
    }
}

fn is_stored(stored: Result<(), PutError>) -> Result<(), StorageError> {
    match stored {
        // Under this key nobody stores anything else: another try of this request did.
        Ok(()) | Err(PutError::Exists) => Ok(()),
        Err(PutError::BrokenOff(error) | PutError::Failed(error)) => Err(error),
        Err(other) => Err(StorageError(format!("not stored: {other:?}"))),
    }
}

fn download_only(files: &[DeclaredFile], received: &[Received]) -> Vec<AttachmentId> {
    let pairs = files.iter().zip(received);
    pairs
        .filter(|(_, one)| one.download_only)
        .map(|(file, _)| file.attachment_id)
        .collect()
}
