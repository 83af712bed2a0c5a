//! Deleting the bytes of purged rows.
//!
//! A purge puts the object keys of its rows into an outbox, in the same transaction. Here they are leased, deleted from
//! the store, and the outcome is recorded. After a crash between any two of these the lease ends and the next run takes
//! over: deleting an object twice is harmless.
//!
//! May call `db` and `storage`.

use crate::{
    db::{Database, DbError, SystemFunction},
    storage::{MAX_DELETE, Storage, StorageError, Undeleted},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

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
/// 3. Settle it: deleted, or failed with the store's reason, each by itself where the store tells them apart. After a
///    failure the run ends.
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
        let (deleted, failed) = sorted(&objects, &outcome);
        drained.deleted += deleted.len();
        drained.failed += failed.len();
        let is_stuck = !failed.is_empty();
        let request = json!({ "lease": lease, "deleted": deleted, "failed": failed });
        database
            .for_system(SystemFunction::SettleObjects, request)
            .await?;
        if !full || is_stuck {
            break;
        }
    }
    Ok(drained)
}

/// The ids of what is gone, and of what is not, with the reason.
fn sorted(
    objects: &[Leased],
    outcome: &Result<Vec<Undeleted>, StorageError>,
) -> (Vec<Value>, Vec<Value>) {
    let reasons: HashMap<&str, &str> = match outcome {
        Ok(undeleted) => undeleted
            .iter()
            .map(|one| (one.key.as_str(), one.error.0.as_str()))
            .collect(),
        Err(error) => objects
            .iter()
            .map(|object| (object.object_key.as_str(), error.0.as_str()))
            .collect(),
    };
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for Leased { id, object_key } in objects {
        match reasons.get(object_key.as_str()) {
            Some(error) => failed.push(json!({ "id": id, "error": error })),
            None => deleted.push(id.clone()),
        }
    }
    (deleted, failed)
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
    fn one_object_that_cannot_be_deleted_keeps_no_other() {
        let database = ScriptedDatabase::new([leased(3), settled()]);
        let storage = MemoryStorage {
            undeletable: vec!["k1".to_owned()],
            ..MemoryStorage::default()
        };
        let drained = run(&database, &storage, 5);
        assert_eq!(
            drained,
            Ok(Drained {
                deleted: 2,
                failed: 1
            })
        );
        let settlement = json!({
            "lease": "l1",
            "deleted": [0, 2],
            "failed": [{ "id": 1, "error": "it is locked" }],
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
