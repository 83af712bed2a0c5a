//! Completing an upload set: look at every object, then make all files available, or none.

use super::{
    Purpose, State, UploadError, UploadSet,
    inspection::{
        FileReport, Inspected, Verdict, download_only, field_errors, inspect, prove, report,
        verdict,
    },
    look_up, parts, recent_uploads,
};
use crate::{
    clock,
    db::{CallerFunction, Database, DbError},
    log::{self, Level},
    model::{Caller, DeclaredFile},
    outbox,
    runtime::Once,
    storage::{Storage, StorageError},
};
use keepsake_shared::{AttachmentId, ErrorCode, UploadId};
use serde_json::{Value, json};
use std::time::Duration;

/// How long after its end a whole set may still be completed. An upload under way at that time may have its object
/// deleted half a minute after the end, by this clock; the database looks at its own.
const COMPLETE_GRACE: Duration = Duration::from_secs(15);

/// Most batches of the outbox that one request drains. One is enough unless much is waiting.
const BATCHES_AT_ONCE: u32 = 2;

/// One set to be completed for a caller.
#[derive(Debug)]
pub(crate) struct Completion<'a, D, S> {
    /// The database.
    pub(crate) database: &'a D,
    /// The store.
    pub(crate) storage: &'a S,
    /// Who asks.
    pub(crate) caller: &'a Caller,
    /// The set.
    pub(crate) upload: UploadId,
    /// Most pixels of an image.
    pub(crate) max_pixels: u64,
    /// The `Idempotency-Key` of the request, if it has one.
    pub(crate) key: Option<&'a str>,
}

impl<D: Database, S: Storage> Completion<'_, D, S> {
    /// Completes the set, without looking it up if this process declared it and all is well.
    ///
    /// # Errors
    /// Why it is not complete.
    pub(crate) async fn finish_recent(&self) -> Result<Value, UploadError> {
        match self.try_recent().await? {
            Some(answer) => Ok(answer),
            None => Once::new(self.finish()).await,
        }
    }

    /// Completes a set that this process declared; its objects are inspected while the database is still being reached.
    /// `None` when anything is not as it should be: looking the set up tells what, and whether the caller may know.
    async fn try_recent(&self) -> Result<Option<Value>, UploadError> {
        let Some(set) = recent_uploads::take(&self.caller.tenant, self.upload) else {
            return Ok(None);
        };
        let inspected = Once::new(self.examine(&set.files)).await?;
        if verdict(&inspected) != Verdict::Complete || set.expires_at <= clock::now() {
            return Ok(None);
        }
        match self.make_available(&download_only(&inspected)).await {
            Err(DbError::Refused(refusal)) if refusal.code == ErrorCode::UploadRejected => Ok(None),
            completed => Ok(Some(completed?)),
        }
    }

    /// Completes the set.
    ///
    /// 1. Look it up, for who may complete it. A closed one goes to step 4.
    /// 2. Complete its multipart uploads, and inspect every object.
    /// 3. A wrong one rejects the set; a missing one changes nothing.
    /// 4. Make all files available in one transaction.
    ///
    /// # Errors
    /// Why it is not complete.
    pub(crate) async fn finish(&self) -> Result<Value, UploadError> {
        let set = look_up(self.database, self.caller, self.upload, Purpose::Complete).await?;
        let download_only = if set.state == State::Pending {
            self.check(&set).await?
        } else {
            Vec::new()
        };
        self.make_available(&download_only)
            .await
            .map_err(|error| with_record(error, &set))
    }

    /// Steps 2 and 3 of [`finish`](Self::finish). Returns the files that are for download only.
    async fn check(&self, set: &UploadSet) -> Result<Vec<AttachmentId>, UploadError> {
        // After its end the sweep may have deleted what this would store, and does not look again.
        if clock::now() < set.expires_at {
            parts::join(self.storage, &set.files).await?;
        }
        let inspected = Once::new(self.examine(&set.files)).await?;
        match verdict(&inspected) {
            Verdict::Complete if set.expires_at + COMPLETE_GRACE < clock::now() => {
                Err(UploadError::Expired)
            }
            Verdict::Complete => Ok(download_only(&inspected)),
            Verdict::Incomplete if set.expires_at <= clock::now() => Err(UploadError::Expired),
            Verdict::Incomplete | Verdict::Unproven => Err(UploadError::NotUploaded {
                missing: field_errors(&set.files, &report(&inspected)),
                of: set.files.len(),
            }),
            Verdict::Wrong => Err(self.reject(set, &report(&inspected)).await?),
        }
    }

    /// Inspects every object, and reads those whole of which the store does not tell the SHA-256.
    async fn examine<'f>(
        &self,
        files: &'f [DeclaredFile],
    ) -> Result<Vec<Inspected<'f>>, StorageError> {
        let mut inspected = inspect(self.storage, files, self.max_pixels).await?;
        if verdict(&inspected) == Verdict::Unproven {
            prove(self.storage, &mut inspected).await?;
        }
        Ok(inspected)
    }

    async fn make_available(&self, download_only: &[AttachmentId]) -> Result<Value, DbError> {
        let mut request = json!({ "upload_id": self.upload, "download_only": download_only });
        if let Some(key) = self.key {
            request["idempotency_key"] = key.into();
        }
        self.database
            .for_caller(CallerFunction::CompleteUpload, self.caller, request)
            .await
    }

    /// Closes a set that can never become complete: its rows in one transaction, and then, through the outbox, its
    /// objects. If the store fails here, or the worker stops, the outbox keeps their keys.
    async fn reject(&self, set: &UploadSet, report: &[FileReport]) -> Result<UploadError, DbError> {
        let request = json!({ "upload_id": set.id, "report": report });
        self.database
            .for_caller(CallerFunction::RejectUpload, self.caller, request)
            .await?;
        Once::new(delete_closed(self.database, self.storage)).await;
        Ok(UploadError::Rejected(field_errors(&set.files, report)))
    }
}

