//! What went wrong: what happened, why, and what to do; and the code that the program leaves with.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// How the program leaves. The numbers are part of its interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done, and nothing was found.
    Ok = 0,
    /// Done, with findings; or not done, as something stands in the way.
    Findings = 1,
    /// The call makes no sense.
    Usage = 2,
    /// The database cannot be reached, or refused.
    Database = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no address of a database.
    #[error(
        "error: no database is named\n  hint: give --database-url, or set DATABASE_URL to postgres://user@host:5432/database"
    )]
    NoDatabase,
    /// The address of the database cannot be read. It is not repeated: it may hold a password.
    #[error(
        "error: the address of the database cannot be read\n  why: {why}\n  hint: its form is postgres://user@host:5432/database?sslmode=verify-full"
    )]
    BadAddress {
        /// What is wrong with it.
        why: String,
    },
    /// No connection.
    #[error(
        "error: cannot connect to {place}\n  why: {why}\n  hint: is the server running, are host, port, user and password right, and does it let this machine in?"
    )]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// What the driver says.
        why: String,
    },
    /// Something in the database stands in the way, and what to do about it.
    #[error("error: {what}\n  why: {why}\n  hint: {hint}")]
    InTheWay {
        /// What was not done.
        what: String,
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The server refused a statement.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The connection broke.
    #[error(
        "error: the connection to the database broke\n  why: {0}\n  hint: look at the server's log; what was done in a transaction that did not end is undone"
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

    /// Rows stand in the way: what the caller asked for is possible when they do not.
    fn is_conflict(&self) -> bool {
        // integrity_constraint_violation and what belongs to it; object_not_in_prerequisite_state: purged, held.
        self.state.starts_with("23") || self.state == "55000"
    }
}

impl Failure {
    /// The code that the program leaves with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoDatabase | Self::BadAddress { .. } => Exit::Usage,
            Self::InTheWay { .. } => Exit::Findings,
            Self::Refused(refusal) if refusal.is_conflict() => Exit::Findings,
            Self::Refused(_) | Self::Unreachable { .. } | Self::Broken(_) => Exit::Database,
        }
    }

    /// The same for machines.
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
        let in_the_way = |what: &str, why: String, hint: &str| Self::InTheWay {
            what: what.to_owned(),
            why,
            hint: hint.to_owned(),
        };
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMismatch(version) => in_the_way(
                "the schema was not migrated",
                format!("migration {version} was applied with another text than this program has"),
                "use the release of keepsake that the database was migrated with, or restore that migration",
            ),
            MigrateError::VersionMissing(version) => in_the_way(
                "the schema was not migrated",
                format!(
                    "migration {version} was applied, and this program does not have it: the database is newer"
                ),
                "use the newest release of keepsake that the database was migrated with",
            ),
            other => in_the_way(
                "the schema was not migrated",
                other.to_string(),
                "see docs/operations.md",
            ),
        }
    }
}
