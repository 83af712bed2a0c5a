//! Why a row cannot be restored, as errors and answers tell it.

use pgrx::PgSqlErrorCode;
use serde::Serialize;
use serde_json::Value;

/// One reason why a row cannot be restored. What the caller could not read himself is null.
#[derive(Clone, Debug, Serialize)]
pub struct Conflict {
    /// `unique`, `exclusion`, `parent_deleted` or `parent_missing`; of archived rows also `not_null`, `check`, `no_partition` or
    /// `no_conversion`.
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
    /// The deletion that has the parent, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_id: Option<String>,
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
                PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION => "not_null",
                PgSqlErrorCode::ERRCODE_CHECK_VIOLATION if constraint.is_none() => "no_partition",
                PgSqlErrorCode::ERRCODE_CHECK_VIOLATION => "check",
                _ => "parent_missing",
            },
            table,
            key: Value::Null,
            constraint,
            values: Value::Null,
            holder: Value::Null,
            deletion_id: None,
        }
    }
}
