//! A pool of connections before PostgreSQL, as Hyperdrive is one: pgbouncer, which lends a connection to
//! whoever asks, for one transaction (<https://www.pgbouncer.org/config.html>).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};

use crate::leash::Leash;
use crate::migrate::WORKER;
use crate::owner::Owner;
use crate::places::{free_port, pool_program};
use crate::postgres::{DATABASE, Postgres};
use crate::process::Daemon;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running pool, for the worker's role and no other.
#[derive(Debug)]
pub struct Pool {
    port: u16,
    _server: Daemon,
}

impl Pool {
    /// Starts a pool of at most `size` connections; its settings and its log go into `folder`.
    ///
    /// # Errors
    /// The set-up has not been run, or the pool does not answer; with the end of its log.
    pub async fn start(
        folder: &Path,
        postgres: &Postgres,
        password: &str,
        size: u8,
        leash: &Leash,
    ) -> Result<Self> {
        let owner = Owner::find()?;
        let port = free_port(None)?;
        let users = folder.join("pool-users.txt");
        let settings = folder.join("pool.ini");
        write(&owner, &users, &users_file(postgres).await?)?;
        write(
            &owner,
            &settings,
            &settings_file(postgres, password, size, port, &users),
        )?;

        let mut command = owner.command(&pool_program()?);
        command.arg(&settings);
        let log = folder.join("pool.log");
        let mut server = Daemon::spawn("pgbouncer", &mut command, &log, leash)?;
        let url = format!("postgres://{WORKER}:{password}@127.0.0.1:{port}/{DATABASE}");
        let answers = async || match PgConnection::connect(&url).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        };
        server.wait_until(READY_WITHIN, answers).await?;
        Ok(Self {
            port,
            _server: server,
        })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// The worker's role as the server has it, so that a login is salted alike in both places.
async fn users_file(postgres: &Postgres) -> Result<String> {
    let mut connection = postgres.connect().await?;
    let secret: String = sqlx::query_scalar("SELECT rolpassword FROM pg_authid WHERE rolname = $1")
        .bind(WORKER)
        .fetch_one(&mut connection)
        .await
        .context("the worker's role has no password")?;
    connection.close().await?;
    Ok(format!("\"{WORKER}\" \"{secret}\"\n"))
}

fn settings_file(postgres: &Postgres, password: &str, size: u8, port: u16, users: &Path) -> String {
    let (server, users) = (postgres.port(), users.display());
    format!(
        "[databases]
{DATABASE} = host=127.0.0.1 port={server} user={WORKER} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
; Of sqlx, which asks whether the pool is ready.
ignore_startup_parameters = extra_float_digits
"
    )
}

/// A file with a secret in it.
fn write(owner: &Owner, path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    owner.give(path)
}
