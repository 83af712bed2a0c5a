//! The scheduled work: sweep, purge, drain.
//!
//! Each step is bounded and independent: one that fails is logged and the next still runs. With
//! [`ROUNDS`] rounds a run stays within the 50 subrequests of the smallest plan; what is left waits
//! for the next run.

use crate::{
    db::{Database, DbError, SystemFunction},
    log::{self, Level},
    multipart, outbox,
    storage::Storage,
};
use serde_json::{Value, json};

/// Most rounds of one step in one run.
const ROUNDS: u32 = 8;
/// Upload sets swept in one round.
const SWEEP_LIMIT: u64 = 200;
/// Keys forgotten, and tenants settled, in one round.
const TIDY_LIMIT: u64 = 500;
/// Rows purged in one round.
const PURGE_LIMIT: u64 = 1000;

/// One scheduled run.
///
/// 1. Expired upload sets are closed; their keys go to the outbox.
/// 2. The store gives up the parts of closed sets.
/// 3. Rows whose retention has run out are purged; their keys go to the outbox.
/// 4. The outbox is drained: objects are deleted from the store, in batches.
/// 5. Idempotency keys that ran out are forgotten, and usage that was given back is settled.
pub(crate) async fn run(database: &impl Database, storage: &impl Storage) {
    report("sweep", sweep(database).await);
    report("parts", multipart::give_up(database, storage).await);
    report("purge", purge(database).await);
    report(
        "drain",
        outbox::drain(database, storage, ROUNDS)
            .await
            .map(|drained| json!({ "deleted": drained.deleted, "failed": drained.failed })),
    );
    report("tidy", tidy(database).await);
}

fn report(step: &str, outcome: Result<Value, DbError>) {
    match outcome {
        Ok(done) if done["failed"].as_u64().unwrap_or_default() > 0 => {
            log::write(Level::Error, "cron", json!({ "step": step, "done": done }));
        }
        Ok(done) => log::write(Level::Info, "cron", json!({ "step": step, "done": done })),
        Err(error) => log::write(
            Level::Error,
            "cron",
            json!({ "step": step, "cause": format!("{error:?}") }),
        ),
    }
}

async fn sweep(database: &impl Database) -> Result<Value, DbError> {
    let (mut expired, mut failed) = (0, 0);
    for _ in 0..ROUNDS {
        let answer = database
            .for_system(
                SystemFunction::SweepUploads,
                json!({ "limit": SWEEP_LIMIT }),
            )
            .await?;
        let count = answer["expired"].as_u64().unwrap_or_default();
        expired += count;
        // Each round meets the same files again.
        failed = answer["failed"].as_u64().unwrap_or_default();
        if count < SWEEP_LIMIT {
            break;
        }
    }
    Ok(json!({ "expired": expired, "failed": failed }))
}

async fn tidy(database: &impl Database) -> Result<Value, DbError> {
    database
        .for_system(SystemFunction::Tidy, json!({ "limit": TIDY_LIMIT }))
        .await
}

async fn purge(database: &impl Database) -> Result<Value, DbError> {
    let (mut purged, mut failed) = (0, 0);
    let mut more = true;
    for _ in 0..ROUNDS {
        let answer = database
            .for_system(SystemFunction::Purge, json!({ "limit": PURGE_LIMIT }))
            .await?;
        purged += answer["purged"].as_u64().unwrap_or_default();
        failed += answer["failed"].as_u64().unwrap_or_default();
        more = answer["more"].as_bool().unwrap_or_default();
        if !more {
            break;
        }
    }
    Ok(json!({ "purged": purged, "failed": failed, "more": more }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{MemoryStorage, ScriptedDatabase};
    use futures_util::FutureExt;

    fn functions(database: &ScriptedDatabase) -> Vec<SystemFunction> {
        run(database, &MemoryStorage::default())
            .now_or_never()
            .unwrap();
        database
            .calls()
            .into_iter()
            .map(|(function, _)| function)
            .collect()
    }

    #[test]
    fn repeats_each_step_while_there_is_more() {
        let database = ScriptedDatabase::new([
            Ok(json!({ "expired": SWEEP_LIMIT })),
            Ok(json!({ "expired": 1 })),
            Ok(json!({ "multiparts": [] })),
            Ok(json!({ "purged": PURGE_LIMIT, "more": true })),
            Ok(json!({ "purged": 0, "more": false })),
            Ok(json!({ "lease": null, "objects": [] })),
            Ok(json!({ "forgotten": 0, "settled": 0 })),
        ]);
        use SystemFunction::{LeaseMultiparts, LeaseObjects, Purge, SweepUploads, Tidy};
        assert_eq!(
            functions(&database),
            [
                SweepUploads,
                SweepUploads,
                LeaseMultiparts,
                Purge,
                Purge,
                LeaseObjects,
                Tidy
            ]
        );
    }

    #[test]
    fn goes_on_after_a_step_that_failed() {
        let down = || Err(DbError::Unavailable("down".to_owned()));
        let database = ScriptedDatabase::new((0..5).map(|_| down()));
        use SystemFunction::{LeaseMultiparts, LeaseObjects, Purge, SweepUploads, Tidy};
        assert_eq!(
            functions(&database),
            [SweepUploads, LeaseMultiparts, Purge, LeaseObjects, Tidy]
        );
    }

    #[test]
    fn stops_after_its_rounds() {
        let busy = || {
            Ok(
                json!({ "expired": SWEEP_LIMIT, "purged": 1, "more": true, "lease": null, "objects": [], "multiparts": [] }),
            )
        };
        let database = ScriptedDatabase::new((0..100).map(|_| busy()));
        assert_eq!(functions(&database).len(), 2 * ROUNDS as usize + 3);
    }
}
