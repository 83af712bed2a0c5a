//! A database of its own for each case, and statements on it that are kept as a script.

use anyhow::{Context as _, Result};
use keepsake_tests::leash::Leash;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use keepsake_tests::verifier::quick_verifier;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::sync::Mutex;

use crate::schema::Schema;

/// A server whose database `blank` has the extension and nothing else.
pub struct Server {
    postgres: Mutex<Postgres>,
    _leash: Leash,
}

/// A statement's first value as text, or the error's SQLSTATE and message.
pub type Answer = Result<Option<String>, (String, String)>;

impl Server {
    pub async fn start() -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let postgres = Postgres::start(&folder, PASSWORD, &leash).await?;
        let mut superuser = postgres.connect().await?;
        let login = format!(
            "CREATE ROLE model SUPERUSER LOGIN PASSWORD '{}'",
            quick_verifier(PASSWORD)?
        );
        run(&mut superuser, &login).await?;
        superuser.close().await?;
        let server = Self {
            postgres: Mutex::new(postgres),
            _leash: leash,
        };
        // What is killed are processes, not the machine: nothing written to a file is lost.
        server.administer("ALTER SYSTEM SET fsync = off").await?;
        server.administer("SELECT pg_reload_conf()").await?;
        server.administer("CREATE DATABASE blank").await?;
        let mut blank = server.connect("blank").await?;
        run(&mut blank, "CREATE EXTENSION keepsake").await?;
        blank.close().await?;
        Ok(server)
    }

    /// Makes the database `name` with the tables of `schema`.
    pub async fn make(&self, name: &str, schema: &Schema) -> Result<()> {
        self.administer(&format!("CREATE DATABASE {name} TEMPLATE blank"))
            .await?;
        let mut connection = self.connect(name).await?;
        for statement in schema.ddl() {
            run(&mut connection, &statement).await?;
        }
        connection.close().await?;
        Ok(())
    }

    pub async fn discard(&self, name: &str) -> Result<()> {
        self.administer(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
    }

    pub async fn connect(&self, name: &str) -> Result<PgConnection> {
        let url = self.postgres.lock().await.url("model", PASSWORD, name);
        Ok(PgConnection::connect(&url).await?)
    }

    /// Ends a backend and waits until it is gone.
    pub async fn terminate(&self, pid: &str) -> Result<()> {
        self.administer(&format!("SELECT pg_terminate_backend({pid}, 10000)"))
            .await
    }

    /// Kills the server and every session, and waits until it has recovered.
    pub async fn crash(&self) -> Result<()> {
        let mut postgres = self.postgres.lock().await;
        postgres.kill();
        postgres.restart().await
    }

    async fn administer(&self, sql: &str) -> Result<()> {
        let mut connection = self.connect("postgres").await?;
        run(&mut connection, sql).await?;
        connection.close().await?;
        Ok(())
    }
}

/// `admin_shutdown`: what a session says, when it still can, as its server is gone.
pub const SHUT_DOWN: &str = "57P01";

const PASSWORD: &str = "model";

/// Runs statements that must succeed.
pub async fn run(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(())
}

/// The first column of all rows, which must be text.
pub async fn column(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await
        .with_context(|| sql.to_owned())?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Runs a statement that the server may refuse; fails only when the connection does, or the server.
pub async fn ask(connection: &mut PgConnection, sql: &str) -> Result<Answer> {
    let answer = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_optional(connection)
        .await;
    match answer {
        Ok(None) => Ok(Ok(None)),
        Ok(Some(row)) => Ok(Ok(row.try_get(0)?)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() != Some(SHUT_DOWN) => {
            let code = error.code().unwrap_or_default().into_owned();
            Ok(Err((code, error.message().to_owned())))
        }
        Err(error) => Err(error).with_context(|| sql.to_owned()),
    }
}
