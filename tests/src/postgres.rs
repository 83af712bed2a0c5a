//! A PostgreSQL cluster of our own: loopback only, a free port, passwords.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::{Connection as _, PgConnection};

use crate::leash::Leash;
use crate::owner::Owner;
use crate::places::{POSTGRES_MAJOR, free_port, postgres_program};
use crate::process::Daemon;

/// The one database of a stack.
pub const DATABASE: &str = "keepsake";

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A cluster and its server.
#[derive(Debug)]
pub struct Postgres {
    major: u16,
    server: Daemon,
    folder: PathBuf,
    password: String,
    port: u16,
    leash: Leash,
}

/// How often a server is started whose port is taken.
const ATTEMPTS: u32 = 3;

impl Postgres {
    /// Starts a server on the cluster in `folder`, and makes the cluster if there is none.
    ///
    /// # Errors
    /// The set-up has not been run, or PostgreSQL does not start; with the end of its log.
    pub async fn start(folder: &Path, password: &str, leash: &Leash) -> Result<Self> {
        Self::start_release(POSTGRES_MAJOR, folder, password, leash).await
    }

    /// [`Postgres::start`] of another release than the stack's.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn start_release(
        major: u16,
        folder: &Path,
        password: &str,
        leash: &Leash,
    ) -> Result<Self> {
        let owner = Owner::find()?;
        if !folder.join("data/PG_VERSION").exists() {
            make_cluster(major, folder, password, &owner)?;
        }
        let postgres = Self::serve_cluster(major, folder, password, leash).await?;
        postgres.make_database().await?;
        Ok(postgres)
    }

    /// Starts a server on the cluster that is in `folder` already: a standby's, say.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn serve_cluster(
        major: u16,
        folder: &Path,
        password: &str,
        leash: &Leash,
    ) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let port = free_port(None)?;
            let server = serve(major, folder, port, &Owner::find()?, leash)?;
            let mut postgres = Self {
                major,
                server,
                folder: folder.to_path_buf(),
                password: password.to_owned(),
                port,
                leash: leash.clone(),
            };
            let Err(error) = postgres.wait_until_ready().await else {
                return Ok(postgres);
            };
            // Something else was quicker to take the port.
            let is_taken = postgres
                .server
                .log_tail()
                .contains("Address already in use");
            if attempt == ATTEMPTS || !is_taken {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// One of the release's own programs, such as `pg_dump`, set to connect to the database as the
    /// superuser.
    ///
    /// # Errors
    /// The set-up has not been run.
    pub fn program(&self, name: &str) -> Result<Command> {
        let mut command = Owner::find()?.command(&postgres_program(self.major, name)?);
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", &self.password)
            .env("PGDATABASE", DATABASE);
        Ok(command)
    }

    /// Copies the running cluster into `folder` and starts the copy as a standby that follows it.
    ///
    /// # Errors
    /// The copy fails, or the standby does not start; with the end of its log.
    pub async fn standby(&self, folder: &Path, leash: &Leash) -> Result<Self> {
        self.copy(folder, &["--write-recovery-conf"])?;
        Self::serve_cluster(self.major, folder, &self.password, leash).await
    }

    /// A base backup of the running cluster, in `folder`.
    ///
    /// # Errors
    /// The copy fails.
    pub fn base_backup(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        self.copy(folder, &[])
    }

    /// Restores the base backup in `folder` to a restore point of this cluster, with the WAL that this one has written since, and
    /// starts it.
    ///
    /// # Errors
    /// It does not recover; with the end of its log.
    pub async fn restored_to(&self, restore_point: &str, folder: &Path) -> Result<Self> {
        let data = folder.join("data");
        let wal = self.folder.join("data/pg_wal");
        let settings = format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_name = '{restore_point}'\nrecovery_target_action = 'promote'\n",
            wal.display()
        );
        let file = data.join("postgresql.auto.conf");
        let before = fs::read_to_string(&file)?;
        fs::write(&file, before + &settings)?;
        let signal = data.join("recovery.signal");
        fs::write(&signal, "")?;
        Owner::find()?.give(&signal)?;
        let restored = Self::serve_cluster(self.major, folder, &self.password, &self.leash).await?;
        let mut connection = restored.connect().await?;
        // It answers before it has come to its target.
        while sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()")
            .fetch_one(&mut connection)
            .await?
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(restored)
    }

    fn copy(&self, folder: &Path, further: &[&str]) -> Result<()> {
        let data = folder.join("data");
        make_data_folder(&data, &Owner::find()?)?;
        let copied = self
            .program("pg_basebackup")?
            .args(["--checkpoint=fast", "--wal-method=stream"])
            .args(further)
            .arg("--pgdata")
            .arg(&data)
            .output()?;
        ensure!(
            copied.status.success(),
            "pg_basebackup: {}",
            String::from_utf8_lossy(&copied.stderr)
        );
        Ok(())
    }

    /// Where the cluster's own configuration and data are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of the database for the superuser.
    #[must_use]
    pub fn superuser_url(&self) -> String {
        self.url("postgres", &self.password, DATABASE)
    }

    /// The address of the database for another role.
    #[must_use]
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A connection as the superuser.
    ///
    /// # Errors
    /// The server is not running.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.superuser_url())
            .await
            .context("cannot connect to PostgreSQL")
    }

    /// `kill -9` of the server and all its backends.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts the server again on the same port, after [`Postgres::kill`].
    ///
    /// # Errors
    /// PostgreSQL does not recover; with the end of its log.
    pub async fn restart(&mut self) -> Result<()> {
        self.server = serve(
            self.major,
            &self.folder,
            self.port,
            &Owner::find()?,
            &self.leash,
        )?;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let url = self.url("postgres", &self.password, "postgres");
        let answers = async || match PgConnection::connect(&url).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        };
        self.server.wait_until(READY_WITHIN, answers).await
    }

    async fn make_database(&self) -> Result<()> {
        let mut connection =
            PgConnection::connect(&self.url("postgres", &self.password, "postgres")).await?;
        let exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(DATABASE)
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            sqlx::raw_sql("CREATE DATABASE keepsake")
                .execute(&mut connection)
                .await?;
            // So that the very first DELETE of a session counts its rows.
            sqlx::raw_sql("ALTER DATABASE keepsake SET session_preload_libraries = 'keepsake'")
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        Ok(())
    }
}

