//! The migrations, applied as `keepsake migrate` applies them, and the example application.

use anyhow::{Context, Result};
use keepsake_cli::migrations::migrator;
use sqlx::migrate::MigrateError;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// Applies every migration that has not been applied yet.
///
/// # Errors
/// A migration fails, or one that was applied has been changed since.
pub async fn up(connection: &mut PgConnection) -> Result<()> {
    let outcome = migrator().run(connection).await;
    outcome.map_err(|error| {
        let context = match &error {
            MigrateError::VersionMismatch(_) | MigrateError::VersionMissing(_) => {
                "the data was migrated by other migrations than these; `make reset` starts anew"
            }
            _ => "a migration failed; where the data is of an earlier checkout, `make reset` starts anew",
        };
        anyhow::Error::new(error).context(context)
    })
}

/// Applies migrations up to a version.
///
/// # Errors
/// A migration fails.
pub async fn up_to(connection: &mut PgConnection, version: i64) -> Result<()> {
    let applied = migrator().run_to(version, connection).await;
    applied.context("a migration failed")
}

/// Takes every migration back, the newest first.
///
/// # Errors
/// A migration cannot be taken back.
pub async fn down(connection: &mut PgConnection) -> Result<()> {
    down_to(connection, 0).await
}

/// Takes the migrations after a version back, the newest first.
///
/// # Errors
/// As [`down`].
pub async fn down_to(connection: &mut PgConnection, version: i64) -> Result<()> {
    let taken_back = migrator().undo(connection, version).await;
    taken_back.context("a migration could not be reverted")
}

/// Where the example application keeps what is deleted of its tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// In the tables, marked.
    #[default]
    InPlace,
    /// In archives.
    Apart,
}

impl Keep {
    fn handed_over(self) -> &'static str {
        match self {
            Self::InPlace => include_str!("../example/kept_in_place.sql"),
            Self::Apart => include_str!("../example/kept_apart.sql"),
        }
    }
}

/// Installs the example application of `tests/example`, unless it is there already.
///
/// # Errors
/// The file fails.
pub async fn install_example(connection: &mut PgConnection, keep: Keep) -> Result<()> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('public.post') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if is_there {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    transaction
        .execute(sqlx::raw_sql(include_str!("../example/forum.sql")))
        .await
        .context("tests/example/forum.sql failed")?;
    transaction
        .execute(sqlx::raw_sql(keep.handed_over()))
        .await
        .context("the tables of tests/example/forum.sql could not be handed over")?;
    transaction.commit().await?;
    Ok(())
}

/// Whom the worker connects as.
pub const WORKER: &str = "keepsake_worker";

/// Lets the worker's role log in with the password that this stack made for it.
///
/// # Errors
/// The migrations, which make the role, have not been applied.
pub async fn admit_worker(connection: &mut PgConnection, password: &str) -> Result<()> {
    let sql = format!("ALTER ROLE {WORKER} LOGIN PASSWORD '{password}'");
    connection
        .execute(AssertSqlSafe(sql))
        .await
        .context("there is no role keepsake_worker")?;
    Ok(())
}
