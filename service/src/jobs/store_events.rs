//! Events of the store's objects, through a queue
//! (<https://developers.cloudflare.com/r2/buckets/event-notifications/>): an upload is completed even when its client has
//! gone. A message may arrive more than once, late or never; nothing depends on it.

use crate::{
    db::{Database, SystemFunction},
    log::{self, Level},
    storage::Storage,
    upload::{OpenUpload, Outcome, UploadError},
};
use keepsake_shared::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};

/// The part of a message that matters here.
#[derive(Debug, Deserialize)]
struct Event {
    action: String,
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Object {
    key: String,
}

impl Event {
    /// The object that was created, if it can be one of ours.
    fn created(&self) -> Option<ObjectKey> {
        let creating = ["PutObject", "CopyObject", "CompleteMultipartUpload"];
        creating
            .contains(&self.action.as_str())
            .then(|| ObjectKey::parse(&self.object.key).ok())
            .flatten()
    }
}

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It is done with.
    Done,
    /// It is to be delivered again.
    Retry,
}

/// Handles a message, which is JSON.
///
/// 1. One that cannot be read is logged and not retried.
/// 2. One about anything but a new object of an open upload is skipped.
/// 3. The upload is completed as its client would complete it. A file that is missing will have a message of its own; what
///    is wrong is recorded with the upload.
/// 4. When the database or the store does not answer, the message is retried.
pub async fn handle(
    message: &str,
    database: &impl Database,
    storage: &impl Storage,
    max_pixels: u64,
) -> Handled {
    let Ok(event) = serde_json::from_str::<Event>(message) else {
        write(Level::Error, "malformed", &Value::Null);
        return Handled::Done;
    };
    let done = match event.created() {
        Some(key) => complete(database, storage, max_pixels, &key).await,
        None => Ok(()),
    };
    match done {
        Ok(()) => Handled::Done,
        Err(error) => {
            write(Level::Error, "retried", &json!(format!("{error:?}")));
            Handled::Retry
        }
    }
}

/// # Errors
/// What may succeed later.
async fn complete(
    database: &impl Database,
    storage: &impl Storage,
    max_pixels: u64,
    key: &ObjectKey,
) -> Result<(), UploadError> {
    let request = json!({ "object_key": key });
    let found: Option<OpenUpload> = database
        .read_for_system(SystemFunction::FindOpenUpload, request)
        .await?;
    let Some(upload) = found else {
        return Ok(());
    };
    let id = upload.upload_id;
    match upload.complete(database, storage, max_pixels).await? {
        Outcome::Completed => write(Level::Info, "completed", &json!(id)),
        Outcome::Waiting => {}
        Outcome::Refused(code) => write(Level::Info, code.as_str(), &json!(id)),
    }
    Ok(())
}

fn write(level: Level, outcome: &str, about: &Value) {
    log::write(
        level,
        "store_event",
        json!({ "outcome": outcome, "about": about }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        db::DbError,
        fakes::{MAX_PIXELS, MemoryStorage, ScriptedDatabase},
    };
    use futures_util::FutureExt;
    use keepsake_shared::ErrorCode;

    const KEY: &str = "t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000001.png";

    fn created(action: &str, key: &str) -> Option<ObjectKey> {
        let event = json!({
            "account": "0123456789abcdef",
            "action": action,
            "bucket": "keepsake",
            "object": { "key": key, "size": 12, "eTag": "0123" },
            "eventTime": "2026-11-21T12:00:00.000Z",
        });
        let event: Event = serde_json::from_value(event).unwrap();
        event.created()
    }

    #[test]
    fn knows_what_creates_an_object() {
        for (action, is_made) in [
            ("PutObject", true),
            ("CopyObject", true),
            ("CompleteMultipartUpload", true),
            ("DeleteObject", false),
            ("LifecycleDeletion", false),
            ("", false),
        ] {
            assert_eq!(created(action, KEY).is_some(), is_made, "{action}");
        }
        for key in ["", "t/acme/../x", "other/file.png"] {
            assert!(created("PutObject", key).is_none(), "{key}");
        }
    }

    fn completed(
        answers: impl IntoIterator<Item = Result<Value, DbError>>,
    ) -> Result<(), ErrorCode> {
        let database = ScriptedDatabase::new(answers);
        let key = ObjectKey::parse(KEY).unwrap();
        complete(&database, &MemoryStorage::default(), MAX_PIXELS, &key)
            .now_or_never()
            .unwrap()
            .map_err(|error| error.code())
    }

    #[test]
    fn an_object_of_no_open_upload_is_skipped() {
        assert_eq!(completed([Ok(Value::Null)]), Ok(()));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_retried() {
        for other in [
            json!({}),
            json!([]),
            json!("null"),
            json!({ "upload_id": "x", "tenant": "acme", "subject": "ada" }),
            json!({ "upload_id": "0198f7d0-1111-7aaa-8bbb-000000000001", "tenant": "acme" }),
        ] {
            assert_eq!(completed([Ok(other)]), Err(ErrorCode::Internal));
        }
    }

    #[test]
    fn a_database_that_fails_is_retried() {
        let down = Err(DbError::Unavailable("down".to_owned()));
        assert_eq!(completed([down]), Err(ErrorCode::DatabaseUnavailable));
    }
}
