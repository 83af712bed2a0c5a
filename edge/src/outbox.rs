//! Deleting the bytes of purged rows.
//!
//! A purge leaves the object keys of its rows in an outbox, in the same transaction. Here they are
//! leased, deleted from the store, and settled. A crash between any two of these lets the lease run
//! out, and the next run takes over: deleting an object twice is harmless.

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
    let answer = database
        .for_system(SystemFunction::LeaseObjects, request)
        .await?;
    serde_json::from_value(answer)
        .map_err(|error| DbError::Unexpected(format!("lease_objects: {error}")))
}
