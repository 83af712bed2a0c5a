//! A session that runs what it is told, and looks whether each call of Keepsake leaves it as it was.

use std::time::Duration;

use anyhow::{Result, bail};
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::timeout;

use crate::errors;
use crate::known::Known;
use crate::server::Server;
use crate::statement::{Act, Statement};
use crate::tally::Tally;
use crate::world::Role;

/// Longer than the limits that are set for a statement. What takes so long has turned them off, or nests triggers that do much: it is
/// ended, and only what cannot be ended is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a session is told to end, twice a second.
const ENDINGS: u32 = 40;

/// Who the session is, and its settings.
const STATE: &str = "
SELECT 'role ' || current_user || ' of ' || session_user
UNION ALL SELECT name || ' = ' || setting FROM pg_catalog.pg_settings WHERE source NOT IN ('default', 'override') AND name NOT LIKE 'keepsake.%'
    AND name NOT IN ('search_path', 'work_mem', 'DateStyle', 'row_security')
ORDER BY 1";

/// The same, and what it holds open, and the settings that hostile code sets. An owner's own code may leave that behind when he calls himself, as it does when
/// he writes to his table.
const STATE_OF_OTHERS: &str = "
SELECT 'role ' || current_user || ' of ' || session_user
UNION ALL SELECT name || ' = ' || setting FROM pg_catalog.pg_settings WHERE source NOT IN ('default', 'override') AND name NOT LIKE 'keepsake.%'
UNION ALL SELECT 'cursor ' || name FROM pg_catalog.pg_cursors WHERE name NOT LIKE '<%'
UNION ALL SELECT 'prepared ' || name FROM pg_catalog.pg_prepared_statements WHERE from_sql
UNION ALL SELECT 'listens to ' || c FROM pg_catalog.pg_listening_channels() AS c
UNION ALL SELECT 'temporary ' || relname FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
ORDER BY 1";

pub struct Session {
    pub role: Role,
    database: String,
    connection: Option<PgConnection>,
    in_transaction: bool,
    /// The transaction can do nothing any more but end.
    failed: bool,
    tally: Tally,
    known: Known,
}

/// What came of a statement.
enum Answer {
    Done,
    /// The server refused it.
    Refused,
    /// The session is over.
    Ended,
}

impl Session {
    pub const fn new(role: Role, database: String, tally: Tally, known: Known) -> Self {
        Self {
            role,
            database,
            connection: None,
            in_transaction: false,
            failed: false,
            tally,
            known,
        }
    }

    /// Ends the sessions of this role in this database that still work on a statement.
    async fn end_unanswered(&self, server: &Server) -> Result<()> {
        *self
            .tally
            .counts()
            .errors
            .entry("no answer".into())
            .or_default() += 1;
        let mut superuser = server.superuser(&self.database).await?;
        for _ in 0..ENDINGS {
            let left: i64 = sqlx::query_scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename = $1 AND state = 'active'",
            )
            .bind(self.role.name())
            .fetch_one(&mut superuser)
            .await?;
            if left == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("a statement without an answer after {PATIENCE:?} cannot be ended")
    }

    /// Runs a statement; an error says what must not be. Says whether the session goes on.
    pub async fn perform(&mut self, server: &Server, statement: &Statement) -> Result<bool> {
        if self.connection.is_none() {
            self.in_transaction = false;
            self.failed = false;
            match server.connect(self.role.name(), &self.database).await {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => return Ok(false),
            }
        }
        let goes_back = statement.sql().starts_with("ROLLBACK TO");
        let ends = matches!(statement.act, Act::End(_));
        if self.failed && !goes_back && !ends {
            return Ok(true);
        }
        let guarded = self.in_transaction && statement.guarded && !ends;
        if guarded {
            self.quietly("SAVEPOINT fuzz").await;
        }
        let before = if statement.is_call {
            self.state().await
        } else {
            None
        };
        let answer = match timeout(PATIENCE, self.send(statement)).await {
            Ok(answer) => answer?,
            Err(_) => {
                self.end_unanswered(server).await?;
                Answer::Ended
            }
        };
        match answer {
            Answer::Ended => {
                self.connection = None;
                self.tally.counts().ended_sessions += 1;
                return Ok(false);
            }
            Answer::Done if goes_back => self.failed = false,
            Answer::Done if guarded => self.quietly("RELEASE fuzz").await,
            Answer::Refused if guarded => self.quietly("ROLLBACK TO fuzz").await,
            Answer::Refused => self.failed = self.in_transaction,
            Answer::Done => {}
        }
        match statement.act {
            Act::Begin(_) => self.in_transaction = true,
            Act::End(_) => (self.in_transaction, self.failed) = (false, false),
            _ => {}
        }
        if let (Some(before), false) = (before, self.failed)
            && let Some(after) = self.state().await
            && before != after
        {
            let what = format!(
                "a call changed its session: {}",
                difference(&before, &after)
            );
            if !self.known.meet(&what) {
                bail!("{what}");
            }
        }
        Ok(self.connection.is_some())
    }

