//! Failures: what happened, why, what to do, and the exit code.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// The exit codes. They are part of the program's interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done, without findings.
    Ok = 0,
    /// Done, with findings; or not done, because the state of the database, or of the machine, prevents it.
    Findings = 1,
    /// The arguments or the settings are wrong.
    Usage = 2,
    /// The database cannot be reached, or refused a statement.
    Database = 3,
    /// Done, but the result could not be written.
    Unwritten = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No database is given.
    #[error(
        "error: no database is given\n  hint: pass --database-url, or set DATABASE_URL to postgres://user@host:5432/database"
    )]
    NoDatabase,
    /// The URL of the database is invalid. The error does not repeat it, because it may contain a password.
    #[error(
        "error: the URL of the database is invalid\n  why: {why}\n  hint: use the form postgres://user@host:5432/database?sslmode=verify-full"
    )]
    BadAddress {
        /// What is wrong with it.
        why: String,
    },
    /// No connection.
    #[error(
        "error: cannot connect to {place}\n  why: {why}\n  hint: check that the server runs, that host, port, database, user and password are correct, and that pg_hba.conf admits this machine"
    )]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// The driver's message.
        why: String,
    },
    /// The state of the database prevents it.
    #[error("error: {what}\n  why: {why}\n  hint: {hint}")]
    Prevented {
        /// What failed.
        what: String,
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The service does not run.
    #[error("error: the server cannot run\n  why: {why}\n  hint: {hint}")]
    NotServed {
        /// The exit code, by what kept it from running.
        exit: Exit,
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The command did its work, but its result could not be written.
    #[error(
        "error: the command is done, but its result could not be written to standard output\n  why: {why}\n  {}",
        shown(.result.as_deref())
    )]
    Unwritten {
        /// Why.
        why: String,
        /// The result, if it is short.
        result: Option<String>,
    },
    /// The server refused a statement.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The connection was lost.
    #[error(
        "error: the connection to the database was lost\n  why: {0}\n  hint: read the server's log; the unfinished transaction was rolled back, so the command can be repeated"
    )]
    Broken(String),
}

/// What the server said about a statement that it refused.
#[derive(Debug)]
pub struct Refusal {
    message: String,
    state: String,
    detail: Option<String>,
    hint: Option<String>,
    place: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n  SQLSTATE: {}", self.message, self.state)?;
        for (name, text) in [
            ("DETAIL", &self.detail),
            ("HINT", &self.hint),
            ("CONTEXT", &self.place),
        ] {
            if let Some(text) = text {
                write!(f, "\n  {name}: {}", text.replace('\n', "\n    "))?;
            }
        }
        Ok(())
    }
}

impl Refusal {
    fn of(error: &PgDatabaseError) -> Self {
        Self {
            message: error.message().to_owned(),
            state: error.code().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            place: (error.severity() == PgSeverity::Panic).then(|| "the server crashed".to_owned()),
        }
    }

    /// Other rows prevent it: the same command may succeed later.
    fn is_conflict(&self) -> bool {
        // integrity_constraint_violation and what belongs to it; object_not_in_prerequisite_state: purged, held; a tenant that is
        // held whole.
        self.state.starts_with("23") || matches!(self.state.as_str(), "55000" | "KS004")
    }
}

/// What to do about a result that was not written.
fn shown(result: Option<&str>) -> String {
    match result {
        Some(result) => format!("result: {result}"),
        None => {
            "hint: see what it did before you repeat it, with standard output elsewhere".to_owned()
        }
    }
}

impl Failure {
    /// A result that was not written. A short one, such as the number of a hold, is told with it.
    #[must_use]
    pub fn unwritten(why: String, result: &str) -> Self {
        let line = result.trim_end();
        let is_short = !line.is_empty() && !line.contains('\n') && line.len() <= 1000;
        Self::Unwritten {
            why,
            result: is_short.then(|| line.to_owned()),
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoDatabase | Self::BadAddress { .. } => Exit::Usage,
            Self::Prevented { .. } => Exit::Findings,
            Self::NotServed { exit, .. } => *exit,
            Self::Unwritten { .. } => Exit::Unwritten,
            Self::Refused(refusal) if refusal.is_conflict() => Exit::Findings,
            Self::Refused(_) | Self::Unreachable { .. } | Self::Broken(_) => Exit::Database,
        }
    }

    /// The failure as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self::Refused(refusal) = self else {
            return json!({"error": {"message": self.to_string()}});
        };
        // A restore lists its conflicts as JSON.
        let detail = refusal.detail.as_deref().map(|detail| {
            serde_json::from_str::<Value>(detail).unwrap_or_else(|_| Value::from(detail))
        });
        json!({"error": {
            "message": refusal.message, "sqlstate": refusal.state, "detail": detail, "hint": refusal.hint}})
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        {
            Some(refused) => Self::Refused(Box::new(Refusal::of(refused))),
            None => Self::Broken(error.to_string()),
        }
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        let prevented = |what: &str, why: String, hint: &str| Self::Prevented {
            what: what.to_owned(),
            why,
            hint: hint.to_owned(),
        };
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMismatch(version) => prevented(
                "cannot migrate the schema",
                format!(
                    "migration {version} was applied with a different text than in this program"
                ),
                "use the release of keepsake that migrated the database",
            ),
            MigrateError::VersionMissing(version) => prevented(
                "cannot migrate the schema",
                format!(
                    "the database is newer than this program, which does not have its migration {version}"
                ),
                "use the newest release of keepsake",
            ),
            other => prevented(
                "cannot migrate the schema",
                other.to_string(),
                "fix the cause and run keepsake migrate again",
            ),
        }
    }
}
