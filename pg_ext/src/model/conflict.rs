//! Why a row cannot be restored, as errors and answers tell it.

use pgrx::PgSqlErrorCode;
use serde::Serialize;
use serde_json::Value;

/// One reason why a row cannot be restored. What the caller could not read himself is null.
#[derive(Clone, Debug, Serialize)]
pub struct Conflict {
    /// `unique`, `exclusion`, `parent_deleted` or `parent_missing`.
    pub kind: &'static str,
    /// The table of the row that would come back.
    pub table: String,
    /// That row's key.
    pub key: Value,
    /// The index, exclusion constraint or reference that would be broken; null where PostgreSQL
    /// named none in a race that it decided.
    pub constraint: Option<String>,
    /// The values that clash.
    pub values: Value,
    /// The key of the row that holds the place, or of the deleted parent.
    pub holder: Value,
}

impl Conflict {
    /// All of them as one JSON array.
    pub fn to_json(conflicts: &[Self]) -> Value {
        serde_json::to_value(conflicts).unwrap_or(Value::Null)
    }

    /// What a race left behind that PostgreSQL itself decided: no more than the error names.
    pub fn from_error(code: PgSqlErrorCode, table: String, constraint: Option<String>) -> Self {
        Self {
            kind: match code {
                PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION => "unique",
                PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION => "exclusion",
                _ => "parent_missing",
            },
            table,
            key: Value::Null,
            constraint,
            values: Value::Null,
            holder: Value::Null,
        }
    }
}
