//! Delivering events: what happened to attachments, told to whoever is set to be told.
//!
//! The database writes an event in the transaction in which it happened, and offers of each attachment the first that is not
//! delivered. So they arrive at least once, and of one attachment in order: what is not acknowledged here is offered again, under the
//! same id.

use crate::{
    clock,
    db::{Database, DbError, SystemFunction},
    receiver::{Event, Receiver},
    runtime,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Seconds a run has for a batch before another may take it; much longer than a receiver has.
const LEASE_SECONDS: u32 = 60;
/// Most batches of one run where requests are counted.
const ROUNDS: u32 = 4;
/// Milliseconds after which a run begins no further batch.
const TIME: u64 = 20_000;

#[derive(Deserialize)]
struct Leased {
    lease: Value,
    events: Vec<Event>,
}

/// Delivers events that are due.
///
/// 1. Lease a batch; an empty one ends the run, and so does the time.
/// 2. Tell it to the receiver.
/// 3. Record what arrived. When nothing did, the receiver is down, and the run ends.
///
/// # Errors
/// The database's. What was leased by then is offered again when the lease runs out.
pub(super) async fn deliver(
    database: &impl Database,
    receiver: Option<&dyn Receiver>,
) -> Result<Value, DbError> {
    let (mut delivered, mut failed) = (0, 0);
    let Some(receiver) = receiver else {
        return Ok(json!({ "delivered": delivered, "failed": failed }));
    };
    let ends = clock::milliseconds() + TIME;
    let rounds = if runtime::current().counts_requests() {
        ROUNDS
    } else {
        u32::MAX
    };
    for _ in 0..rounds {
        if clock::milliseconds() >= ends {
            break;
        }
        let request = json!({ "limit": receiver.batch(), "lease_seconds": LEASE_SECONDS });
        let Leased { lease, events } = database
            .read_for_system(SystemFunction::LeaseEvents, request)
            .await?;
        if events.is_empty() {
            break;
        }
        let outcomes = receiver.tell(&events).await;
        let (mut arrived, mut missed) = (Vec::new(), Vec::new());
        for (event, outcome) in events.iter().zip(outcomes) {
            match outcome {
                Ok(()) => arrived.push(event.id.as_str()),
                Err(error) => missed.push(json!({ "id": event.id, "error": error })),
            }
        }
        delivered += arrived.len();
        failed += missed.len();
        let is_down = arrived.is_empty();
        let request = json!({ "lease": lease, "delivered": arrived, "failed": missed });
        database
            .for_system(SystemFunction::SettleEvents, request)
            .await?;
        if is_down {
            break;
        }
    }
    Ok(json!({ "delivered": delivered, "failed": failed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::ScriptedDatabase;
    use crate::runtime::Task;
    use futures_util::FutureExt;
    use std::sync::Mutex;

    /// Takes what does not begin with `bad`.
    #[derive(Debug, Default)]
    struct Listener(Mutex<Vec<String>>);

    impl Receiver for Listener {
        fn batch(&self) -> u32 {
            2
        }

        fn tell<'a>(&'a self, events: &'a [Event]) -> Task<'a, Vec<Result<(), String>>> {
            let bodies = events.iter().map(|event| event.body.clone());
            self.0.lock().unwrap().extend(bodies);
            let outcome = |event: &Event| {
                if event.body.starts_with("bad") {
                    Err("answered 500".to_owned())
                } else {
                    Ok(())
                }
            };
            Box::pin(std::future::ready(events.iter().map(outcome).collect()))
        }
    }

    fn leased(bodies: &[&str]) -> Result<Value, DbError> {
        let events: Vec<Value> = bodies
            .iter()
            .map(|body| json!({ "id": format!("id of {body}"), "body": body }))
            .collect();
        Ok(json!({ "lease": "l1", "events": events }))
    }

    fn run(database: &ScriptedDatabase, listener: &Listener) -> Result<Value, DbError> {
        deliver(database, Some(listener)).now_or_never().unwrap()
    }

    #[test]
    fn delivers_and_records_what_arrived() {
        let database = ScriptedDatabase::new([
            leased(&["one", "bad"]),
            Ok(json!({})),
            leased(&["two"]),
            Ok(json!({})),
            leased(&[]),
        ]);
        let listener = Listener::default();
        let done = run(&database, &listener).unwrap();
        assert_eq!(done, json!({ "delivered": 2, "failed": 1 }));
        assert_eq!(*listener.0.lock().unwrap(), ["one", "bad", "two"]);
        let settled = json!({
            "lease": "l1", "delivered": ["id of one"], "failed": [{ "id": "id of bad", "error": "answered 500" }],
        });
        assert_eq!(database.calls()[1], (SystemFunction::SettleEvents, settled));
    }

    #[test]
    fn ends_when_the_receiver_is_down_and_after_its_rounds() {
        let database = ScriptedDatabase::new([leased(&["bad", "bad too"]), Ok(json!({}))]);
        let done = run(&database, &Listener::default()).unwrap();
        assert_eq!(done, json!({ "delivered": 0, "failed": 2 }));

        let full = || [leased(&["one", "two"]), Ok(json!({}))];
        let database = ScriptedDatabase::new([full(), full(), full(), full(), full()].concat());
        let done = run(&database, &Listener::default()).unwrap();
        assert_eq!(done, json!({ "delivered": 8, "failed": 0 }));
    }

    #[test]
    fn asks_for_nothing_where_nobody_is_told() {
        let database = ScriptedDatabase::default();
        let done = deliver(&database, None).now_or_never().unwrap();
        assert_eq!(done, Ok(json!({ "delivered": 0, "failed": 0 })));
        assert!(database.calls().is_empty());
    }
}