    async fn send(&mut self, statement: &Statement) -> Result<Answer> {
        {
            let mut counts = self.tally.counts();
            counts.statements += 1;
            counts.calls += u64::from(statement.is_call);
        }
        let Some(connection) = &mut self.connection else {
            return Ok(Answer::Ended);
        };
        let sent = match &statement.act {
            Act::Run(sql) => run(connection, sql).await,
            Act::Begin(isolation) => {
                run(connection, &format!("BEGIN ISOLATION LEVEL {isolation}")).await
            }
            Act::End(how) => run(connection, how).await,
            Act::CopyIn { sql, data } => copy_in(connection, sql, data).await,
            Act::CopyOut(sql) => copy_out(connection, sql).await,
        };
        let Err(error) = sent else {
            return Ok(Answer::Done);
        };
        let Some(error) = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        else {
            return Ok(Answer::Ended);
        };
        *self
            .tally
            .counts()
            .errors
            .entry(error.code().to_owned())
            .or_default() += 1;
        let refused = errors::wrong_refusal(error).filter(|_| statement.must_answer);
        if let Some(wrong) = errors::wrong(error).or(refused)
            && !self.known.meet(&wrong)
        {
            bail!("{wrong}");
        }
        // After a COPY that failed the driver no longer knows which answer belongs to which question.
        let is_copy = matches!(statement.act, Act::CopyIn { .. } | Act::CopyOut(_));
        // `admin_shutdown`, `crash_shutdown` and `cannot_connect_now`.
        let is_over = is_copy || matches!(error.code(), "57P01" | "57P02" | "57P03");
        Ok(if is_over {
            Answer::Ended
        } else {
            Answer::Refused
        })
    }

    /// For what belongs to the test; when it fails, the session shows it soon enough.
    async fn quietly(&mut self, sql: &str) {
        if let Some(connection) = &mut self.connection
            && run(connection, sql).await.is_err()
        {
            self.failed = self.in_transaction;
        }
    }

    async fn state(&mut self) -> Option<Vec<String>> {
        let connection = self.connection.as_mut()?;
        let state = match self.role.schema() {
            Some(_) => STATE,
            None => STATE_OF_OTHERS,
        };
        match sqlx::raw_sql(state).fetch_all(connection).await {
            Ok(rows) => rows.iter().map(|row| row.try_get(0).ok()).collect(),
            Err(_) => {
                self.failed = self.in_transaction;
                None
            }
        }
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn copy_in(connection: &mut PgConnection, sql: &str, data: &str) -> sqlx::Result<()> {
    let mut copy = connection.copy_in_raw(sql).await?;
    copy.send(data.as_bytes()).await?;
    copy.finish().await?;
    Ok(())
}

async fn copy_out(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    use futures_util::TryStreamExt as _;
    let mut rows = connection.copy_out_raw(sql).await?;
    while rows.try_next().await?.is_some() {}
    Ok(())
}

fn difference(before: &[String], after: &[String]) -> String {
    let gone = before.iter().filter(|line| !after.contains(line));
    let come = after.iter().filter(|line| !before.contains(line));
    let lines: Vec<String> = gone
        .map(|line| format!("no longer {line}"))
        .chain(come.map(|line| format!("now {line}")))
        .collect();
    lines.join("; ")
}