fn make_data_folder(data: &Path, owner: &Owner) -> Result<()> {
    fs::create_dir(data)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    owner.give(data)
}

fn make_cluster(major: u16, folder: &Path, password: &str, owner: &Owner) -> Result<()> {
    let data = folder.join("data");
    // What an interrupted run left is not a cluster.
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    make_data_folder(&data, owner)?;

    let password_file = folder.join("superuser-password");
    fs::write(&password_file, password)?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
    owner.give(&password_file)?;

    let output = owner
        .command(&postgres_program(major, "initdb")?)
        .arg("--pgdata")
        .arg(&data)
        .arg("--pwfile")
        .arg(&password_file)
        .args([
            "--username=postgres",
            // A cluster that is not whole after a power failure is made anew.
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
        ])
        .output()?;
    fs::remove_file(&password_file)?;
    ensure!(
        output.status.success(),
        "initdb could not create a cluster in {}\n{}",
        data.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn serve(major: u16, folder: &Path, port: u16, owner: &Owner, leash: &Leash) -> Result<Daemon> {
    let settings = [
        "listen_addresses=127.0.0.1",
        // Connections come over TCP; a socket would need a short path that others may write to.
        "unix_socket_directories=",
        "max_connections=60",
        "timezone=UTC",
        "log_line_prefix=%m [%p] ",
    ];
    let mut command = owner.command(&postgres_program(major, "postgres")?);
    command
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-p")
        .arg(port.to_string());
    for setting in settings {
        command.args(["-c", setting]);
    }
    // As some servers have it: what is meant for a developer must not reach a client.
    command.env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null());
    Daemon::spawn(
        "PostgreSQL",
        &mut command,
        &folder.join("postgres.log"),
        leash,
    )
}
