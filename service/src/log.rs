//! Structured log lines: one JSON object each. No token, no signed URL and no claim ever goes in.

use crate::runtime;
pub use crate::runtime::Level;
use axum::http::Method;
use keepsake_shared::ErrorCode;
use serde_json::{Value, json};

/// A line that is ready to be written.
#[derive(Debug)]
pub struct Line {
    level: Level,
    text: String,
}

/// Writes `event` with `fields` to the log.
pub fn write(level: Level, event: &str, fields: Value) {
    Line::new(level, event, fields).write();
}

impl Line {
    fn new(level: Level, event: &str, mut fields: Value) -> Self {
        if let Some(object) = fields.as_object_mut() {
            object.insert("event".to_owned(), event.into());
        }
        let text = fields.to_string();
        Self { level, text }
    }

    /// Writes it to the log.
    pub fn write(&self) {
        runtime::current().log(self.level, &self.text);
    }
}

/// What the log line of a failed request says.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The stable code.
    pub(crate) code: ErrorCode,
    /// What really happened, if that is not for the client.
    pub(crate) cause: Option<String>,
}

/// One answered request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Its method.
    pub(crate) method: &'a Method,
    /// The route it matched. What matched none is not repeated: anything could stand in it.
    pub(crate) route: Option<&'a str>,
    /// The answer's status.
    pub(crate) status: u16,
    /// Milliseconds from arrival to answer.
    pub(crate) ms: u64,
    /// What went wrong, if anything did.
    pub(crate) failure: Option<&'a Failure>,
}

impl Request<'_> {
    /// What is logged of it; a failure of ours as an error.
    pub(crate) fn line(&self) -> Line {
        let level = if self.status >= 500 {
            Level::Error
        } else {
            Level::Info
        };
        let mut fields = json!({
            "request_id": self.id,
            "method": self.method.as_str(),
            "route": self.route,
            "status": self.status,
            "ms": self.ms,
        });
        if let (Some(failure), Some(object)) = (self.failure, fields.as_object_mut()) {
            object.insert("code".to_owned(), failure.code.as_str().into());
            if let Some(cause) = &failure.cause {
                object.insert("cause".to_owned(), cause.as_str().into());
            }
        }
        Line::new(level, "request", fields)
    }
}

/// Logs a panic as the other failures are logged. It ends the request; the runtime starts the worker
/// anew for the next one.
pub fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        write(Level::Error, "panic", json!({ "place": place }));
    }));
}

/// A path as it may be shown: the token of an object URL is a credential, so it is left out.
pub(crate) fn shown_path(path: &str) -> &str {
    if path.starts_with("/v1/objects/") {
        "/v1/objects/{token}"
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::shown_path;

    #[test]
    fn hides_object_tokens() {
        assert_eq!(shown_path("/v1/objects/secret"), "/v1/objects/{token}");
        assert_eq!(shown_path("/v1/objects/secret/more"), "/v1/objects/{token}");
        assert_eq!(shown_path("/v1/uploads/1"), "/v1/uploads/1");
    }
}
