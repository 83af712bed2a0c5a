//! `ALTER EXTENSION keepsake UPDATE` from every released version: what comes out is what a fresh
//! install has, and what the old version had deleted can be restored and purged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::{TESTED_MAJORS, checkout};
use sqlx::PgConnection;

use crate::world::{Server, check_invariants, contents, expect, finish, run};

/// The tables that the old version's dump has, in a database that starts with the new one.
const FRESH_TABLES: &str = include_str!("released_tables.sql");

const CATALOG: &str = include_str!("catalog.sql");

/// What, and how it is defined, made and dropped.
pub type Catalog = BTreeMap<String, [String; 3]>;

pub async fn catalog(database: &mut PgConnection) -> Result<Catalog> {
    // Names are printed whole when nothing is on the path.
    run(database, "SET search_path = pg_catalog").await?;
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as(CATALOG).fetch_all(&mut *database).await?;
    run(database, "RESET search_path").await?;
    Ok(rows
        .into_iter()
        .map(|(what, definition, make, drop)| (what, [definition, make, drop]))
        .collect())
}

/// The statements that would make `found` into `wanted`, or nearly: a person finishes them.
pub fn lacking(found: &Catalog, wanted: &Catalog) -> String {
    let names: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let mut script = String::new();
    for what in names {
        let step = match (found.get(what), wanted.get(what)) {
            (Some([_, _, drop]), None) => format!("-- surplus: {what}\n{drop}\n"),
            (None, Some([_, make, _])) => format!("-- missing: {what}\n{make}\n"),
            (Some([is, ..]), Some([should, make, _])) if is != should => {
                format!("-- differs: {what}\n--   is     {is}\n--   should {should}\n{make}\n")
            }
            _ => continue,
        };
        script += &step;
    }
    script
}

/// The released versions, oldest first, with their dumps.
fn releases() -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(checkout().join("pg_ext/releases"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix("keepsake--")?.strip_suffix(".dump"));
        if let Some(version) = version {
            found.push((version.to_owned(), path.clone()));
        }
    }
    ensure!(!found.is_empty(), "pg_ext/releases has no dump");
    found.sort();
    Ok(found)
}

/// A database as the released version left it. Neither its event triggers nor its guards run while it
/// is loaded: they would call the new library with the old tables.
async fn load_release(server: &Server, name: &str, dump: &PathBuf) -> Result<PgConnection> {
    let database = server.new_database(name).await?;
    finish(
        server
            .program("psql", name)?
            .env("PGOPTIONS", "-c session_replication_role=replica")
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--single-transaction",
            ])
            .stdin(fs::File::open(dump)?),
    )?;
    Ok(database)
}

#[tokio::test]
async fn an_updated_extension_equals_a_fresh_one() -> Result<()> {
    for major in TESTED_MAJORS {
        for (version, dump) in releases()? {
            update_and_compare(major, &version, &dump)
                .await
                .with_context(|| format!("from {version} on PostgreSQL {major}"))?;
        }
    }
    Ok(())
}

async fn update_and_compare(major: u16, version: &str, dump: &PathBuf) -> Result<()> {
    let server = Server::start(major).await?;
    let mut fresh = server.new_database("fresh").await?;
    run(&mut fresh, FRESH_TABLES).await?;
    let mut updated = load_release(&server, "updated", dump).await?;
    expect(
        &mut updated,
        "SELECT extversion FROM pg_extension WHERE extname = 'keepsake'",
        version,
    )
    .await?;

    run(&mut updated, "ALTER EXTENSION keepsake UPDATE").await?;
    let script = lacking(&catalog(&mut updated).await?, &catalog(&mut fresh).await?);
    ensure!(
        script.is_empty(),
        "the update from {version} lacks these steps:\n{script}"
    );
    old_deletions_work(&mut updated).await
}

/// What 0.1.0 had deleted comes back, or goes for good, by the new version.
async fn old_deletions_work(database: &mut PgConnection) -> Result<()> {
    check_invariants(database).await?;
    let before = contents(database).await?;
    run(
        database,
        "SELECT keepsake.manage(relation) FROM keepsake.managed_table",
    )
    .await?;
    assert_eq!(contents(database).await?, before, "manage() changed data");

    run(
        database,
        "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table = 'thread'::regclass AND root_key = '{\"id\": 1}';
         SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE state = 'purging';
         SELECT keepsake.soft_delete('thread', 2);
         INSERT INTO post (id, thread_id, slug) VALUES (99, 5, 'new')",
    )
    .await?;
    check_invariants(database).await?;
    expect(
        database,
        "SELECT count(*) FROM comment WHERE post_id IN (11, 12) AND deleted_at IS NULL",
        "3",
    )
    .await?;
    expect(database, "SELECT count(*) FROM thread WHERE id = 4", "0").await?;
    expect(
        database,
        "SELECT string_agg(object_key, ' ' ORDER BY object_key) FROM keepsake.outbox",
        "o/31 o/32 o/41 o/42",
    )
    .await
}
