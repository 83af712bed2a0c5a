//! Why a call has no answer, and what each SQLSTATE means for whoever waits for it.

use keepsake_shared::{ErrorCode, FieldError};
use serde::Deserialize;
use serde_json::Value;
use std::io;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum DbError {
    /// The function refused; the refusal is meant for the client.
    Refused(Refusal),
    /// The database lacks the schema that this worker needs, or has an older version of it: this one, if it has any.
    SchemaOutdated(Option<i64>),
    /// The database cannot be reached or cannot work now. The text is for the log.
    Unavailable(String),
    /// Something that should not happen. The text is for the log.
    Unexpected(String),
}

impl DbError {
    /// The stable code that a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::SchemaOutdated(_) => ErrorCode::SchemaOutdated,
            Self::Unavailable(_) => ErrorCode::DatabaseUnavailable,
            Self::Unexpected(_) => ErrorCode::Internal,
        }
    }
}

/// A refusal as the SQL functions write it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Refusal {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, why, and what to do.
    pub detail: String,
    /// Every wrong field.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// Every conflict of a restore.
    #[serde(default)]
    pub conflicts: Vec<Value>,
    /// The limit that was reached.
    pub quota: Option<Value>,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
}

/// What a SQLSTATE means for whoever waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The transaction lost to another one and was rolled back: retry at once.
    Retry,
    /// The statement names a schema or a function that the database does not have.
    SchemaOutdated,
    /// The connection is gone, and whatever it was to carry with it.
    Lost,
    /// The database cannot do it now.
    Unavailable,
    /// A defect of ours.
    Unexpected,
}

/// A call that did not come through. The cause is for the log.
#[derive(Debug)]
pub struct Failure {
    /// What it means.
    pub trouble: Trouble,
    /// What happened.
    pub cause: String,
}

/// The database cannot do it now, for this reason.
pub fn unavailable(cause: &str) -> Failure {
    Failure {
        trouble: Trouble::Unavailable,
        cause: cause.to_owned(),
    }
}

/// The connection is gone, for this reason.
pub fn lost(cause: &str) -> Failure {
    Failure {
        trouble: Trouble::Lost,
        cause: cause.to_owned(),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        lost(&error.to_string())
    }
}

impl From<Failure> for DbError {
    fn from(failure: Failure) -> Self {
        match failure.trouble {
            Trouble::Retry | Trouble::Lost | Trouble::Unavailable => {
                Self::Unavailable(failure.cause)
            }
            Trouble::SchemaOutdated => Self::SchemaOutdated(None),
            Trouble::Unexpected => Self::Unexpected(failure.cause),
        }
    }
}

/// The one table from SQLSTATE to meaning
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub fn trouble(sqlstate: &str) -> Trouble {
    match sqlstate {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Trouble::Retry,
        // lock_not_available, query_canceled (a statement_timeout), database_dropped
        "55P03" | "57014" | "57P04" => Trouble::Unavailable,
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
        "57P01" | "57P02" | "57P03" | "57P05" => Trouble::Lost,
        // read_only_sql_transaction: a standby while the primary changes
        "25006" => Trouble::Unavailable,
        // connection_exception
        code if code.starts_with("08") => Trouble::Lost,
        // invalid_authorization, invalid_catalog_name, insufficient_resources, system_error
        code if ["28", "3D", "53", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Trouble::Unavailable
        }
        _ => Trouble::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_sqlstates() {
        for (code, want) in [
            ("40001", Trouble::Retry),
            ("40P01", Trouble::Retry),
            ("08006", Trouble::Lost),
            ("28P01", Trouble::Unavailable),
            ("53300", Trouble::Unavailable),
            ("57P01", Trouble::Lost),
            ("42883", Trouble::Unexpected),
            ("23505", Trouble::Unexpected),
            ("XX000", Trouble::Unexpected),
        ] {
            assert_eq!(trouble(code), want, "{code}");
        }
    }
}
