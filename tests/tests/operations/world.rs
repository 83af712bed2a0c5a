//! A forum with rows in every state, and short ways to ask a database.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use keepsake_tests::leash::Leash;
pub use keepsake_tests::postgres::DATABASE;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

pub const PASSWORD: &str = "operations";

/// The extension, and the tables of an application.
pub const TABLES: &str = include_str!("tables.sql");

/// Gives the tables to Keepsake.
pub const MANAGE: &str = include_str!("manage.sql");

/// Rows: live, deleted, restored, purged, half purged, with objects in the outbox.
pub const ROWS: &str = include_str!("rows.sql");

/// A server in a folder of its own; all is gone when it is dropped.
pub struct Server {
    pub postgres: Postgres,
    folder: PathBuf,
    _leash: Leash,
}

impl Server {
    pub async fn start(major: u16) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let postgres = Postgres::start_release(major, &folder, PASSWORD, &leash).await?;
        Ok(Self {
            postgres,
            folder,
            _leash: leash,
        })
    }

    /// Starts a server whose database has the forum.
    pub async fn with_forum(major: u16) -> Result<Self> {
        let server = Self::start(major).await?;
        let mut database = server.postgres.connect().await?;
        run(&mut database, TABLES).await?;
        run(&mut database, MANAGE).await?;
        run(&mut database, ROWS).await?;
        Ok(server)
    }

    /// A new empty database beside the first one.
    pub async fn new_database(&self, name: &str) -> Result<PgConnection> {
        let mut database = self.postgres.connect().await?;
        run(&mut database, &format!("CREATE DATABASE {name}")).await?;
        self.connect_to(name).await
    }

    pub async fn connect_to(&self, database: &str) -> Result<PgConnection> {
        use sqlx::Connection as _;
        let url = self.postgres.url("postgres", PASSWORD, database);
        Ok(PgConnection::connect(&url).await?)
    }

    /// A standby of this server, in a folder of its own.
    pub async fn standby(&self) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let postgres = self.postgres.standby(&folder, &leash).await?;
        Ok(Self {
            postgres,
            folder,
            _leash: leash,
        })
    }

    /// A path that the server's programs may write to.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        Ok(self.folder.join("data").join(name))
    }

    /// One of the server's programs, set to connect to `database`.
    pub fn program(&self, name: &str, database: &str) -> Result<Command> {
        let mut command = self.postgres.program(name)?;
        command.env("PGDATABASE", database);
        Ok(command)
    }
}

/// Runs statements that must succeed.
pub async fn run(database: &mut PgConnection, sql: &str) -> Result<()> {
    database
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
        .map_err(detailed)
        .with_context(|| sql.to_owned())?;
    Ok(())
}

/// An error with what the server adds to its message.
fn detailed(error: sqlx::Error) -> anyhow::Error {
    let detail = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>()?.detail())
        .map(str::to_owned);
    match detail {
        Some(detail) => anyhow::Error::new(error).context(detail),
        None => error.into(),
    }
}

/// The one value that a query answers with, as text; empty for NULL.
pub async fn ask(database: &mut PgConnection, sql: &str) -> Result<String> {
    let sql = format!("SELECT (({sql})::text)");
    let value: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
        .fetch_one(database)
        .await
        .context(sql)?;
    Ok(value.unwrap_or_default())
}

/// Fails unless the query answers with `expected`.
pub async fn expect(database: &mut PgConnection, sql: &str, expected: &str) -> Result<()> {
    let found = ask(database, sql).await?;
    ensure!(
        found == expected,
        "{sql}\n  expected {expected}\n  found    {found}"
    );
    Ok(())
}

/// Runs a statement that must fail; its SQLSTATE.
pub async fn refusal(database: &mut PgConnection, sql: &str) -> Result<String> {
    match database
        .execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
        .await
    {
        Ok(_) => bail!("it succeeded: {sql}"),
        Err(sqlx::Error::Database(error)) => Ok(error
            .code()
            .map(|code| code.into_owned())
            .unwrap_or_default()),
        Err(error) => Err(error.into()),
    }
}

/// Runs a program to its end and fails with what it said.
pub fn finish(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Every row of the forum's tables and of the registry.
pub async fn contents(database: &mut PgConnection) -> Result<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c
         WHERE c.relkind = 'r' AND (c.relnamespace = 'public'::regnamespace OR c.oid IN (
             SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'keepsake'))
         ORDER BY 1",
    )
    .fetch_all(&mut *database)
    .await?;
    ensure!(tables.len() > 8, "the registry is missing: {tables:?}");
    let mut all = String::new();
    for table in tables {
        let rows = format!(
            "SELECT string_agg(to_jsonb(t)::text, E'\\n' ORDER BY to_jsonb(t)::text) FROM {table} t"
        );
        all += &format!("-- {table}\n{}\n", ask(database, &rows).await?);
    }
    Ok(all)
}

/// I1: no live row refers to a deleted one, and each deletion has just the rows it counted.
pub async fn check_invariants(database: &mut PgConnection) -> Result<()> {
    expect(database, include_str!("broken.sql"), "").await
}

/// Dumps the first database in this format, with these options.
pub fn dump(server: &Server, format: &str, options: &[&str]) -> Result<PathBuf> {
    let file = server.scratch(&format!("dump_{format}"))?;
    if file.is_dir() {
        std::fs::remove_dir_all(&file)?;
    }
    finish(
        server
            .program("pg_dump", DATABASE)?
            .arg(format!("--format={format}"))
            .arg("--file")
            .arg(&file)
            .args(options),
    )?;
    Ok(file)
}

/// Loads a dump into a database, with these options, and fails with the first error there.
pub fn load(server: &Server, into: &str, file: &Path, options: &[&str]) -> Result<()> {
    finish(
        server
            .program("pg_restore", into)?
            .args(["--exit-on-error", "--dbname", into])
            .args(options)
            .arg(file),
    )?;
    Ok(())
}
