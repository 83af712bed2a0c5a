//! Who is told of events: an endpoint, as Standard Webhooks has it, or a queue of the host's.
//!
//! May call `runtime`, `clock` and `config`.

use crate::{
    clock,
    config::Webhook,
    runtime::{self, Fetch, Task, all},
};
use serde::Deserialize;
use std::{fmt::Debug, sync::Arc, time::Duration};

/// How long an endpoint may take to answer.
const TIME: Duration = Duration::from_secs(10);

/// Whom events are told.
pub trait Receiver: Debug + Send + Sync {
    /// Most events of one batch.
    fn batch(&self) -> u32;

    /// Tells these events, each of another attachment; of each why it did not arrive, if it did not.
    fn tell<'a>(&'a self, events: &'a [Event]) -> Task<'a, Vec<Result<(), String>>>;
}

/// An event that is due.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// The same at each attempt.
    pub id: String,
    /// What is sent, letter for letter.
    pub body: String,
}

/// The endpoint of the settings.
#[derive(Debug)]
pub(crate) struct Endpoint(pub(crate) Arc<Webhook>);

impl Receiver for Endpoint {
    /// A worker has six connections at once.
    fn batch(&self) -> u32 {
        6
    }

    fn tell<'a>(&'a self, events: &'a [Event]) -> Task<'a, Vec<Result<(), String>>> {
        let sent = events.iter().map(|event| self.send(event)).collect();
        Box::pin(all(sent))
    }
}

impl Endpoint {
    /// Sends one event. Only a 2xx means that it arrived. A redirect is not followed, so that what is signed for one host goes
    /// to no other; and what the host says of a failure may repeat the address, which may have a secret in it.
    fn send<'a>(&'a self, event: &'a Event) -> Task<'a, Result<(), String>> {
        Box::pin(async move {
            let now = clock::now().unix_timestamp();
            let signature = self.0.keys.sign(&event.id, now, &event.body);
            let timestamp = now.to_string();
            let body = event.body.clone().into();
            let request = Fetch {
                operation: "webhook",
                method: "POST",
                url: self.0.url.as_str(),
                headers: &[
                    ("content-type", "application/json"),
                    ("user-agent", "keepsake"),
                    ("webhook-id", &event.id),
                    ("webhook-timestamp", &timestamp),
                    ("webhook-signature", &signature),
                ],
                body: Some(&body),
                time: TIME,
            };
            match runtime::current().fetch(request).await {
                Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
                Ok(answer) => Err(format!("answered {}", answer.status)),
                Err(_) => Err("no answer".to_owned()),
            }
        })
    }
}
