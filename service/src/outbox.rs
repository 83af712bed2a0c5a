//! Deleting the bytes of purged rows.
//!
//! A purge puts the object keys of its rows into an outbox, in the same transaction. Here they are leased, deleted from
//! the store, and the outcome is recorded. After a crash between any two of these the lease ends and the next run takes
//! over: deleting an object twice is harmless.
//!
//! May call `db` and `storage`.

use crate::{
    db::{Database, DbError, SystemFunction},
    storage::{MAX_DELETE, Storage},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Seconds a run has for its batch before another may take it.
const LEASE_SECONDS: u32 = 120;

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Objects that are gone.
    pub(crate) deleted: usize,
    /// Objects the store did not delete; the outbox offers them again later.
    pub(crate) failed: usize,
}

#[derive(Deserialize)]
struct Lease {
    lease: Value,
    objects: Vec<Leased>,
}

#[derive(Deserialize)]
struct Leased {
    id: Value,
    object_key: String,
}

/// Drains at most `batches` batches of [`MAX_DELETE`] objects.
///
/// 1. Lease a batch; an empty one ends the run.
/// 2. Delete its objects in one call to the store.
/// 3. Settle it: all deleted, or all failed with the store's reason. After a failure the run ends.
///
/// # Errors
/// The database's. What was leased by then is offered again when the lease runs out.
pub(crate) async fn drain(
    database: &impl Database,
    storage: &impl Storage,
    batches: u32,
) -> Result<Drained, DbError> {
    let mut drained = Drained::default();
    for _ in 0..batches {
        let Lease { lease, objects } = take(database).await?;
        if objects.is_empty() {
            break;
        }
        let full = objects.len() >= MAX_DELETE as usize;
        let keys: Vec<String> = objects
            .iter()
            .map(|object| object.object_key.clone())
            .collect();
        let outcome = storage.delete_many(&keys).await;
        let request = match &outcome {
            Ok(()) => {
                drained.deleted += objects.len();
                let ids: Vec<Value> = objects.into_iter().map(|object| object.id).collect();
                json!({ "lease": lease, "deleted": ids, "failed": [] })
            }
            Err(error) => {
                drained.failed += objects.len();
                let failed: Vec<Value> = objects
                    .into_iter()
                    .map(|object| json!({ "id": object.id, "error": error.0 }))
                    .collect();
                json!({ "lease": lease, "deleted": [], "failed": failed })
            }
        };
        database
            .for_system(SystemFunction::SettleObjects, request)
            .await?;
        if !full || outcome.is_err() {
            break;
        }
    }
    Ok(drained)
}

async fn take(database: &impl Database) -> Result<Lease, DbError> {
    let request = json!({ "limit": MAX_DELETE, "lease_seconds": LEASE_SECONDS });
    database
        .read_for_system(SystemFunction::LeaseObjects, request)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{MemoryStorage, ScriptedDatabase};
    use futures_util::FutureExt;

    fn leased(count: u32) -> Result<Value, DbError> {
        let objects: Vec<Value> = (0..count)
            .map(|id| json!({ "id": id, "object_key": format!("k{id}") }))
            .collect();
        Ok(json!({ "lease": "l1", "objects": objects }))
    }

    fn nothing() -> Result<Value, DbError> {
        Ok(json!({ "lease": null, "objects": [] }))
    }

    fn settled() -> Result<Value, DbError> {
        Ok(json!({}))
    }

    fn run(
        database: &ScriptedDatabase,
        storage: &MemoryStorage,
        batches: u32,
    ) -> Result<Drained, DbError> {
        drain(database, storage, batches).now_or_never().unwrap()
    }

    #[test]
    fn deletes_what_is_leased_and_settles_it() {
        let database = ScriptedDatabase::new([leased(2), settled()]);
        let drained = run(&database, &MemoryStorage::default(), 5);
        assert_eq!(
            drained,
            Ok(Drained {
                deleted: 2,
                failed: 0
            })
        );
        let settlement = json!({ "lease": "l1", "deleted": [0, 1], "failed": [] });
        assert_eq!(
            database.calls()[1],
            (SystemFunction::SettleObjects, settlement)
        );
    }

    #[test]
    fn goes_on_while_batches_are_full_and_no_longer_than_told() {
        let full = || leased(MAX_DELETE);
        let database = ScriptedDatabase::new([full(), settled(), full(), settled(), nothing()]);
        let drained = run(&database, &MemoryStorage::default(), 5).unwrap();
        assert_eq!(drained.deleted, 2 * MAX_DELETE as usize);

        let database = ScriptedDatabase::new([full(), settled()]);
        let drained = run(&database, &MemoryStorage::default(), 1).unwrap();
        assert_eq!(drained.deleted, MAX_DELETE as usize);
    }

    #[test]
    fn gives_back_what_the_store_did_not_delete() {
        let database = ScriptedDatabase::new([leased(1), settled()]);
        let storage = MemoryStorage {
            broken: true,
            ..MemoryStorage::default()
        };
        assert_eq!(
            run(&database, &storage, 5),
            Ok(Drained {
                deleted: 0,
                failed: 1
            })
        );
        let settlement = json!({
            "lease": "l1",
            "deleted": [],
            "failed": [{ "id": 0, "error": "the store is down" }],
        });
        assert_eq!(
            database.calls()[1],
            (SystemFunction::SettleObjects, settlement)
        );
    }

    #[test]
    fn says_when_the_database_fails() {
        let down = || Err(DbError::Unavailable("down".to_owned()));
        let storage = MemoryStorage::default();
        assert_eq!(
            run(&ScriptedDatabase::new([down()]), &storage, 5).err(),
            down().err()
        );
        let lost_while_settling = ScriptedDatabase::new([leased(1), down()]);
        assert_eq!(run(&lost_while_settling, &storage, 5).err(), down().err());
    }
}
