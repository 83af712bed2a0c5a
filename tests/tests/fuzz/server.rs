//! One server for all cases, and a database for each.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keepsake_tests::leash::Leash;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use keepsake_tests::verifier::quick_verifier;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::world::{BYSTANDER, Role, World};

const PASSWORD: &str = "fuzz";
const PREPARED: &str = "prepared";
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// No statement waits for long, so that many are tried.
const LIMITS: [(&str, &str); 2] = [("lock_timeout", "120ms"), ("statement_timeout", "3s")];

pub struct Server {
    postgres: Postgres,
    log: Mutex<Log>,
    /// The world of the database `prepared`, or 0.
    prepared: AtomicU64,
    _leash: Leash,
}

/// What the server has written, as far as it was read.
struct Log {
    file: PathBuf,
    read: usize,
}

impl Server {
    pub async fn start(major: u16) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let postgres = Postgres::start_release(major, &folder, PASSWORD, &leash).await?;
        let log = Log {
            file: postgres.folder().join("postgres.log"),
            read: 0,
        };
        let server = Self {
            postgres,
            log: Mutex::new(log),
            prepared: AtomicU64::new(0),
            _leash: leash,
        };
        let mut superuser = server.superuser("postgres").await?;
        let verifier = quick_verifier(PASSWORD)?;
        let mut sql = vec![
            // What dies is a process, not the machine: nothing written to a file is lost.
            "ALTER SYSTEM SET fsync = off".to_owned(),
            "ALTER SYSTEM SET deadlock_timeout = '40ms'".to_owned(),
            "ALTER SYSTEM SET log_min_error_statement = panic".to_owned(),
            "SELECT pg_reload_conf()".to_owned(),
            format!("ALTER ROLE postgres PASSWORD '{verifier}'"),
            "CREATE DATABASE blank".to_owned(),
        ];
        for role in names() {
            sql.push(format!("CREATE ROLE {role} LOGIN PASSWORD '{verifier}'"));
        }
        // Nothing that it says is found by a name of an owner's choice.
        sql.push("ALTER ROLE fuzz_operator SUPERUSER".to_owned());
        sql.push("ALTER ROLE fuzz_operator SET search_path = pg_catalog".to_owned());
        run_all(&mut superuser, &sql).await?;
        let mut blank = server.superuser("blank").await?;
        run(&mut blank, "CREATE EXTENSION keepsake").await?;
        blank.close().await?;
        Ok(server)
    }

    /// Makes the database `name` with the tables of `world`, and roles that have gained nothing.
    pub async fn make(&self, name: &str, world: &World) -> Result<()> {
        let mut superuser = self.superuser("postgres").await?;
        let mut sql: Vec<String> = names()
            .filter(|role| *role != Role::Operator.name())
            .flat_map(|role| {
                [
                    format!("ALTER ROLE {role} NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"),
                    format!("REVOKE fuzz_operator FROM {role}"),
                ]
            })
            .collect();
        let is_prepared = self.prepared.load(Ordering::Relaxed) == world.seed;
        let template = if is_prepared { PREPARED } else { "blank" };
        sql.push(format!("CREATE DATABASE {name} TEMPLATE {template}"));
        sql.extend(world.database(name));
        run_all(&mut superuser, &sql).await?;
        superuser.close().await?;
        if is_prepared {
            return Ok(());
        }
        self.fill(name, world).await
    }

    /// Keeps a database with these tables, from which those of many runs are copied.
    pub async fn prepare(&self, world: &World) -> Result<()> {
        self.prepared.store(0, Ordering::Relaxed);
        self.discard(PREPARED).await?;
        self.make(PREPARED, world).await?;
        self.prepared.store(world.seed, Ordering::Relaxed);
        Ok(())
    }

    async fn fill(&self, name: &str, world: &World) -> Result<()> {
        let mut superuser = self.superuser(name).await?;
        run_all(&mut superuser, &world.grants()).await?;
        superuser.close().await?;
        for role in [Role::OwnerA, Role::OwnerB] {
            let mut owner = self.connect(role.name(), name).await?;
            run_all(&mut owner, &world.tables(role)).await?;
            owner.close().await?;
        }
        let mut bystander = self.connect(BYSTANDER, name).await?;
        run_all(&mut bystander, &world.bystanders()).await?;
        bystander.close().await?;
        Ok(())
    }

    /// Drops a case's database, when the server is there again.
    pub async fn discard(&self, name: &str) -> Result<()> {
        self.when_recovered(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
    }

    pub async fn superuser(&self, database: &str) -> Result<PgConnection> {
        let url = self.postgres.url("postgres", PASSWORD, database);
        Ok(PgConnection::connect(&url).await?)
    }

    pub async fn connect(&self, role: &str, database: &str) -> sqlx::Result<PgConnection> {
        let options: PgConnectOptions = self.postgres.url(role, PASSWORD, database).parse()?;
        options
            .options(LIMITS)
            .disable_statement_logging()
            .connect()
            .await
    }

    pub async fn wait_until_recovered(&self) -> Result<()> {
        self.when_recovered("SELECT 1").await
    }

    /// After a crash of one of its processes the server starts all others anew by itself.
    async fn when_recovered(&self, sql: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let done = match self.superuser("postgres").await {
                Ok(mut superuser) => run(&mut superuser, sql).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > RECOVERED_WITHIN => {
                    return Err(error.context("the server does not come back"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// What the server has written since this was last asked.
    pub fn news(&self) -> Result<String> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let all = fs::read(&log.file).with_context(|| log.file.display().to_string())?;
        let news = String::from_utf8_lossy(&all[log.read.min(all.len())..]).into_owned();
        // A line that is not whole yet comes next time.
        let whole = news.rfind('\n').map_or(0, |at| at + 1);
        log.read += whole;
        Ok(news[..whole].to_owned())
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    [
        Role::OwnerA,
        Role::OwnerB,
        Role::Application,
        Role::Worker,
        Role::Operator,
        Role::Nobody,
    ]
    .into_iter()
    .map(Role::name)
    .chain([BYSTANDER])
}

async fn run_all(connection: &mut PgConnection, statements: &[String]) -> Result<()> {
    for sql in statements {
        run(connection, sql).await?;
    }
    Ok(())
}

/// Runs statements that must succeed.
async fn run(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(())
}
