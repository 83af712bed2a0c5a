//! The scheduled work: sweep, purge, drain, tidy, audit, sample, complete, deliver.
//!
//! Each step is bounded and independent: one that fails is logged, and the next still runs. With [`ROUNDS`] rounds a run
//! stays within the 50 subrequests of the smallest plan; what is left waits for the next run. Completing and delivering come last,
//! because they may need more. The outcome of each step is recorded in the database.

use super::{audit, events};
use crate::{
    clock,
    db::{Database, DbError, SystemFunction},
    log::{self, Level},
    outbox,
    receiver::Receiver,
    runtime::Once,
    storage::Storage,
    upload,
};
use serde_json::{Value, json};
use std::fmt::Debug;

/// Most rounds of one step in one run.
const ROUNDS: u32 = 8;
/// Upload sets swept in one round.
const SWEEP_LIMIT: u64 = 200;
/// Idempotency keys removed, and tenants whose usage is updated, in one round.
const TIDY_LIMIT: u64 = 500;
/// Rows purged in one round.
const PURGE_LIMIT: u64 = 1000;

/// One scheduled run.
///
/// 1. Expired upload sets are closed; their keys go to the outbox.
/// 2. Multipart uploads of closed sets are aborted in the store.
/// 3. Rows whose retention is over are purged; their keys go to the outbox.
/// 4. The outbox is drained: objects are deleted from the store, in batches.
/// 5. Expired idempotency keys are removed, and the usage counters are updated.
/// 6. A page of the bucket is compared with the database.
/// 7. Storage and backlog are sampled, for the operator's history.
/// 8. Upload sets near their end are completed, if their files are stored.
/// 9. Events are delivered to the receiver, if there is one.
/// 10. The outcome of each step is recorded.
pub async fn run(
    database: &impl Database,
    storage: &impl Storage,
    max_pixels: u64,
    receiver: Option<&dyn Receiver>,
) {
    let steps = [
        step("sweep", sweep(database)).await,
        step("parts", Once::new(upload::abort_closed(database, storage))).await,
        step("purge", purge(database)).await,
        step("drain", drain(database, storage)).await,
        step("tidy", tidy(database)).await,
        step("audit", audit::page(database, storage)).await,
        step("sample", sample(database)).await,
        step(
            "complete",
            upload::complete_ending(database, storage, max_pixels),
        )
        .await,
        step("deliver", events::deliver(database, receiver)).await,
    ];
    let record = json!({ "steps": steps });
    if let Err(error) = database.for_system(SystemFunction::RecordRun, record).await {
        report("record", &Err(format!("{error:?}")));
    }
}

/// Runs one step, logs its outcome, and returns it for the record.
async fn step<E: Debug>(name: &'static str, work: impl Future<Output = Result<Value, E>>) -> Value {
    let started = clock::now().unix_timestamp();
    let outcome = work.await.map_err(|error| format!("{error:?}"));
    report(name, &outcome);
    json!({
        "step": name,
        "started": started,
        "finished": clock::now().unix_timestamp(),
        "counts": outcome.as_ref().ok(),
        "error": outcome.as_ref().err(),
    })
}

fn report(step: &str, outcome: &Result<Value, String>) {
    match outcome {
        Ok(done) if done["failed"].as_u64().unwrap_or_default() > 0 => {
            log::write(Level::Error, "cron", json!({ "step": step, "done": done }));
        }
        Ok(done) => log::write(Level::Info, "cron", json!({ "step": step, "done": done })),
        Err(cause) => log::write(
            Level::Error,
            "cron",
            json!({ "step": step, "cause": cause }),
        ),
    }
}

async fn drain(database: &impl Database, storage: &impl Storage) -> Result<Value, DbError> {
    let drained = Once::new(outbox::drain(database, storage, ROUNDS)).await?;
    Ok(json!({ "deleted": drained.deleted, "failed": drained.failed }))
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
        // Each round counts the same files again.
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

async fn sample(database: &impl Database) -> Result<Value, DbError> {
    database
        .for_system(SystemFunction::TakeSample, json!({}))
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
    use crate::fakes::{MAX_PIXELS, MemoryStorage, ScriptedDatabase};
    use SystemFunction::{
        AuditObjects, AuditPlace, LeaseMultiparts, LeaseObjects, LeaseOpenUpload, Purge, RecordRun,
        SweepUploads, TakeSample, Tidy,
    };
    use futures_util::FutureExt;

    fn functions(database: &ScriptedDatabase) -> Vec<SystemFunction> {
        run(database, &MemoryStorage::default(), MAX_PIXELS, None)
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
            Ok(json!({ "after": "" })),
            Ok(json!({ "checked": 0, "orphans": 0, "missing": 0, "remove": [] })),
            Ok(json!({ "taken": 1 })),
            Ok(Value::Null),
            Ok(json!({})),
        ]);
        assert_eq!(
            functions(&database),
            [
                SweepUploads,
                SweepUploads,
                LeaseMultiparts,
                Purge,
                Purge,
                LeaseObjects,
                Tidy,
                AuditPlace,
                AuditObjects,
                TakeSample,
                LeaseOpenUpload,
                RecordRun
            ]
        );
    }

    #[test]
    fn goes_on_after_a_step_that_failed() {
        let down = || Err(DbError::Unavailable("down".to_owned()));
        let database = ScriptedDatabase::new((0..9).map(|_| down()));
        assert_eq!(
            functions(&database),
            [
                SweepUploads,
                LeaseMultiparts,
                Purge,
                LeaseObjects,
                Tidy,
                AuditPlace,
                TakeSample,
                LeaseOpenUpload,
                RecordRun
            ]
        );
        let record = &database.calls()[8].1["steps"];
        assert_eq!(record[5]["step"], "audit");
        assert!(record[5]["error"].is_string() && record[5]["counts"].is_null());
    }

    #[test]
    fn stops_after_its_rounds() {
        let busy = || {
            Ok(
                json!({ "expired": SWEEP_LIMIT, "purged": 1, "more": true, "lease": null, "objects": [], "multiparts": [] }),
            )
        };
        let database = ScriptedDatabase::new((0..100).map(|_| busy()));
        assert_eq!(functions(&database).len(), 2 * ROUNDS as usize + 7);
    }
}
