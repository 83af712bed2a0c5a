//! Completing uploads whose client does not: when the store reports an object, and by the schedule, before their time is
//! over. Both act for whoever declared the upload, and do what that client's own request would.
//!
//! The schedule looks at an upload only near its end: before that, its client may still be at work. It never completes
//! one after its end, when the client is told that it has expired. A multipart upload is treated as any other: it has all
//! its parts, and completing it takes nothing from a client that returns.

use super::{Completion, UploadError};
use crate::{
    clock,
    db::{Database, DbError, SystemFunction},
    log::{self, Level},
    model::Caller,
    runtime::Once,
    storage::Storage,
};
use keepsake_shared::{ErrorCode, TenantId, UploadId};
use serde::Deserialize;
use serde_json::{Value, json};

/// Seconds before its end from which an upload is looked at. Two runs of the schedule fall into them, so that a
/// store which fails at one of them is asked again.
const LEAD_SECONDS: u32 = 660;
/// Least seconds from one look at an upload to the next. Before that, half of its time that is left has passed.
const LEASE_SECONDS: u32 = 60;
/// Uploads that one run looks at: each costs some requests to the database, and one a file to the store.
const LOOKS: u32 = 50;
/// Seconds after which a run begins no other look: files may have to be read whole, and a store may not answer.
const PATIENCE_SECONDS: i64 = 60;

/// An upload that waits for its files, and who declared it.
#[derive(Debug, Deserialize)]
pub(crate) struct OpenUpload {
    /// The upload.
    pub(crate) upload_id: UploadId,
    tenant: TenantId,
    subject: String,
}

/// What became of a look at an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its files are visible, or with the scanner.
    Completed,
    /// A file is not there yet.
    Waiting,
    /// It cannot be completed now, or never: why is on record with the upload.
    Refused(ErrorCode),
}

impl OpenUpload {
    /// Completes it with no claims but those on record.
    ///
    /// # Errors
    /// What may be another time: database or store had no answer.
    pub(crate) async fn complete(
        self,
        database: &impl Database,
        storage: &impl Storage,
        max_pixels: u64,
    ) -> Result<Outcome, UploadError> {
        let Self {
            upload_id,
            tenant,
            subject,
        } = self;
        let caller = Caller {
            claims: json!({ "sub": subject, "tenant": tenant }).to_string(),
            tenant,
        };
        let completion = Completion {
            database,
            storage,
            caller: &caller,
            upload: upload_id,
            max_pixels,
            key: None,
        };
        match Once::new(completion.finish()).await {
            Ok(_) => Ok(Outcome::Completed),
            Err(UploadError::NotUploaded { .. }) => Ok(Outcome::Waiting),
            Err(error) if error.code().status() < 500 => Ok(Outcome::Refused(error.code())),
            Err(error) => Err(error),
        }
    }
}

/// Completes the uploads that come to their end, one after the other, the most urgent first.
///
/// # Errors
/// The database's. An upload whose look broke off is looked at again when its lease runs out.
pub(crate) async fn complete_ending(
    database: &impl Database,
    storage: &impl Storage,
    max_pixels: u64,
) -> Result<Value, DbError> {
    let started = clock::now().unix_timestamp();
    let (mut completed, mut waiting, mut refused, mut failed) = (0, 0, 0, 0);
    for _ in 0..LOOKS {
        if clock::now().unix_timestamp() - started >= PATIENCE_SECONDS {
            break;
        }
        let Some(upload) = lease(database).await? else {
            break;
        };
        let id = upload.upload_id;
        match upload.complete(database, storage, max_pixels).await {
            Ok(Outcome::Completed) => completed += 1,
            Ok(Outcome::Waiting) => waiting += 1,
            Ok(Outcome::Refused(_)) => refused += 1,
            Err(error) => {
                failed += 1;
                let about = json!({ "upload": id, "cause": format!("{error:?}") });
                log::write(Level::Error, "complete", about);
            }
        }
    }
    Ok(json!({ "completed": completed, "waiting": waiting, "refused": refused, "failed": failed }))
}

