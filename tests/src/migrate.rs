//! The migrations of `migrations/`, run as any migration runner would, and the example application.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::places::checkout;

/// Applies every migration that has not been applied yet.
///
/// # Errors
/// A migration fails, or one that was applied has been changed since.
pub async fn up(connection: &mut PgConnection) -> Result<()> {
    migrator().await?.run(connection).await.context("a migration failed")
}

/// Takes every migration back, the newest first.
///
/// # Errors
/// A migration cannot be taken back.
pub async fn down(connection: &mut PgConnection) -> Result<()> {
    migrator().await?.undo(connection, 0).await.context("a migration could not be taken back")
}

async fn migrator() -> Result<Migrator> {
    let folder = checkout().join("migrations");
    Migrator::new(folder).await.context("the folder migrations/ cannot be read")
}

/// Installs the example application of `tests/example`, file by file.
///
/// # Errors
/// A file fails; named in the error.
pub async fn install_example(connection: &mut PgConnection) -> Result<()> {
    for file in example_files()? {
        let sql = fs::read_to_string(&file)?;
        connection
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .with_context(|| format!("{} failed", file.display()))?;
    }
    Ok(())
}

fn example_files() -> Result<Vec<PathBuf>> {
    let folder = checkout().join("tests/example");
    let entries: Vec<_> = fs::read_dir(folder)?.collect::<std::io::Result<_>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

/// Lets the worker's role log in with the password that this stack made for it.
///
/// # Errors
/// The migrations, which make the role, have not been applied.
pub async fn admit_worker(connection: &mut PgConnection, password: &str) -> Result<()> {
    let sql = format!("ALTER ROLE keepsake_worker LOGIN PASSWORD '{password}'");
    connection.execute(AssertSqlSafe(sql)).await.context("there is no role keepsake_worker")?;
    Ok(())
}
