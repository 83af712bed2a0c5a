//! The work that nobody waits for, every few minutes: one server of those that share a database does it.

use crate::host::Server;
use keepsake_service::{
    Host, jobs,
    log::{self, Level},
    storage,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// The advisory lock of the server that does the work: "keepsake" in ASCII.
const LEADER: i64 = 0x6b65_6570_7361_6b65;

/// Does the work over and over.
pub(crate) async fn run(server: Arc<Server>, every: Duration) {
    loop {
        // Nobody waits for it, and servers that start together do not ask together.
        tokio::time::sleep(every).await;
        if let Err(cause) = run_once(&server).await {
            log::write(Level::Error, "cron", json!({ "cause": cause }));
        }
    }
}

/// Does the work once, unless another server does it.
///
/// 1. Become the leader: the lock belongs to a connection, and ends with it, however this server ends.
/// 2. The service's steps.
/// 3. What broken-off uploads left in the folder of files is removed.
///
/// # Errors
/// The database's.
pub(crate) async fn run_once(server: &Arc<Server>) -> Result<(), String> {
    let connection = server.postgres.connection().await;
    let connection = connection.map_err(|failure| failure.cause)?;
    // Not given back, so that the lock never stays behind in the pool.
    let connection = deadpool_postgres::Object::take(connection);
    let locked = connection
        .query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&LEADER])
        .await
        .map_err(|error| error.to_string())?;
    if !locked.get::<_, bool>(0) {
        return Ok(());
    }
    let config = server.config.as_ref().map_err(ToString::to_string)?;
    let storage = storage(config, server.as_ref())?;
    jobs::run(&server.database()?, &storage, config.max_image_pixels).await;
    if let Some(files) = &server.files {
        files.tidy().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
