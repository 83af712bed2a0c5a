//! Events of the bucket's objects, through a queue
//! (<https://developers.cloudflare.com/r2/buckets/event-notifications/>).

use keepsake_service::{
    db::Database,
    jobs::{Handled, handle},
    storage::Storage,
};
use worker::{
    MessageBatch, MessageExt, RawMessage,
    js_sys::{JSON, JsString},
};

/// Handles the messages of a batch, one after the other.
pub(crate) async fn take(
    batch: &MessageBatch<()>,
    database: &impl Database,
    storage: &impl Storage,
    max_pixels: u64,
) {
    for message in batch.raw_iter() {
        // What is not JSON is no event.
        let text = text(&message).unwrap_or_default();
        match handle(&text, database, storage, max_pixels).await {
            Handled::Done => message.ack(),
            Handled::Retry => message.retry(),
        }
    }
}

fn text(message: &RawMessage) -> Option<String> {
    let text: JsString = JSON::stringify(&message.body()).ok()?;
    text.as_string()
}
