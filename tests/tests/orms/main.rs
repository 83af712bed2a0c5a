//! The suites of two ORMs, each run on PostgreSQL as it is and where every table that they make is managed at once: what
//! passes on the one passes on the other.
//!
//! They take some twenty minutes, so they are run by `make test-orms` alone. `KEEPSAKE_RELEASES` names the releases to run
//! them on; the stack's, if it does not.

mod suite;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use keepsake_tests::leash::Leash;
use keepsake_tests::places::{POSTGRES_MAJOR, tested_majors};
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use keepsake_tests::verifier::quick_verifier;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::suite::{DJANGO, SQLALCHEMY, Suite};

const PASSWORD: &str = "orms";

/// Manages each table that is made.
const MANAGE_ALL: &str = include_str!("manage_all.sql");

#[tokio::test]
#[ignore = "takes some twenty minutes: make test-orms"]
async fn django_passes_what_it_passes_without() -> Result<()> {
    compare(&DJANGO).await
}

#[tokio::test]
#[ignore = "takes some twenty minutes: make test-orms"]
async fn sqlalchemy_passes_what_it_passes_without() -> Result<()> {
    compare(&SQLALCHEMY).await
}

async fn compare(suite: &Suite) -> Result<()> {
    let releases = match std::env::var("KEEPSAKE_RELEASES") {
        Ok(_) => tested_majors()?,
        Err(_) => vec![POSTGRES_MAJOR],
    };
    let mut lost = BTreeSet::new();
    for major in releases {
        let server = Server::start(major).await?;
        let plain = suite.run(&server.postgres, "plain", PASSWORD)?;
        let kept = suite.run(&server.postgres, "kept", PASSWORD)?;
        let rows = server.archived().await?;
        eprintln!(
            "{} on PostgreSQL {major}: {} tests pass, {} of them where all tables are managed, {rows} rows archived",
            suite.name,
            plain.len(),
            kept.intersection(&plain).count()
        );
        if plain.is_empty() || rows == 0 {
            bail!("nothing was tried");
        }
        lost.extend(
            plain
                .difference(&kept)
                .map(|test| format!("{major}: {test}")),
        );
    }
    if !lost.is_empty() {
        let lost: Vec<String> = lost.into_iter().collect();
        bail!(
            "these pass only where nothing is managed:\n{}",
            lost.join("\n")
        );
    }
    Ok(())
}

/// A server with two databases that the suites copy or use, `plain` and `kept`, and a role named like each.
struct Server {
    postgres: Postgres,
    _leash: Leash,
}

impl Server {
    async fn start(major: u16) -> Result<Self> {
        let (folder, leash) = throwaway_folder()?;
        let mut postgres = Postgres::start_release(major, &folder, PASSWORD, &leash).await?;
        let mut superuser = postgres.connect().await?;
        for setting in [
            "fsync = off",
            "jit = off",
            "max_prepared_transactions = 10",
            // Of dropped tables archives are left; all are locked when such a database is dropped.
            "max_locks_per_transaction = 1000",
        ] {
            run(&mut superuser, &format!("ALTER SYSTEM SET {setting}")).await?;
        }
        for name in ["plain", "kept"] {
            let verifier = quick_verifier(PASSWORD)?;
            run(
                &mut superuser,
                &format!("CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{verifier}'"),
            )
            .await?;
            run(
                &mut superuser,
                &format!("CREATE DATABASE {name} OWNER {name}"),
            )
            .await?;
        }
        // A database that is copied from another has none of its settings.
        run(
            &mut superuser,
            "ALTER ROLE kept SET session_preload_libraries = 'keepsake'",
        )
        .await?;
        superuser.close().await?;
        postgres.kill();
        postgres.restart().await?;
        let server = Self {
            postgres,
            _leash: leash,
        };
        for name in ["plain", "kept"] {
            let mut database = server.connect(name).await?;
            run(
                &mut database,
                "CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2",
            )
            .await?;
            if name == "kept" {
                run(&mut database, "CREATE EXTENSION keepsake").await?;
                run(&mut database, MANAGE_ALL).await?;
            }
            database.close().await?;
        }
        Ok(server)
    }

    async fn connect(&self, name: &str) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.postgres.url(name, PASSWORD, name)).await?)
    }

    /// How many rows went to the archives of all databases, also for transactions that were rolled back.
    async fn archived(&self) -> Result<i64> {
        let mut all = 0;
        let mut kept = self.connect("kept").await?;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT datname FROM pg_database WHERE datname LIKE '%kept%'")
                .fetch_all(&mut kept)
                .await?;
        for name in names {
            let mut database =
                PgConnection::connect(&self.postgres.url("kept", PASSWORD, &name)).await?;
            all += sqlx::query_scalar::<_, i64>("SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_all_tables WHERE schemaname LIKE '%\\_deleted'")
                .fetch_one(&mut database)
                .await?;
        }
        Ok(all)
    }
}

async fn run(database: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(database)
        .await?;
    Ok(())
}
