//! Who is told of events: an endpoint, as Standard Webhooks has it, or a queue of the platform's.
//!
//! May call `clock` and `config`.

use crate::{clock, config::Webhook};
use futures_util::future::join_all;
use serde::Deserialize;
use std::sync::Arc;
use worker::{
    BatchMessageBuilder, Queue, RawMessageBuilder,
    js_sys::{self, JSON},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::{AbortSignal, Headers, RequestInit, RequestRedirect, Response, WorkerGlobalScope},
};

/// How long an endpoint may take to answer.
const MILLISECONDS: u32 = 10_000;

/// Whom events are told.
pub(crate) trait Receiver {
    /// Most events of one batch.
    const BATCH: u32;
    /// Most batches of one run.
    const ROUNDS: u32;

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
    Queue(Queue),
}

impl Receiver for Told {
    /// A worker has six connections at once.
    const BATCH: u32 = 6;
    const ROUNDS: u32 = 4;

    async fn tell(&self, events: &[Event]) -> Vec<Result<(), String>> {
        match self {
            Self::Endpoint(webhook) => {
                join_all(events.iter().map(|event| post(webhook, event))).await
            }
            Self::Queue(queue) => {
                let outcome = send(queue, events).await;
                vec![outcome; events.len()]
            }
        }
    }
}

/// Sends one event. Only a 2xx means that it arrived; a redirect is not followed, so that what is signed for one host goes to no
/// other.
async fn post(webhook: &Webhook, event: &Event) -> Result<(), String> {
    let now = clock::now().unix_timestamp();
    let fields = Headers::new().map_err(broken)?;
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", "keepsake"),
        ("webhook-id", &event.id),
        ("webhook-timestamp", &now.to_string()),
        (
            "webhook-signature",
            &webhook.keys.sign(&event.id, now, &event.body),
        ),
    ] {
        fields.set(name, value).map_err(broken)?;
    }
    let init = RequestInit::new();
    init.set_method("POST");
    init.set_headers(&fields);
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(Some(&AbortSignal::timeout_with_u32(MILLISECONDS)));
    init.set_body(&JsValue::from_str(&event.body));
    let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
    let response = JsFuture::from(scope.fetch_with_str_and_init(webhook.url.as_str(), &init))
        .await
        .map_err(broken)?;
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
fn broken(_: JsValue) -> String {
    "no answer".to_owned()
}

/// Sends a batch, as a whole.
async fn send(queue: &Queue, events: &[Event]) -> Result<(), String> {
    let mut batch = BatchMessageBuilder::new();
    for event in events {
        let message = js_sys::Object::new();
        for (name, value) in [
            ("id", JsValue::from_str(&event.id)),
            ("event", JSON::parse(&event.body).map_err(broken)?),
        ] {
            js_sys::Reflect::set(&message, &name.into(), &value).map_err(broken)?;
        }
        let message = RawMessageBuilder::new(message.into());
        batch = batch.message(message.build_with_content_type(worker::QueueContentType::Json));
    }
    queue
        .send_raw_batch(batch.build())
        .await
        .map_err(|error| format!("the queue refused: {error}"))
}
