//! `pg_dump` and `pg_restore`: deletions go along, and can be restored and purged where they arrive.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::outer_majors;
use sqlx::PgConnection;

use crate::upgrade::{catalog, lacking};
use crate::world::{DATABASE, MANAGE, Server, check_invariants, contents, expect, finish, run};

/// Dumps the forum with these options, and loads it into `into` with those.
fn copy(server: &Server, into: &str, dump: &[&str], restore: &[&str]) -> Result<()> {
    let file = server.scratch("dump")?;
    finish(
        server
            .program("pg_dump", DATABASE)?
            .args(["--format=custom", "--file"])
            .arg(&file)
            .args(dump),
    )?;
    finish(
        server
            .program("pg_restore", into)?
            .args(["--exit-on-error", "--single-transaction", "--dbname", into])
            .args(restore)
            .arg(&file),
    )?;
    Ok(())
}

#[tokio::test]
async fn a_dump_of_everything_carries_the_deletions() -> Result<()> {
    for major in outer_majors()? {
        whole(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn whole(major: u16) -> Result<()> {
    let server = Server::with_forum(major).await?;
    let mut original = server.connect_to(DATABASE).await?;
    let mut restored = server.new_database("restored").await?;
    copy(&server, "restored", &[], &[])?;
    assert_eq!(
        contents(&mut restored).await?,
        contents(&mut original).await?
    );
    let difference = lacking(
        &catalog(&mut restored).await?,
        &catalog(&mut original).await?,
    );
    ensure!(difference.is_empty(), "the catalog differs:\n{difference}");
    deletions_work(&mut restored).await
}

/// Restores and purges what came with the dump, and goes on deleting.
async fn deletions_work(database: &mut PgConnection) -> Result<()> {
    check_invariants(database).await?;
    run(
        database,
        "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table = 'thread'::regclass AND root_key = '{\"id\": 1}';
         SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE state = 'purging';
         INSERT INTO post (thread_id, slug) VALUES (2, 'continues');
         SELECT keepsake.purge_deletion(keepsake.soft_delete('thread', 2))",
    )
    .await?;
    check_invariants(database).await?;
    // The sequences of the dump went on: no key and no outbox row met another.
    expect(
        database,
        "SELECT string_agg(object_key, ' ' ORDER BY id) FROM keepsake.outbox WHERE object_key > 'o/3' OR id <= 2",
        "o/31 o/32 o/41 o/42",
    )
    .await?;
    expect(database, "SELECT count(*) FROM keepsake.outbox", "6").await?;
    expect(
        database,
        "SELECT string_agg(id::text, ' ' ORDER BY id) FROM thread",
        "1 5 6",
    )
    .await?;
    expect(
        database,
        "SELECT count(*) FROM comment WHERE post_id IN (11, 12) AND deleted_at IS NULL",
        "3",
    )
    .await
}

#[tokio::test]
async fn a_schema_and_its_data_can_come_apart() -> Result<()> {
    for major in outer_majors()? {
        apart(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn apart(major: u16) -> Result<()> {
    let server = Server::with_forum(major).await?;
    let mut original = server.connect_to(DATABASE).await?;
    let mut restored = server.new_database("restored").await?;
    copy(&server, "restored", &["--schema-only"], &[])?;
    // The guards would see children before their parents, and deleted rows that nobody deleted.
    let guarded = copy(&server, "restored", &["--data-only"], &[]);
    ensure!(guarded.is_err(), "deleted rows were loaded past the guards");
    expect(&mut restored, "SELECT count(*) FROM thread", "0").await?;
    copy(
        &server,
        "restored",
        &["--data-only"],
        &["--disable-triggers"],
    )?;
    assert_eq!(
        contents(&mut restored).await?,
        contents(&mut original).await?
    );
    deletions_work(&mut restored).await
}

#[tokio::test]
async fn a_schema_alone_is_ready_once_its_tables_are_managed() -> Result<()> {
    for major in outer_majors()? {
        schema_alone(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn schema_alone(major: u16) -> Result<()> {
    let server = Server::with_forum(major).await?;
    let mut original = server.connect_to(DATABASE).await?;
    let mut restored = server.new_database("restored").await?;
    copy(&server, "restored", &["--schema-only"], &[])?;
    expect(
        &mut restored,
        "SELECT count(*) FROM keepsake.managed_table",
        "0",
    )
    .await?;
    run(&mut restored, "DROP INDEX post_slug").await?;
    run(&mut restored, MANAGE).await?;
    let difference = lacking(
        &catalog(&mut restored).await?,
        &catalog(&mut original).await?,
    );
    ensure!(difference.is_empty(), "the catalog differs:\n{difference}");
    run(&mut restored, crate::world::ROWS).await?;
    check_invariants(&mut restored).await
}
