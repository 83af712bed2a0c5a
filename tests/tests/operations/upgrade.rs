//! `ALTER EXTENSION keepsake UPDATE` from every released version, and from one that is made up: what comes out is what a
//! fresh install has, and what the old version had deleted can be restored and purged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::{checkout, outer_majors};
use sqlx::PgConnection;

use crate::world::{MANAGE, ROWS, Server, TABLES, check_invariants, contents, expect, finish, run};

/// The version that `scripts/install-extension` makes up from `earlier/`.
const MADE_UP: &str = "0.0.1";

/// What it lacks, as [`lacking`] says it.
const MADE_UP_LACKS: [&str; 4] = [
    "-- missing: function keepsake.sanitize_filename(text)",
    "-- missing: index keepsake.deletion_bin",
    "-- missing: relation keepsake.metrics",
    "-- differs: function keepsake.doctor()",
];

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
    found.sort();
    Ok(found)
}

/// What `pg_dump` says of a database in which the made-up version has the forum, with its version named, which
/// `pg_dump` leaves to whoever restores.
async fn made_up_dump(server: &Server) -> Result<PathBuf> {
    let mut earlier = server.new_database("earlier").await?;
    run(
        &mut earlier,
        &format!("CREATE EXTENSION keepsake VERSION '{MADE_UP}'"),
    )
    .await?;
    run(
        &mut earlier,
        &TABLES.replace("CREATE EXTENSION keepsake;", ""),
    )
    .await?;
    run(&mut earlier, MANAGE).await?;
    run(&mut earlier, ROWS).await?;
    let dump = finish(server.program("pg_dump", "earlier")?.arg("--no-owner"))?;
    let plain = "CREATE EXTENSION IF NOT EXISTS keepsake WITH SCHEMA keepsake;";
    ensure!(
        dump.contains(plain),
        "the dump makes the extension otherwise:\n{dump}"
    );
    let dump = dump.replace(
        plain,
        &format!("CREATE EXTENSION keepsake WITH SCHEMA keepsake VERSION '{MADE_UP}';"),
    );
    let path = server.scratch("earlier.dump")?;
    fs::write(&path, dump)?;
    Ok(path)
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
    for major in outer_majors()? {
        from_the_made_up_version(major)
            .await
            .with_context(|| format!("from the made-up version on PostgreSQL {major}"))?;
        for (version, dump) in releases()? {
            let server = Server::start(major).await?;
            update_and_compare(&server, &version, &dump)
                .await
                .with_context(|| format!("from {version} on PostgreSQL {major}"))?;
        }
    }
    Ok(())
}

async fn from_the_made_up_version(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let dump = made_up_dump(&server).await?;
    let mut fresh = server.new_database("current").await?;
    run(&mut fresh, TABLES).await?;
    run(&mut fresh, MANAGE).await?;
    let mut earlier = server.connect_to("earlier").await?;
    let script = lacking(&catalog(&mut earlier).await?, &catalog(&mut fresh).await?);
    for step in MADE_UP_LACKS {
        ensure!(
            script.lines().any(|line| line == step),
            "the comparison does not see {step}:\n{script}"
        );
    }
    update_and_compare(&server, MADE_UP, &dump).await
}

async fn update_and_compare(server: &Server, version: &str, dump: &PathBuf) -> Result<()> {
    let mut fresh = server.new_database("fresh").await?;
    run(&mut fresh, TABLES).await?;
    run(&mut fresh, MANAGE).await?;
    let mut updated = load_release(server, "updated", dump).await?;
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

/// What the old version had deleted comes back, or goes for good, by the new one.
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
    // All of thread 1 but the comment that was deleted before it on its own.
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
