//! Logical replication between two databases that both manage the tables: what the publisher did
//! arrives as rows, the subscriber adds nothing of its own, and can take over.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::outer_majors;
use sqlx::PgConnection;

use crate::world::{
    DATABASE, MANAGE, PASSWORD, ROWS, Server, TABLES, ask, check_invariants, contents, expect,
    refusal, run,
};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_subscriber_has_what_the_publisher_has() -> Result<()> {
    for major in outer_majors()? {
        publish_and_subscribe(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn publish_and_subscribe(major: u16) -> Result<()> {
    let mut publisher = Server::start(major).await?;
    let mut here = publisher.connect_to(DATABASE).await?;
    run(&mut here, "ALTER SYSTEM SET wal_level = logical").await?;
    publisher.postgres.kill();
    publisher.postgres.restart().await?;
    let mut here = publisher.connect_to(DATABASE).await?;
    let subscriber = Server::start(major).await?;
    let mut there = subscriber.connect_to(DATABASE).await?;
    run(&mut here, TABLES).await?;
    run(&mut there, TABLES).await?;
    run(&mut here, MANAGE).await?;
    run(&mut there, MANAGE).await?;

    // One part is there when the subscriber copies the tables, the rest arrives change by change.
    run(
        &mut here,
        "INSERT INTO thread VALUES (70, 'early'); INSERT INTO post VALUES (701, 70, 'early');
         SELECT keepsake.soft_delete('thread', 70);
         CREATE PUBLICATION forum FOR TABLE thread, post, comment, file, pin,
             keepsake.deletion, keepsake.deletion_table, keepsake.outbox, keepsake.detached, keepsake.archive_undo, keepsake.hold",
    )
    .await?;
    run(
        &mut there,
        &format!(
            "CREATE SUBSCRIPTION forum
             CONNECTION 'host=127.0.0.1 port={} user=postgres password={PASSWORD} dbname={DATABASE}' PUBLICATION forum",
            publisher.postgres.port()
        ),
    )
    .await?;
    run(&mut here, ROWS).await?;
    arrives(&mut here, &mut there).await?;
    run(
        &mut here,
        "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table = 'thread'::regclass AND root_key = '{\"id\": 1}';
         SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE state = 'purging';
         SELECT keepsake.soft_delete('thread', 2)",
    )
    .await?;
    arrives(&mut here, &mut there).await?;
    check_invariants(&mut there).await?;

    // The subscriber guards its own writers as before.
    let under_deleted = "INSERT INTO post VALUES (900, 2, 'late')";
    assert_eq!(refusal(&mut there, under_deleted).await?, "23503");
    // Taking over: the deletions are known here, too.
    run(&mut there, "DROP SUBSCRIPTION forum").await?;
    run(
        &mut there,
        "SELECT keepsake.restore(id) FROM keepsake.deletion
         WHERE root_table = 'thread'::regclass AND root_key = '{\"id\": 2}' AND state = 'deleted'",
    )
    .await?;
    check_invariants(&mut there).await?;
    run(
        &mut there,
        "SELECT setval('keepsake.outbox_id_seq', max(id)) FROM keepsake.outbox;
         SELECT keepsake.purge_deletion(deletion_id) FROM post WHERE id = 51",
    )
    .await?;
    expect(
        &mut there,
        "SELECT count(*) FROM keepsake.outbox WHERE object_key = 'o/51'",
        "1",
    )
    .await?;
    expect(
        &mut there,
        "SELECT count(*) FROM post WHERE thread_id = 2 AND deleted_at IS NULL",
        "2",
    )
    .await
}

/// Waits until the subscriber has every row of the publisher, and no other.
async fn arrives(publisher: &mut PgConnection, subscriber: &mut PgConnection) -> Result<()> {
    // The registry of tables is each side's own.
    let own = "UPDATE keepsake.managed_table SET managed_at = '2000-01-01'";
    run(publisher, own).await?;
    run(subscriber, own).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (here, there) = (contents(publisher).await?, contents(subscriber).await?);
        if without_sequences(&here) == without_sequences(&there) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the subscriber has other rows\n{here}\n{there}\n{}",
            ask(
                subscriber,
                "SELECT string_agg(s::text, ' ') FROM pg_stat_subscription s"
            )
            .await?
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Logical replication leaves sequences alone.
fn without_sequences(contents: &str) -> Vec<&str> {
    contents
        .lines()
        .filter(|line| !line.contains("last_value"))
        .collect()
}
