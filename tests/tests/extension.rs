//! The extension by itself: its golden scripts and its stepped interleavings, by PostgreSQL's own
//! test programs on a cluster of their own.
//!
//! `pg_ext/tests/sql` with `expected` are scripts and what they must print; `specs` are sessions
//! whose steps are taken in every order that is named.
//! <https://www.postgresql.org/docs/15/regress.html>

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use keepsake_tests::places::{
    POSTGRES_MAJOR, checkout, outer_majors, postgres_program, tested_majors,
};
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::AssertSqlSafe;

const PASSWORD: &str = "regress";

/// Runs one of PostgreSQL's test programs over a schedule on one release, if that is among these, and fails with the differences.
async fn run(
    major: u16,
    tested: &[u16],
    program: &str,
    folder: &str,
    schedule: &str,
) -> Result<()> {
    if !tested.contains(&major) {
        return Ok(());
    }
    let (home, leash) = throwaway_folder()?;
    let postgres = Postgres::start_release(major, &home, PASSWORD, &leash).await?;
    let mut superuser = postgres.connect().await?;
    // The scripts make thousands of commits, and the machine is not going to lose its power.
    for setting in ["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"] {
        sqlx::query(setting).execute(&mut superuser).await?;
    }
    sqlx::query("CREATE DATABASE regression")
        .execute(&mut superuser)
        .await?;
    let output = home.join(folder);
    std::fs::create_dir_all(&output)?;
    let programs = test_programs()?.join(folder);
    let tests = checkout().join("pg_ext/tests");
    let ran = Command::new(programs.join(program))
        .env("PGPASSWORD", PASSWORD)
        .args([
            "--use-existing",
            "--dbname=regression",
            "--host=127.0.0.1",
            "--user=postgres",
        ])
        .arg(format!("--port={}", postgres.port()))
        .arg(format!("--inputdir={}", tests.display()))
        .arg(format!("--outputdir={}", output.display()))
        .arg(format!(
            "--bindir={}",
            bin_folder(&programs, folder)?.display()
        ))
        .arg(format!("--schedule={}", tests.join(schedule).display()))
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !ran.status.success() {
        let differences = std::fs::read_to_string(output.join("regression.diffs"));
        bail!(
            "{}\n{}\n{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr),
            differences.unwrap_or_default()
        );
    }
    Ok(())
}

/// Where the server's development package keeps its test programs: those of one release for all,
/// so that what they print is the same. They are clients, and a newer server serves them as well.
fn test_programs() -> Result<PathBuf> {
    let bin = postgres_program(POSTGRES_MAJOR, "postgres")?;
    let version = bin
        .parent()
        .and_then(|bin| bin.parent())
        .context("no version folder")?;
    Ok(version.join("lib/pgxs/src/test"))
}

/// `pg_regress` needs `psql`; `pg_isolation_regress` needs `isolationtester`, its neighbour.
fn bin_folder(programs: &std::path::Path, folder: &str) -> Result<PathBuf> {
    if folder == "isolation" {
        return Ok(programs.to_path_buf());
    }
    Ok(postgres_program(POSTGRES_MAJOR, "psql")?
        .parent()
        .context("no bin folder")?
        .to_path_buf())
}

async fn golden_scripts(major: u16, tested: &[u16], schedule: &str) -> Result<()> {
    run(major, tested, "pg_regress", "regress", schedule).await
}

async fn stepped_interleavings(major: u16) -> Result<()> {
    let schedule = "isolation_schedule";
    let tested = outer_majors()?;
    run(
        major,
        &tested,
        "pg_isolation_regress",
        "isolation",
        schedule,
    )
    .await
}

/// A test of its own for each release, so that they share the cores. One that is not tested here passes.
macro_rules! on_each_release {
    ($($release:ident = $major:literal),+ $(,)?) => {
        /// Each is among the tests below.
        const RELEASES: &[u16] = &[$($major),+];

        $(mod $release {
            #[tokio::test]
            async fn golden_scripts() -> anyhow::Result<()> {
                super::golden_scripts($major, &super::tested_majors()?, "schedule").await
            }

            #[tokio::test]
            async fn exhaustive_golden_scripts() -> anyhow::Result<()> {
                super::golden_scripts($major, &super::outer_majors()?, "schedule_exhaustive").await
            }

            #[tokio::test]
            #[ignore = "only a server with assertions can forget its caches: make test-asserts"]
            async fn a_golden_script_without_caches() -> anyhow::Result<()> {
                super::golden_scripts($major, &super::tested_majors()?, "schedule_without_caches").await
            }

            #[tokio::test]
            async fn stepped_interleavings() -> anyhow::Result<()> {
                super::stepped_interleavings($major).await
            }
        })+
    };
}

on_each_release!(
    postgres_15 = 15,
    postgres_16 = 16,
    postgres_17 = 17,
    postgres_18 = 18,
    postgres_19 = 19,
);

#[test]
fn no_release_is_left_out() -> Result<()> {
    for major in tested_majors()? {
        assert!(
            RELEASES.contains(&major),
            "no test runs on PostgreSQL {major}"
        );
    }
    Ok(())
}

/// How many rows let go of one that is deleted.
const CHILDREN: i32 = 50_000;
/// How much memory of its own that may take: a window of rows, not all. Kept whole, they are hundreds.
const MOST_MEMORY: u64 = 24 << 20;

/// The memory of a backend that is its own, in bytes, as Linux tells it.
fn own_memory(backend: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{backend}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .context("no RssAnon in the status of the backend")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

#[tokio::test]
async fn set_null_takes_no_memory_for_each_row() -> Result<()> {
    let (home, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&home, PASSWORD, &leash).await?;
    let mut database = postgres.connect().await?;
    let fill = format!(
        "CREATE EXTENSION keepsake;
         CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE SET NULL);
         SELECT keepsake.manage('parent');
         INSERT INTO parent VALUES (1), (2);
         INSERT INTO child SELECT n, 1 FROM generate_series(1, {CHILDREN}) n;"
    );
    sqlx::raw_sql(AssertSqlSafe(fill))
        .execute(&mut database)
        .await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut database)
        .await?;
    // What a backend keeps in any case: the catalog's caches, plans.
    for statement in [
        "DELETE FROM parent WHERE id = 2",
        "SELECT count(*) FROM child",
    ] {
        sqlx::raw_sql(statement).execute(&mut database).await?;
    }
    let before = own_memory(backend)?;
    // What the transaction holds at its end is in use still.
    sqlx::raw_sql("BEGIN; DELETE FROM parent WHERE id = 1")
        .execute(&mut database)
        .await?;
    let deleted = own_memory(backend)?.saturating_sub(before);
    sqlx::raw_sql("COMMIT; BEGIN; SELECT keepsake.restore(id) FROM keepsake.deletion ORDER BY deleted_at DESC LIMIT 1")
        .execute(&mut database)
        .await?;
    let restored = own_memory(backend)?.saturating_sub(before);
    sqlx::raw_sql("COMMIT").execute(&mut database).await?;
    let back: i64 = sqlx::query_scalar("SELECT count(*) FROM child WHERE parent_id = 1")
        .fetch_one(&mut database)
        .await?;
    assert_eq!(back, i64::from(CHILDREN));
    assert!(
        deleted < MOST_MEMORY && restored < MOST_MEMORY,
        "the backend took {} MiB to delete and {} MiB to restore",
        deleted >> 20,
        restored >> 20
    );
    Ok(())
}
