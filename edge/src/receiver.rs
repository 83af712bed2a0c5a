//! Who is told of events: an endpoint, as Standard Webhooks has it, or a queue of the platform's.
//!
//! May call `clock` and `config`.

use crate::{clock, config::Webhook};
use serde::Deserialize;
use std::sync::Arc;
use worker::{
    js_sys::{self, Array, Function, JSON, Promise, Reflect},
    send::SendWrapper,
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::{AbortSignal, Headers, RequestInit, RequestRedirect, Response, WorkerGlobalScope},
};

/// How long an endpoint may take to answer.
const MILLISECONDS: u32 = 10_000;

/// Whom events are told.
pub(crate) trait Receiver {
    /// Most batches of one run.
    const ROUNDS: u32;

    /// Most events of one batch.
    fn batch(&self) -> u32;

    /// Tells these events, each of another attachment; of each why it did not arrive, if it did not.
    async fn tell(&self, events: &[Event]) -> Vec<Result<(), String>>;
}

/// An event that is due.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Event {
    /// The same at each attempt.
    pub(crate) id: String,
    /// What is sent, letter for letter.
    pub(crate) body: String,
}

/// Who is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// An endpoint of the settings.
    Endpoint(Arc<Webhook>),
    /// A queue that is bound.
    Queue(SendWrapper<JsValue>),
}

impl Receiver for Told {
    const ROUNDS: u32 = 4;

    /// A worker has six connections at once, and a queue takes a hundred messages.
    fn batch(&self) -> u32 {
        match self {
            Self::Endpoint(_) => 6,
            Self::Queue(_) => 100,
        }
    }

    async fn tell(&self, events: &[Event]) -> Vec<Result<(), String>> {
        match self {
            Self::Endpoint(webhook) => {
                // All are on their way before the first is waited for.
                let sent: Vec<_> = events.iter().map(|event| post(webhook, event)).collect();
                let mut outcomes = Vec::with_capacity(sent.len());
                for answer in sent {
                    outcomes.push(match answer {
                        Ok(answer) => arrived(answer).await,
                        Err(error) => Err(broken(&error)),
                    });
                }
                outcomes
            }
            Self::Queue(queue) => {
                let outcome = match send(&queue.0, events) {
                    Ok(sent) => JsFuture::from(sent).await.map(|_| ()),
                    Err(error) => Err(error),
                };
                vec![outcome.map_err(|error| broken(&error)); events.len()]
            }
        }
    }
}

/// Sends one event. A redirect is not followed, so that what is signed for one host goes to no other.
fn post(webhook: &Webhook, event: &Event) -> Result<Promise, JsValue> {
    let now = clock::now().unix_timestamp();
    let signature = webhook.keys.sign(&event.id, now, &event.body);
    let fields = Headers::new()?;
    fields.set("content-type", "application/json")?;
    fields.set("user-agent", "keepsake")?;
    fields.set("webhook-id", &event.id)?;
    fields.set("webhook-timestamp", &now.to_string())?;
    fields.set("webhook-signature", &signature)?;
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_headers(&fields);
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(Some(&AbortSignal::timeout_with_u32(MILLISECONDS)));
    init.set_body(&JsValue::from_str(&event.body));
    let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
    Ok(scope
        .fetch_with_str_and_init(webhook.url.as_str(), &init)
        .unchecked_into())
}

/// Only a 2xx means that the event arrived.
async fn arrived(answer: Promise) -> Result<(), String> {
    let response = JsFuture::from(answer)
        .await
        .map_err(|error| broken(&error))?;
    let response: Response = response.unchecked_into();
    // An answer that nobody reads keeps its connection.
    if let Some(body) = response.body() {
        drop(body.cancel());
    }
    match response.status() {
        200..=299 => Ok(()),
        status => Err(format!("answered {status}")),
    }
}

/// The platform's own text may repeat the address, which may have a secret in it.
fn broken(_: &JsValue) -> String {
    "no answer".to_owned()
}

/// Sends a batch, as a whole.
/// <https://developers.cloudflare.com/queues/configuration/javascript-apis/#queue>
fn send(queue: &JsValue, events: &[Event]) -> Result<Promise, JsValue> {
    let batch = Array::new();
    for event in events {
        let body = object(&[
            ("id", JsValue::from_str(&event.id)),
            ("event", JSON::parse(&event.body)?),
        ])?;
        batch.push(&object(&[("body", body)])?);
    }
    let send_batch: Function = Reflect::get(queue, &"sendBatch".into())?.dyn_into()?;
    send_batch.call1(queue, &batch)?.dyn_into()
}

fn object(members: &[(&str, JsValue)]) -> Result<JsValue, JsValue> {
    let object = js_sys::Object::new();
    for (name, value) in members {
        Reflect::set(&object, &(*name).into(), value)?;
    }
    Ok(object.into())
}
