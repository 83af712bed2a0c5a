//! One server, and a pair of databases for each case: one where PostgreSQL is left alone, one where Keepsake keeps what is
//! removed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::leash::Leash;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::Mutex;

use crate::case::Keep;

const PASSWORD: &str = "difference";

/// Owns the tables.
pub const OWNER: &str = "difference_owner";
/// Reads and writes them as far as their policies let it.
pub const APPLICATION: &str = "difference_application";

const ROLES: [&str; 2] = [OWNER, APPLICATION];

pub struct Server {
    postgres: Postgres,
    /// Kept open: a password takes longer to check than a database to make.
    administrator: Mutex<PgConnection>,
    folder: PathBuf,
    _leash: Leash,
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Plain,
    Kept,
}

impl Server {
    pub async fn start(major: u16) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let mut postgres = Postgres::start_release(major, &folder, PASSWORD, &leash).await?;
        let mut superuser = PgConnection::connect(&postgres.superuser_url()).await?;
        // Nothing happens on one side alone, and what is killed are processes, not the machine.
        for (name, value) in [
            ("fsync", "off"),
            ("autovacuum", "off"),
            ("jit", "off"),
            ("max_prepared_transactions", "10"),
        ] {
            run(
                &mut superuser,
                &format!("ALTER SYSTEM SET {name} = {value}"),
            )
            .await?;
        }
        for role in ROLES {
            run(&mut superuser, &format!("CREATE ROLE {role}")).await?;
        }
        superuser.close().await?;
        postgres.kill();
        postgres.restart().await?;
        let url = postgres.url("postgres", PASSWORD, "postgres");
        let administrator = Mutex::new(PgConnection::connect(&url).await?);
        let server = Self {
            postgres,
            administrator,
            folder,
            _leash: leash,
        };
        for (name, extension) in [
            ("blank_plain", ""),
            ("blank_kept", "CREATE EXTENSION keepsake"),
        ] {
            server
                .administer(&format!("CREATE DATABASE {name}"))
                .await?;
            let mut database = server.connect(name).await?;
            for sql in ["ALTER SCHEMA public OWNER TO difference_owner", extension] {
                run(&mut database, sql).await?;
            }
            database.close().await?;
        }
        Ok(server)
    }

    /// Makes both databases of a case, and holds a snapshot in each: PostgreSQL removes dead rows from a page in passing,
    /// and when it does depends on what else runs. The next rows then stand elsewhere, and which of two rows is
    /// refused first is another one.
    pub async fn make(
        &self,
        case: usize,
        keep: Keep,
        preloaded: bool,
    ) -> Result<Vec<PgConnection>> {
        let mut snapshots = Vec::new();
        for side in [Side::Plain, Side::Kept] {
            let name = side.database(case);
            let template = match side {
                Side::Kept if keep != Keep::Nothing => "blank_kept",
                _ => "blank_plain",
            };
            self.administer(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
                .await?;
            self.administer(&format!(
                "GRANT CREATE, TEMPORARY ON DATABASE {name} TO PUBLIC"
            ))
            .await?;
            if side == Side::Kept && preloaded && keep != Keep::Nothing {
                self.administer(&format!(
                    "ALTER DATABASE {name} SET session_preload_libraries = 'keepsake'"
                ))
                .await?;
            }
            let mut snapshot = self.connect(&name).await?;
            run(
                &mut snapshot,
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class LIMIT 1",
            )
            .await?;
            snapshots.push(snapshot);
        }
        Ok(snapshots)
    }

    pub async fn discard(&self, case: usize) -> Result<()> {
        for side in [Side::Plain, Side::Kept] {
            self.administer(&format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                side.database(case)
            ))
            .await?;
        }
        Ok(())
    }

    /// Gives psql a script; what it says, errors and notices included, goes to a file.
    pub fn begin(&self, case: usize, side: Side, script: &str) -> Result<Conversation> {
        let database = side.database(case);
        let said = self.folder.join(format!("{database}.out"));
        let input = self.folder.join(format!("{database}.sql"));
        fs::write(&input, script)?;
        let output = File::create(&said)?;
        let psql = self
            .postgres
            .program("psql")?
            .args(["--no-psqlrc", "--no-align"])
            .env("PGDATABASE", &database)
            // As the tests' own programs may be told something else.
            .env("PGOPTIONS", "")
            .env("PGCLIENTENCODING", "UTF8")
            .stdin(File::open(&input)?)
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .spawn()?;
        Ok(Conversation {
            psql,
            said,
            database,
        })
    }

    async fn connect(&self, name: &str) -> Result<PgConnection> {
        let url = self.postgres.url("postgres", PASSWORD, name);
        Ok(PgConnection::connect(&url).await?)
    }

    async fn administer(&self, sql: &str) -> Result<()> {
        run(&mut *self.administrator.lock().await, sql).await
    }
}

impl Side {
    fn database(self, case: usize) -> String {
        match self {
            Self::Plain => format!("plain_{case}"),
            Self::Kept => format!("kept_{case}"),
        }
    }
}

/// A psql that runs a script.
pub struct Conversation {
    psql: Child,
    said: PathBuf,
    database: String,
}

impl Conversation {
    /// Waits for its end; what it said, without the database's own name.
    pub fn finish(mut self) -> Result<String> {
        let status = self.psql.wait()?;
        // 2: the connection was lost; 3: a statement failed where none may. The text tells both.
        ensure!(
            matches!(status.code(), Some(0 | 2 | 3)),
            "psql ends with {status}"
        );
        let said = fs::read(&self.said)?;
        Ok(String::from_utf8_lossy(&said).replace(&self.database, "DATABASE"))
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(())
}