/// An upload that is due for a look, and that no other run looks at meanwhile.
async fn lease(database: &impl Database) -> Result<Option<OpenUpload>, DbError> {
    let request = json!({ "lead_seconds": LEAD_SECONDS, "lease_seconds": LEASE_SECONDS });
    database
        .read_for_system(SystemFunction::LeaseOpenUpload, request)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{MAX_PIXELS, MemoryStorage, ScriptedDatabase};
    use crate::storage::StoredObject;
    use futures_util::FutureExt;
    use keepsake_shared::Sha256Digest;

    const TEXT: &[u8] = b"a note";
    const KEY: &str = "t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000002.txt";

    type Answer = Result<Value, DbError>;

    fn leased() -> Answer {
        Ok(json!({
            "upload_id": "0198f7d0-1111-7aaa-8bbb-000000000001", "tenant": "acme", "subject": "ada",
        }))
    }

    fn none() -> Answer {
        Ok(Value::Null)
    }

    fn set(state: &str, expires_at: &str) -> Answer {
        Ok(json!({
            "id": "0198f7d0-1111-7aaa-8bbb-000000000001",
            "state": state,
            "expires_at": expires_at,
            "files": [{
                "attachment_id": "0198f7d0-1111-7aaa-8bbb-000000000002",
                "name": "note.txt",
                "media_type": "text/plain",
                "size": TEXT.len(),
                "sha256": Sha256Digest::of(TEXT).to_hex(),
                "object_key": KEY,
                "state": "pending",
            }],
            "report": null,
        }))
    }

    /// A set whose time is not over.
    fn pending() -> Answer {
        set("pending", "2026-09-01T00:05:00Z")
    }

    fn holding(bytes: &[u8]) -> MemoryStorage {
        let storage = MemoryStorage::default();
        let object = StoredObject {
            size: bytes.len() as u64,
            sha256: Some(Sha256Digest::of(bytes)),
            first_bytes: bytes.to_vec(),
            encoded: false,
        };
        storage.objects.borrow_mut().insert(KEY.to_owned(), object);
        storage
    }

    fn run(database: &ScriptedDatabase, storage: &MemoryStorage) -> Answer {
        complete_ending(database, storage, MAX_PIXELS)
            .now_or_never()
            .unwrap()
    }

    fn counts(completed: u32, waiting: u32, refused: u32, failed: u32) -> Answer {
        Ok(
            json!({ "completed": completed, "waiting": waiting, "refused": refused, "failed": failed }),
        )
    }

    #[test]
    fn what_is_whole_is_completed_until_nothing_is_due() {
        let done = || Ok(json!({ "state": "completed", "attachments": [] }));
        let database = ScriptedDatabase::new([
            leased(),
            pending(),
            done(),
            leased(),
            // Its client came first.
            set("completed", "2026-09-01T00:05:00Z"),
            done(),
            none(),
        ]);
        assert_eq!(run(&database, &holding(TEXT)), counts(2, 0, 0, 0));
    }

    #[test]
    fn what_is_missing_waits_and_is_not_rejected() {
        let database = ScriptedDatabase::new([leased(), pending(), none()]);
        assert_eq!(
            run(&database, &MemoryStorage::default()),
            counts(0, 1, 0, 0)
        );
    }

    #[test]
    fn nothing_is_made_of_a_set_whose_time_is_over() {
        let over = || set("pending", "2026-08-31T23:59:59Z");
        let database = ScriptedDatabase::new([leased(), over(), none()]);
        assert_eq!(
            run(&database, &MemoryStorage::default()),
            counts(0, 0, 1, 0)
        );
    }

    #[test]
    fn other_bytes_reject_the_set() {
        let database = ScriptedDatabase::new([
            leased(),
            pending(),
            Ok(json!({})),
            Ok(json!({ "lease": null, "objects": [] })),
            Ok(json!({ "multiparts": [] })),
            none(),
        ]);
        assert_eq!(run(&database, &holding(b"other!")), counts(0, 0, 1, 0));
        let asked: Vec<_> = database
            .calls()
            .into_iter()
            .map(|(asked, _)| asked)
            .collect();
        // Its objects are deleted at once.
        assert!(asked.contains(&SystemFunction::LeaseObjects));
    }

    #[test]
    fn a_store_that_fails_is_left_for_another_run_and_the_next_upload_is_looked_at() {
        let storage = MemoryStorage {
            broken: true,
            ..MemoryStorage::default()
        };
        let database = ScriptedDatabase::new([leased(), pending(), leased(), pending(), none()]);
        assert_eq!(run(&database, &storage), counts(0, 0, 0, 2));
    }

    #[test]
    fn a_database_that_fails_ends_the_run() {
        let down = || Err(DbError::Unavailable("down".to_owned()));
        assert_eq!(
            run(&ScriptedDatabase::new([down()]), &holding(TEXT)),
            down()
        );
        let other = ScriptedDatabase::new([Ok(json!({ "upload": 1 }))]);
        assert!(matches!(
            run(&other, &holding(TEXT)),
            Err(DbError::Unexpected(_))
        ));
    }

    #[test]
    fn a_run_looks_at_so_many_and_no_more() {
        let script = (0..2 * LOOKS).map(|at| if at % 2 == 0 { leased() } else { pending() });
        let database = ScriptedDatabase::new(script);
        let found = run(&database, &MemoryStorage::default());
        assert_eq!(found, counts(0, LOOKS, 0, 0));
    }
}
