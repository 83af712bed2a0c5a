//! The suites of two ORMs, each run on PostgreSQL as it is and where every table that they make is managed at once: what
//! passes on the one passes on the other. Where tables are kept in place and deleted rows hidden, it passes but for what `in_place.txt`
//! lists with the difference of `docs/compatibility.md` that it meets.
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

use crate::suite::{DJANGO, DJANGO_IN_PLACE, SQLALCHEMY, SQLALCHEMY_IN_PLACE, Suite};

const PASSWORD: &str = "orms";

/// How deleted rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Archive,
    InPlace,
}

impl Keep {
    /// Manages each table that is made.
    const fn manage_all(self) -> &'static str {
        match self {
            Self::Archive => include_str!("manage_all.sql"),
            Self::InPlace => include_str!("in_place.sql"),
        }
    }

    /// What the roles of both sides may do: policies hide nothing from a superuser.
    const fn rights(self) -> &'static str {
        match self {
            Self::Archive => "SUPERUSER",
            Self::InPlace => "CREATEDB",
        }
    }

    /// How many rows of a database were kept, also for transactions that were rolled back.
    const fn count_kept(self) -> &'static str {
        match self {
            Self::Archive => {
                "SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_all_tables WHERE schemaname LIKE '%\\_deleted'"
            }
            Self::InPlace => {
                "SELECT n_tup_ins FROM pg_stat_all_tables WHERE relid = 'keepsake.deletion'::regclass"
            }
        }
    }
}

/// Tests that fail where tables are kept in place: the name, and after a `#` the difference that it meets.
const FAIL_IN_PLACE: &str = include_str!("in_place.txt");

#[tokio::test]
#[ignore = "takes some twenty minutes: make test-orms"]
async fn django_passes_what_it_passes_without() -> Result<()> {
    compare(&DJANGO, Keep::Archive).await
}

#[tokio::test]
#[ignore = "takes some twenty minutes: make test-orms"]
async fn django_passes_in_place_but_for_what_is_documented() -> Result<()> {
    compare(&DJANGO_IN_PLACE, Keep::InPlace).await
}

#[tokio::test]
#[ignore = "takes some twenty minutes: make test-orms"]
async fn sqlalchemy_passes_what_it_passes_without() -> Result<()> {
    compare(&SQLALCHEMY, Keep::Archive).await
}

#[tokio::test]
#[ignore = "takes some twenty minutes: make test-orms"]
async fn sqlalchemy_passes_in_place_but_for_what_is_documented() -> Result<()> {
    compare(&SQLALCHEMY_IN_PLACE, Keep::InPlace).await
}

async fn compare(suite: &Suite, keep: Keep) -> Result<()> {
    let releases = match std::env::var("KEEPSAKE_RELEASES") {
        Ok(_) => tested_majors()?,
        Err(_) => vec![POSTGRES_MAJOR],
    };
    let mut lost = BTreeSet::new();
    for major in releases {
        let server = Server::start(major, keep).await?;
        let plain = suite.run(&server.postgres, "plain", PASSWORD)?;
        let kept = suite.run(&server.postgres, "kept", PASSWORD)?;
        let rows = server.kept_rows(keep).await?;
        eprintln!(
            "{} on PostgreSQL {major}, {keep:?}: {} tests pass, {} of them where all tables are managed, {rows} rows or deletions kept",
            suite.name,
            plain.len(),
            kept.intersection(&plain).count()
        );
        if plain.is_empty() || rows == 0 {
            bail!("nothing was tried");
        }
        let documented = |test: &String| {
            let mut listed = FAIL_IN_PLACE
                .lines()
                .filter_map(|line| line.split(" # ").next());
            keep == Keep::InPlace && listed.any(|listed| listed == test)
        };
        lost.extend(
            plain
                .difference(&kept)
                .filter(|test| !documented(test))
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
    async fn start(major: u16, keep: Keep) -> Result<Self> {
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
                &format!(
                    "CREATE ROLE {name} {} LOGIN PASSWORD '{verifier}'",
                    keep.rights()
                ),
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
            let mut database = server.connect(name, name).await?;
            run(
                &mut database,
                "CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2",
            )
            .await?;
            database.close().await?;
            if name == "kept" {
                let mut superuser = server.connect("postgres", name).await?;
                run(&mut superuser, "CREATE EXTENSION keepsake").await?;
                run(&mut superuser, keep.manage_all()).await?;
                superuser.close().await?;
            }
        }
        Ok(server)
    }

    async fn connect(&self, role: &str, name: &str) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.postgres.url(role, PASSWORD, name)).await?)
    }

    /// How many rows, or deletions, were kept in all databases.
    async fn kept_rows(&self, keep: Keep) -> Result<i64> {
        let mut all = 0;
        let mut kept = self.connect("postgres", "kept").await?;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT datname FROM pg_database WHERE datname LIKE '%kept%'")
                .fetch_all(&mut kept)
                .await?;
        for name in names {
            let mut database = self.connect("postgres", &name).await?;
            all += sqlx::query_scalar::<_, i64>(keep.count_kept())
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
