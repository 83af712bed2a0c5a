//! The way to PostgreSQL: one call of one SQL function, one JSON answer.
//!
//! Every function of the schema `attachments_api` takes and returns `jsonb`, sent and received as
//! text, so that only built-in types cross the wire and no type lookup is needed. A function
//! answers `{"ok": …}` or `{"error": {"code", "detail", …}}`; the codes are those of
//! `keepsake_shared::error`.

mod address;
mod conversation;
mod postgres;
mod scram;

pub(crate) use address::{Address, Login};
pub(crate) use postgres::Postgres;

use crate::{auth::Caller, problem::ApiError};
use keepsake_shared::{ErrorCode, FieldError};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Functions that work for a caller, under its claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerFunction {
    CreateUpload,
    GetUpload,
    CompleteUpload,
    RejectUpload,
    AbortUpload,
    FindMultipart,
    BeginMultipart,
    GetUsage,
    ListAttachments,
    GetAttachment,
    AttachmentContent,
    DeleteAttachment,
    DeleteEntity,
    RestoreAttachment,
    RestoreEntity,
    ListEntities,
    GetEntity,
    RenameEntity,
    RenameAttachment,
    ListDeletions,
    GetDeletion,
    RestoreDeletion,
}

/// Functions that work for the worker itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemFunction {
    SweepUploads,
    RecordPart,
    FindOpenUpload,
    LeaseOpenUpload,
    LeaseMultiparts,
    SettleMultiparts,
    Purge,
    LeaseObjects,
    SettleObjects,
    Tidy,
    AuditPlace,
    AuditObjects,
    RecordRun,
    ListRuns,
    RecordScan,
    TakeSample,
    GetHistory,
    GetPurgePlan,
    ListOutbox,
    RetryObject,
    ListHolds,
    PlaceHold,
    ReleaseHold,
    ListFindings,
}

/// One call.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    /// Is the database there?
    Ping,
    /// What an operator watches.
    Metrics,
    /// For a caller.
    Caller {
        /// Which function.
        function: CallerFunction,
        /// Whose claims it runs under.
        caller: &'a Caller,
        /// Its argument.
        request: Value,
    },
    /// For the worker.
    System {
        /// Which function.
        function: SystemFunction,
        /// Its argument.
        request: Value,
    },
}

/// Where calls go. A trait so that the transport can change, and so that what stands on it can be
/// tested without one.
pub(crate) trait Database {
    /// Makes one call in one transaction and answers with what stands under `ok`.
    ///
    /// # Errors
    /// See [`DbError`].
    async fn call(&self, call: Call<'_>) -> Result<Value, DbError>;

    /// Makes a call for a caller.
    async fn for_caller(
        &self,
        function: CallerFunction,
        caller: &Caller,
        request: Value,
    ) -> Result<Value, DbError> {
        self.call(Call::Caller {
            function,
            caller,
            request,
        })
        .await
    }

    /// Makes a call for the worker itself.
    async fn for_system(&self, function: SystemFunction, request: Value) -> Result<Value, DbError> {
        self.call(Call::System { function, request }).await
    }

    /// The same, for what is read of the answer.
    async fn read_for_system<T: DeserializeOwned>(
        &self,
        function: SystemFunction,
        request: Value,
    ) -> Result<T, DbError> {
        let answer = self.for_system(function, request).await?;
        serde_json::from_value(answer)
            .map_err(|error| DbError::Unexpected(format!("{function:?}: {error}")))
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DbError {
    /// The function refused; the refusal is meant for the client.
    Refused(Refusal),
    /// The database cannot be reached or cannot work now. The text is for the log.
    Unavailable(String),
    /// Something that should not happen. The text is for the log.
    Unexpected(String),
}

/// A refusal as the SQL functions write it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Refusal {
    /// The stable code.
    pub(crate) code: ErrorCode,
    /// What happened, why, and what to do.
    pub(crate) detail: String,
    /// What is wrong, by field.
    #[serde(default)]
    pub(crate) errors: Vec<FieldError>,
    #[serde(default)]
    conflicts: Vec<Value>,
    quota: Option<Value>,
    /// Seconds after which the same request may succeed.
    retry_after: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Envelope {
    Ok(Value),
    Error(Refusal),
}

/// Opens the `{"ok"}` or `{"error"}` envelope of an answer. What answers otherwise is not the database that is meant.
fn open(text: &str) -> Result<Value, DbError> {
    match serde_json::from_str(text) {
        Ok(Envelope::Ok(value)) => Ok(value),
        Ok(Envelope::Error(refusal)) => Err(DbError::Refused(refusal)),
        Err(error) => Err(DbError::Unavailable(format!(
            "the answer of a SQL function cannot be read: {error}"
        ))),
    }
}

/// What a SQLSTATE means for the one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The transaction lost to another and was rolled back: it may be tried again at once.
    Retry,
    /// The connection is gone, and whatever it was to carry with it.
    Lost,
    /// The database cannot do it now.
    Unavailable,
    /// A defect of ours.
    Unexpected,
}

/// A call that did not come through. The cause is for the log.
#[derive(Debug)]
struct Failure {
    trouble: Trouble,
    cause: String,
}

fn unavailable(cause: &str) -> Failure {
    Failure {
        trouble: Trouble::Unavailable,
        cause: cause.to_owned(),
    }
}

impl From<Failure> for DbError {
    fn from(failure: Failure) -> Self {
        match failure.trouble {
            Trouble::Retry | Trouble::Lost | Trouble::Unavailable => {
                Self::Unavailable(failure.cause)
            }
            Trouble::Unexpected => Self::Unexpected(failure.cause),
        }
    }
}

/// The one table from SQLSTATE to meaning
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn trouble(sqlstate: &str) -> Trouble {
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

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused(refusal) => {
                let error = Self::new(refusal.code, refusal.detail)
                    .with_errors(refusal.errors)
                    .with_conflicts(refusal.conflicts)
                    .with_quota(refusal.quota);
                match refusal.retry_after {
                    Some(seconds) => error.with_header("retry-after", seconds.into()),
                    None => error,
                }
            }
            DbError::Unavailable(cause) => Self::new(
                ErrorCode::DatabaseUnavailable,
                "The database cannot be reached just now. Nothing was lost: try again in a moment.",
            )
            .with_cause(cause),
            DbError::Unexpected(cause) => Self::internal(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn opens_envelopes() {
        assert_eq!(open(r#"{"ok":{"id":1}}"#), Ok(json!({"id": 1})));
        let refused = open(r#"{"error":{"code":"not_found","detail":"There is no such upload."}}"#);
        assert!(
            matches!(refused, Err(DbError::Refused(refusal)) if refusal.code == ErrorCode::NotFound)
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
