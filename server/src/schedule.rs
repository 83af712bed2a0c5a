//! The work that nobody waits for, every few minutes: one server of those that share a database does it.

use crate::host::Server;
use keepsake_service::{
    Host, jobs,
    log::{self, Level},
    receiver, storage,
};
use serde_json::json;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The advisory lock of the server that does the work: "keepsake" in ASCII.
const LEADER: i64 = 0x6b65_6570_7361_6b65;

/// Who has it, as far as the database tells.
const LEADING: &str = "SELECT pg_catalog.string_agg(pg_catalog.format('session %s of role %I', a.pid, a.usename), ', ')
 FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid AND a.datname = pg_catalog.current_database()
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = a.datid
   AND (l.classid::bigint << 32 | l.objid::bigint) = $1";

/// Longest wait for an answer about the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the work that is done once waits for another server's to end, and how often it looks.
const MAX_WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Why the work was not done.
#[derive(Debug)]
pub(crate) enum Undone {
    /// Another session has the lock.
    Led(String),
    /// The database or the settings.
    Failed(String),
}

impl fmt::Display for Undone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Led(leader) => write!(
                out,
                "another server does it: {leader} has the advisory lock {LEADER}. If that is no keepsake server, end the session"
            ),
            Self::Failed(cause) => out.write_str(cause),
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
    loop {
        // Nobody waits for it, and servers that start together do not ask together.
        tokio::time::sleep(every).await;
        if let Err(undone) = try_once(&server).await {
            let level = match undone {
                // Any role that may connect can take the lock, so it is told.
                Undone::Led(_) => Level::Warning,
                Undone::Failed(_) => Level::Error,
            };
            log::write(level, "cron", json!({ "cause": undone.to_string() }));
        }
    }
}

/// Does the work once, after another server that is at it.
///
/// # Errors
/// The database's, or the other did not come to its end.
pub(crate) async fn run_once(server: &Arc<Server>) -> Result<(), Undone> {
    let mut waited = Duration::ZERO;
    loop {
        match try_once(server).await {
            Err(Undone::Led(_)) if waited < MAX_WAIT => {}
            done => return done,
        }
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
}

/// Does the work, unless another server does it.
///
/// 1. Become the leader: the lock belongs to a connection, and ends with it, however this server ends.
/// 2. The service's steps.
/// 3. What broken-off uploads left in the folder of files is removed.
async fn try_once(server: &Arc<Server>) -> Result<(), Undone> {
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
    let connection = connection.map_err(|failure| failure.cause)?;
    // Not given back, so that the lock never stays behind in the pool.
    let connection = deadpool_postgres::Object::take(connection);
    let asked = timeout(LOCK_TIMEOUT, async {
        let row = connection
            .query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&LEADER])
            .await?;
        if row.try_get(0)? {
            return Ok(None);
        }
        let row = connection.query_one(LEADING, &[&LEADER]).await?;
        let leader: Option<String> = row.try_get(0)?;
        // It may have ended in between.
        Ok(Some(leader.unwrap_or_else(|| "a session".to_owned())))
    });
    match asked.await {
        Ok(Ok(None)) => Ok(connection),
        Ok(Ok(Some(leader))) => Err(Undone::Led(leader)),
        Ok(Err(error)) => Err(Undone::Failed(tokio_postgres::Error::to_string(&error))),
        Err(_) => Err(Undone::Failed(format!(
            "the database did not tell within {} s whether another server does it",
            LOCK_TIMEOUT.as_secs()
        ))),
    }
}
