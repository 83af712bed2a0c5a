//! The queue that events go to
//! (<https://developers.cloudflare.com/queues/configuration/javascript-apis/#queue>).

use keepsake_service::{
    receiver::{Event, Receiver},
    runtime::Task,
};
use worker::{
    js_sys::{Array, Function, JSON, Object, Promise, Reflect},
    send::{SendFuture, SendWrapper},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
};

/// A queue that is bound.
#[derive(Debug)]
pub(crate) struct EventQueue(SendWrapper<JsValue>);

impl EventQueue {
    /// The binding, if it is one.
    pub(crate) fn of(binding: JsValue) -> Option<Self> {
        binding.is_object().then(|| Self(SendWrapper::new(binding)))
    }
}

impl Receiver for EventQueue {
    /// As many as a queue takes.
    fn batch(&self) -> u32 {
        100
    }

    fn tell<'a>(&'a self, events: &'a [Event]) -> Task<'a, Vec<Result<(), String>>> {
        Box::pin(SendFuture::new(async move {
            let sent = send(&self.0.0, events).await;
            let outcome = sent.map_err(|_| "the queue took none".to_owned());
            vec![outcome; events.len()]
        }))
    }
}

/// Sends a batch, as a whole.
async fn send(queue: &JsValue, events: &[Event]) -> Result<(), JsValue> {
    let batch = Array::new();
    for event in events {
        let body = object(&[
            ("id", JsValue::from_str(&event.id)),
            ("event", JSON::parse(&event.body)?),
        ])?;
        batch.push(&object(&[("body", body)])?);
    }
    let send_batch: Function = Reflect::get(queue, &"sendBatch".into())?.dyn_into()?;
    let sent: Promise = send_batch.call1(queue, &batch)?.dyn_into()?;
    JsFuture::from(sent).await.map(|_| ())
}

fn object(members: &[(&str, JsValue)]) -> Result<JsValue, JsValue> {
    let object = Object::new();
    for (name, value) in members {
        Reflect::set(&object, &(*name).into(), value)?;
    }
    Ok(object.into())
}
