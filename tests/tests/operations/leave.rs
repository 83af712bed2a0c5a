//! Taking Keepsake away: what it had added goes, what is the application's stays.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::outer_majors;
use sqlx::PgConnection;

use crate::world::{DATABASE, MANAGE, Server, TABLES, ask, expect, run};

/// All that the catalog says of the application's tables.
async fn shape(database: &mut PgConnection) -> Result<String> {
    ask(database, include_str!("shape.sql")).await
}

#[tokio::test]
async fn unmanage_undoes_manage() -> Result<()> {
    for major in outer_majors()? {
        manage_and_back(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn manage_and_back(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let mut database = server.connect_to(DATABASE).await?;
    run(&mut database, TABLES).await?;
    run(
        &mut database,
        "INSERT INTO thread VALUES (1, 't'); INSERT INTO post VALUES (1, 1, 'p');
         INSERT INTO comment VALUES (1, 1, NULL), (2, 1, 1); INSERT INTO file VALUES (1, 'post', 1, 'o/1')",
    )
    .await?;
    let before = shape(&mut database).await?;
    run(&mut database, MANAGE).await?;
    assert_ne!(shape(&mut database).await?, before);
    // That index looks at `deleted_at`, so it has to go first.
    run(
        &mut database,
        "DROP INDEX post_slug;
         SELECT keepsake.restore(keepsake.soft_delete('thread', 1));
         SELECT keepsake.unmanage('file'), keepsake.unmanage('comment'), keepsake.unmanage('post'), keepsake.unmanage('thread')",
    )
    .await?;
    let after = shape(&mut database).await?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    for table in ["managed_table", "declared_reference", "bound_storage"] {
        expect(
            &mut database,
            &format!("SELECT count(*) FROM keepsake.{table}"),
            "0",
        )
        .await?;
    }
    // Foreign keys do again what they say.
    run(&mut database, "DELETE FROM thread").await?;
    expect(&mut database, "SELECT count(*) FROM comment", "0").await?;
    expect(&mut database, "SELECT count(*) FROM file", "1").await
}

#[tokio::test]
async fn dropping_the_extension_leaves_rows_and_columns() -> Result<()> {
    for major in outer_majors()? {
        drop_extension(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

const ROWS_OF_THE_APPLICATION: &str = "
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT to_jsonb(t)::text FROM thread t UNION ALL SELECT to_jsonb(t)::text FROM post t
        UNION ALL SELECT to_jsonb(t)::text FROM comment t UNION ALL SELECT to_jsonb(t)::text FROM file t
        UNION ALL SELECT to_jsonb(t)::text FROM pin t) AS rows (line)";

async fn drop_extension(major: u16) -> Result<()> {
    let server = Server::with_forum(major).await?;
    let mut database = server.connect_to(DATABASE).await?;
    let before = ask(&mut database, ROWS_OF_THE_APPLICATION).await?;
    run(&mut database, "DROP EXTENSION keepsake CASCADE").await?;
    assert_eq!(ask(&mut database, ROWS_OF_THE_APPLICATION).await?, before);
    expect(
        &mut database,
        "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal",
        "0",
    )
    .await?;
    expect(
        &mut database,
        "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('keepsake')",
        "0",
    )
    .await?;
    // The tables are plain ones again.
    run(
        &mut database,
        "DELETE FROM post WHERE id = 51; TRUNCATE file; DELETE FROM thread WHERE id = 1",
    )
    .await?;
    expect(
        &mut database,
        "SELECT count(*) FROM comment WHERE post_id IN (11, 12, 51)",
        "0",
    )
    .await
}
