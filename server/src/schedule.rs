//! The work that nobody waits for, every few minutes: one server of those that share a database does it.

use crate::{
    host::Server,
    traces::{Kind, Span},
};
use keepsake_service::{
    Host, jobs,
    log::{self, Level},
    receiver, storage,
};
use serde_json::json;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Locks the row of the schedule, for as long as the transaction lives. It is open while the work is done.
const LEAD: &str = "SELECT (attachments_api.lead_schedule('{}'::jsonb) #>> '{ok,leads}')::boolean";

/// The transaction, which waits for as long as the work takes. It must not outlive this server: if its machine or the network is
/// gone, nothing closes the connection. So the database asks whether this end is there. A pool would answer in its place, and there
/// the transaction ends after an hour. Work that takes longer loses the lock, which is safe.
const BEGIN: &str = "BEGIN; SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; \
    SET LOCAL tcp_keepalives_count = 3; SET LOCAL idle_in_transaction_session_timeout = '1h'";

/// How many times in a row another server does the work before that looks wrong: mostly it takes seconds.
const OFTEN: u32 = 3;

/// Longest wait for an answer about the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the work that is done once waits for another server's to end, and how often it looks.
const MAX_WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Why the work was not done.
#[derive(Debug)]
pub enum Undone {
    /// Another server does it.
    Led,
    /// The database cannot be reached, or refused a statement.
    Database(String),
    /// The store or the settings.
    Failed(String),
}

impl fmt::Display for Undone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Led => out.write_str("another server does the scheduled work"),
            Self::Database(cause) | Self::Failed(cause) => out.write_str(cause),
        }
    }
}

impl From<String> for Undone {
    fn from(cause: String) -> Self {
        Self::Failed(cause)
    }
}

/// Does the work over and over.
pub(crate) async fn run(server: Arc<Server>, every: Duration) {
    let mut led = 0;
    loop {
        // Nobody waits for it, and servers that start together do not ask together.
        tokio::time::sleep(every).await;
        match try_once(&server).await {
            Ok(()) => led = 0,
            Err(Undone::Led) => {
                led += 1;
                let (level, cause) = about_another(led);
                log::write(level, "cron", json!({ "cause": cause }));
            }
            Err(Undone::Database(cause) | Undone::Failed(cause)) => {
                led = 0;
                log::write(Level::Error, "cron", json!({ "cause": cause }));
            }
        }
    }
}

/// What the log says when another server did the work this many times in a row.
fn about_another(times: u32) -> (Level, String) {
    let cause = Undone::Led.to_string();
    if times < OFTEN {
        return (Level::Info, cause);
    }
    let cause = format!(
        "{cause}, {times} times in a row: if none does, pg_locks shows which session has locked attachments.schedule"
    );
    (Level::Warning, cause)
}

/// Does the work once, after another server that is at it.
///
/// # Errors
/// The database's, or the other did not come to its end.
pub(crate) async fn run_once(server: &Arc<Server>) -> Result<(), Undone> {
    let mut waited = Duration::ZERO;
    loop {
        match try_once(server).await {
            Err(Undone::Led) if waited < MAX_WAIT => {}
            done => return done,
        }
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// Does the work, unless another server does it, and traces it.
async fn try_once(server: &Arc<Server>) -> Result<(), Undone> {
    let span = Span::begin(Kind::Internal, || ("schedule".into(), Vec::new()));
    let ended = span.around(work(server)).await;
    match &ended {
        Ok(()) => span.add("keepsake.schedule.outcome", "done"),
        Err(Undone::Led) => span.add("keepsake.schedule.outcome", "done by another server"),
        Err(Undone::Database(_) | Undone::Failed(_)) => span.fail("failed"),
    }
    ended
}

/// Does the work, unless another server does it.
///
/// 1. Become the leader: the lock belongs to a connection's transaction, and ends with it, however this server ends.
/// 2. The service's steps.
/// 3. What broken-off uploads left in the folder of files is removed.
async fn work(server: &Arc<Server>) -> Result<(), Undone> {
    let _leading = lead(server).await?;
    let config = server.config.as_ref().map_err(ToString::to_string)?;
    let storage = storage(config, server.as_ref())?;
    let told = receiver(config, server.as_ref());
    jobs::run(
        &server.database()?,
        &storage,
        config.max_image_pixels,
        told.as_deref(),
    )
    .await;
    if let Some(files) = &server.files {
        files.tidy().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The lock, as the connection that has it.
async fn lead(server: &Arc<Server>) -> Result<impl Sized, Undone> {
    let connection = server.postgres.connection().await;
    let connection = connection.map_err(|failure| Undone::Database(failure.cause))?;
    // Not given back, so that the lock never stays behind in the pool.
    let connection = deadpool_postgres::Object::take(connection);
    let asked = timeout(LOCK_TIMEOUT, async {
        connection.batch_execute(BEGIN).await?;
        connection.query_one(LEAD, &[]).await?.try_get(0)
    });
    match asked.await {
        Ok(Ok(true)) => Ok(connection),
        Ok(Ok(false)) => Err(Undone::Led),
        Ok(Err(error)) => Err(Undone::Database(told(&error))),
        Err(_) => Err(Undone::Database(format!(
            "the database did not tell within {} s whether another server does it",
            LOCK_TIMEOUT.as_secs()
        ))),
    }
}

/// What the database says of an error, and what it says to do.
fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |told| match told.hint() {
            Some(hint) => format!("{}: {hint}", told.message()),
            None => told.message().to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_that_never_ends_is_warned_of() {
        assert_eq!(about_another(1).0, Level::Info);
        assert_eq!(about_another(OFTEN - 1).0, Level::Info);
        let (level, cause) = about_another(OFTEN);
        assert_eq!(level, Level::Warning);
        assert!(cause.contains("3 times in a row"), "{cause}");
    }

    #[test]
    fn the_lock_ends_with_a_server_that_says_nothing_any_more() {
        assert!(BEGIN.contains("tcp_keepalives_idle = 30"), "{BEGIN}");
        assert!(
            BEGIN.contains("idle_in_transaction_session_timeout = '1h'"),
            "{BEGIN}"
        );
    }
}
