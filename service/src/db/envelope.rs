//! The envelope of an answer: `{"ok": …}`, `{"error": {"code", "detail", …}}` with a code of
//! `keepsake_shared::error`, or `{"outdated": version}` from [`Call::statement`](super::Call).

use super::{DbError, Refusal};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Envelope {
    Ok(Value),
    Error(Refusal),
    /// The schema is too old; its version, if it has any.
    Outdated(Option<i64>),
}

/// Opens the envelope of an answer. Whatever answers otherwise is not our database.
pub(super) fn open(text: &str) -> Result<Value, DbError> {
    match serde_json::from_str(text) {
        Ok(Envelope::Ok(value)) => Ok(value),
        Ok(Envelope::Error(refusal)) => Err(DbError::Refused(refusal)),
        Ok(Envelope::Outdated(version)) => Err(DbError::SchemaOutdated(version)),
        Err(error) => Err(DbError::Unavailable(format!(
            "the answer of a SQL function cannot be read: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepsake_shared::ErrorCode;
    use serde_json::json;

    #[test]
    fn opens_envelopes() {
        assert_eq!(open(r#"{"ok":{"id":1}}"#), Ok(json!({"id": 1})));
        let refused = open(r#"{"error":{"code":"not_found","detail":"There is no such upload."}}"#);
        assert!(
            matches!(refused, Err(DbError::Refused(refusal)) if refusal.code == ErrorCode::NotFound)
        );
        assert_eq!(
            open(r#"{"outdated":3}"#),
            Err(DbError::SchemaOutdated(Some(3)))
        );
        assert_eq!(
            open(r#"{"outdated":null}"#),
            Err(DbError::SchemaOutdated(None))
        );
        for broken in [
            "",
            "null",
            "{}",
            r#"{"error":{"code":"no_such_code","detail":""}}"#,
            r#"{"ok":1,"error":2}"#,
        ] {
            assert!(
                matches!(open(broken), Err(DbError::Unavailable(_))),
                "{broken}"
            );
        }
    }
}