/// Adds to the refusal of a set that was rejected before what was wrong with its files.
fn with_record(error: DbError, set: &UploadSet) -> UploadError {
    match error {
        DbError::Refused(refusal) if refusal.code == ErrorCode::UploadRejected => {
            UploadError::Refused(refusal, field_errors(&set.files, &set.report))
        }
        error => error.into(),
    }
}

/// Deletes the objects and the parts of a set that was just closed. What cannot be deleted now waits for the next
/// scheduled run.
pub(crate) async fn delete_closed(database: &impl Database, storage: &impl Storage) {
    let drained = Once::new(outbox::drain(database, storage, BATCHES_AT_ONCE)).await;
    let aborted = Once::new(parts::abort_closed(database, storage)).await;
    if let Some(error) = drained.err().or(aborted.err()) {
        log::write(
            Level::Error,
            "drain",
            json!({ "cause": format!("{error:?}") }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::Refusal,
        fakes::{MAX_PIXELS, MemoryStorage, ScriptedDatabase},
        storage::StoredObject,
        upload::recent_uploads::RecentSet,
    };
    use futures_util::FutureExt;
    use keepsake_shared::Sha256Digest;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    const TEXT: &[u8] = b"a note";
    const KEY: &str = "t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000002.txt";
    const UPLOAD: &str = "0198f7d0-1111-7aaa-8bbb-000000000001";

    fn caller(tenant: &str) -> Caller {
        Caller {
            tenant: tenant.parse().unwrap(),
            claims: "{}".to_owned(),
        }
    }

    /// All use the same set, which one at a time keeps.
    fn alone() -> MutexGuard<'static, ()> {
        static ONE: Mutex<()> = Mutex::new(());
        ONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Declares a set for `acme` that ends so many seconds from now.
    fn declare(ends_in: i64) {
        let file = json!({
            "attachment_id": "0198f7d0-1111-7aaa-8bbb-000000000002",
            "name": "note.txt",
            "media_type": "text/plain",
            "size": TEXT.len(),
            "sha256": Sha256Digest::of(TEXT).to_hex(),
            "object_key": KEY,
        });
        let set = RecentSet {
            files: vec![serde_json::from_value(file).unwrap()],
            expires_at: clock::now() + time::Duration::seconds(ends_in),
        };
        recent_uploads::remember(&caller("acme").tenant, UPLOAD.parse().unwrap(), set);
    }

    fn holding(bytes: &[u8]) -> MemoryStorage {
        let storage = MemoryStorage::default();
        let object = StoredObject {
            size: bytes.len() as u64,
            // As a store that tells none.
            sha256: None,
            first_bytes: bytes.to_vec(),
            encoded: false,
        };
        storage.objects.borrow_mut().insert(KEY.to_owned(), object);
        storage
    }

    /// What becomes of it; the database is asked no more often than it has answers.
    fn finish_recent(
        tenant: &str,
        storage: &MemoryStorage,
        answers: impl IntoIterator<Item = Result<Value, DbError>>,
    ) -> Result<Option<Value>, ErrorCode> {
        let database = ScriptedDatabase::new(answers);
        let completion = Completion {
            database: &database,
            storage,
            caller: &caller(tenant),
            upload: UPLOAD.parse().unwrap(),
            max_pixels: MAX_PIXELS,
            key: None,
        };
        let finished = completion.try_recent().now_or_never();
        finished.unwrap().map_err(|error| error.code())
    }

    fn refused(code: &str) -> Result<Value, DbError> {
        let refusal = json!({ "code": code, "detail": "" });
        let refusal: Refusal = serde_json::from_value(refusal).unwrap();
        Err(DbError::Refused(refusal))
    }

    #[test]
    fn a_set_declared_here_and_whole_is_not_looked_up() {
        let _alone = alone();
        declare(60);
        let answer = finish_recent("acme", &holding(TEXT), [Ok(json!("completed"))]);
        assert_eq!(answer, Ok(Some(json!("completed"))));
        // Once.
        assert_eq!(finish_recent("acme", &holding(TEXT), []), Ok(None));
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_looked_up() {
        let _alone = alone();
        assert_eq!(finish_recent("acme", &holding(TEXT), []), Ok(None));
        declare(60);
        assert_eq!(finish_recent("other", &holding(TEXT), []), Ok(None));
        assert_eq!(finish_recent("acme", &holding(b"other!"), []), Ok(None));
        declare(60);
        assert_eq!(
            finish_recent("acme", &MemoryStorage::default(), []),
            Ok(None)
        );
        declare(0);
        assert_eq!(finish_recent("acme", &holding(TEXT), []), Ok(None));
        declare(60);
        let rejected = [refused("upload_rejected")];
        assert_eq!(finish_recent("acme", &holding(TEXT), rejected), Ok(None));
    }

    #[test]
    fn the_database_and_the_store_have_the_last_word() {
        let _alone = alone();
        declare(60);
        assert_eq!(
            finish_recent("acme", &holding(TEXT), [refused("not_found")]),
            Err(ErrorCode::NotFound)
        );
        declare(60);
        let down = MemoryStorage {
            broken: true,
            ..MemoryStorage::default()
        };
        assert_eq!(
            finish_recent("acme", &down, []),
            Err(ErrorCode::StorageUnavailable)
        );
    }
}
