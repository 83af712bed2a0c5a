//! What changes after `manage()` is followed, or refused, or reported; never silently wrong.

use anyhow::{Context as _, Result};
use keepsake_tests::places::outer_majors;
use sqlx::PgConnection;

use crate::world::{DATABASE, Server, check_invariants, expect, refusal, run};

#[tokio::test]
async fn ddl_after_manage_is_followed_or_reported() -> Result<()> {
    for major in outer_majors()? {
        let server = Server::with_forum(major).await?;
        let mut database = server.connect_to(DATABASE).await?;
        all(&mut database)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn all(database: &mut PgConnection) -> Result<()> {
    new_references(database).await?;
    new_names(database).await?;
    check_invariants_renamed(database).await?;
    renamed_key(database).await?;
    renamed_columns(database).await?;
    dropped_tables(database).await
}

async fn new_references(database: &mut PgConnection) -> Result<()> {
    run(
        database,
        "CREATE TABLE vote (id int PRIMARY KEY, thread_id bigint);
         INSERT INTO vote VALUES (1, 1), (5, 5)",
    )
    .await?;
    let refer = "ALTER TABLE vote ADD FOREIGN KEY (thread_id) REFERENCES thread ON DELETE CASCADE";
    assert_eq!(
        refusal(database, refer).await?,
        "23503",
        "a row refers to a deleted thread"
    );
    run(database, "DELETE FROM vote WHERE id = 1").await?;
    run(database, refer).await?;
    // Followed at once, in the session that knew the old graph: an unmanaged table restricts.
    assert_eq!(
        refusal(database, "SELECT keepsake.soft_delete('thread', 5)").await?,
        "23503"
    );
    assert_eq!(
        refusal(database, "INSERT INTO vote VALUES (2, 1)").await?,
        "23503"
    );
    run(
        database,
        "SELECT keepsake.manage('vote'); SELECT keepsake.soft_delete('thread', 5)",
    )
    .await?;
    expect(
        database,
        "SELECT deleted_at IS NOT NULL FROM vote WHERE id = 5",
        "true",
    )
    .await?;
    run(
        database,
        "SELECT keepsake.restore(deletion_id) FROM thread WHERE id = 5;
         ALTER TABLE vote ADD COLUMN post_id bigint REFERENCES post ON DELETE CASCADE",
    )
    .await?;
    // No guard stands in the way of the column, and the other reference is guarded still.
    run(database, "ALTER TABLE vote DROP COLUMN thread_id").await?;
    run(database, "SELECT keepsake.soft_delete('thread', 5)").await?;
    expect(
        database,
        "SELECT deleted_at IS NULL FROM vote WHERE id = 5",
        "true",
    )
    .await?;
    assert_eq!(
        refusal(database, "UPDATE vote SET post_id = 51").await?,
        "23503"
    );
    run(
        database,
        "SELECT keepsake.restore(deletion_id) FROM thread WHERE id = 5",
    )
    .await?;
    check_invariants(database).await
}

async fn new_names(database: &mut PgConnection) -> Result<()> {
    run(
        database,
        "CREATE SCHEMA forum; ALTER TABLE thread SET SCHEMA forum; ALTER SCHEMA forum RENAME TO \"the forum\";
         ALTER TABLE \"the forum\".thread RENAME TO \"Thread\"; ALTER TABLE post RENAME COLUMN thread_id TO \"in\"; ALTER TABLE comment RENAME TO remark;
         ALTER TABLE remark RENAME CONSTRAINT comment_post_id_fkey TO on_post",
    )
    .await?;
    run(
        database,
        "SELECT keepsake.soft_delete('\"the forum\".\"Thread\"', 5)",
    )
    .await?;
    expect(
        database,
        "SELECT count(*) FROM remark WHERE deleted_at IS NULL AND post_id / 10 = 5",
        "0",
    )
    .await?;
    assert_eq!(
        refusal(database, "INSERT INTO post VALUES (999, 5, 'late')").await?,
        "23503"
    );
    assert_eq!(
        refusal(database, "UPDATE post SET \"in\" = 5 WHERE id = 61").await?,
        "23503"
    );
    run(
        database,
        "SELECT keepsake.restore(deletion_id) FROM \"the forum\".\"Thread\" WHERE id = 5",
    )
    .await?;
    // What was deleted under the old names comes back under the new ones.
    run(
        database,
        "SELECT keepsake.restore(deletion_id) FROM \"the forum\".\"Thread\" WHERE id = 1",
    )
    .await?;
    expect(
        database,
        "SELECT count(*) FROM remark WHERE deleted_at IS NULL AND post_id / 10 = 1",
        "3",
    )
    .await
}

async fn check_invariants_renamed(database: &mut PgConnection) -> Result<()> {
    run(
        database,
        "ALTER TABLE remark RENAME TO comment; ALTER TABLE post RENAME COLUMN \"in\" TO thread_id;
         ALTER TABLE \"the forum\".\"Thread\" RENAME TO thread;
         ALTER TABLE \"the forum\".thread SET SCHEMA public",
    )
    .await?;
    check_invariants(database).await
}

/// A deletion knows its root by a key of one column whatever the column is called now.
async fn renamed_key(database: &mut PgConnection) -> Result<()> {
    run(
        database,
        "SELECT keepsake.soft_delete('thread', 5); ALTER TABLE thread RENAME COLUMN id TO no;
         SELECT keepsake.restore(keepsake.soft_delete('thread', 2))",
    )
    .await?;
    run(
        database,
        "SELECT keepsake.restore(deletion_id) FROM post WHERE id = 52",
    )
    .await?;
    run(database, "ALTER TABLE thread RENAME COLUMN no TO id").await?;
    expect(
        database,
        "SELECT deleted_at IS NULL FROM thread WHERE id = 5",
        "true",
    )
    .await
}

/// The registry follows the renames of columns that it names.
async fn renamed_columns(database: &mut PgConnection) -> Result<()> {
    run(
        database,
        "ALTER TABLE file RENAME COLUMN object_key TO store_key;
         ALTER TABLE file RENAME COLUMN entity_id TO post_id",
    )
    .await?;
    expect(
        database,
        "SELECT key_column::text FROM keepsake.bound_storage WHERE relation = 'file'::regclass",
        "store_key",
    )
    .await?;
    run(
        database,
        "SELECT keepsake.restore(keepsake.soft_delete('post', 61))",
    )
    .await?;
    run(
        database,
        "ALTER TABLE file RENAME COLUMN store_key TO object_key;
         ALTER TABLE file RENAME COLUMN post_id TO entity_id",
    )
    .await?;
    run(
        database,
        "SELECT keepsake.restore(keepsake.soft_delete('post', 61))",
    )
    .await?;

    // The marks themselves cannot go by accident, as the triggers need them.
    assert_eq!(
        refusal(database, "ALTER TABLE post DROP COLUMN deleted_at").await?,
        "2BP01"
    );
    check_invariants(database).await
}

async fn dropped_tables(database: &mut PgConnection) -> Result<()> {
    run(database, "DROP TABLE vote, pin; DROP TABLE comment").await?;
    expect(
        database,
        "SELECT string_agg(relation::text, ' ' ORDER BY relation::text) FROM keepsake.managed_table",
        "file post thread",
    )
    .await?;
    run(
        database,
        "SELECT keepsake.soft_delete('thread', 6); SELECT keepsake.restore(deletion_id) FROM thread WHERE id = 6;
         SELECT keepsake.purge_deletion(deletion_id) FROM post WHERE id = 51",
    )
    .await?;
    expect(database, "SELECT count(*) FROM post WHERE id = 51", "0").await
}
