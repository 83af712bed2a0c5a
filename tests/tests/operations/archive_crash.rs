//! The server is killed while rows go to their archives and come back: each row is then live or archived, once, as it was.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::POSTGRES_MAJOR;
use sqlx::PgConnection;

use crate::busy_clients::{busy, call};
use crate::world::{DATABASE, Server, ask, expect, run};

/// How long clients go on before a kill.
const MOMENTS: [u64; 8] = [25, 60, 95, 150, 220, 310, 40, 130];

const FORUM: &str = "
    CREATE EXTENSION keepsake;
    CREATE TABLE thread (id int PRIMARY KEY, n int);
    CREATE TABLE post (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES thread ON DELETE CASCADE, body text);
    CREATE TABLE comment (id int PRIMARY KEY, post_id int NOT NULL REFERENCES post ON DELETE CASCADE, reply_to int REFERENCES comment ON DELETE CASCADE)
        PARTITION BY HASH (id);
    CREATE TABLE comment_0 PARTITION OF comment FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE comment_1 PARTITION OF comment FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE INDEX ON post (thread_id);
    CREATE INDEX ON comment (post_id);
    CREATE INDEX ON comment (reply_to);
    SELECT keepsake.manage('thread', '30 days', keep => 'archive', cascade => true);
    SELECT keepsake.archive_by_month('comment');
    INSERT INTO thread SELECT t, t FROM generate_series(1, 20) AS t;
    INSERT INTO post SELECT p, 1 + p % 20, repeat(md5(p::text), 100 * (p % 3)) FROM generate_series(1, 300) AS p;
    INSERT INTO comment SELECT c, 1 + c % 300, CASE WHEN c % 7 = 0 THEN c - 300 END FROM generate_series(301, 2100) AS c WHERE c % 7 > 0 OR c > 600;
    CREATE TABLE first AS
        SELECT 'thread' AS relation, to_jsonb(t) AS line FROM thread AS t
        UNION ALL SELECT 'post', to_jsonb(t) FROM post AS t UNION ALL SELECT 'comment', to_jsonb(t) FROM comment AS t;";

/// A line for each row that is lost, is there twice, or is another than it was.
const WRONG: &str = "
    WITH there AS (
        SELECT 'thread' AS relation, to_jsonb(t) AS line FROM thread AS t
        UNION ALL SELECT 'post', to_jsonb(t) FROM post AS t
        UNION ALL SELECT 'comment', to_jsonb(t) FROM comment AS t
        UNION ALL SELECT 'thread', to_jsonb(t) - 'keepsake_deletion' - 'keepsake_seq' - 'keepsake_layout' FROM public_deleted.thread AS t
        UNION ALL SELECT 'post', to_jsonb(t) - 'keepsake_deletion' - 'keepsake_seq' - 'keepsake_layout' FROM public_deleted.post AS t
        UNION ALL SELECT 'comment', to_jsonb(t) - 'keepsake_deletion' - 'keepsake_seq' - 'keepsake_layout' FROM public_deleted.comment AS t
    ), archived AS (
        SELECT keepsake_deletion AS deletion_id, 'thread'::regclass AS relation FROM public_deleted.thread
        UNION ALL SELECT keepsake_deletion, 'post' FROM public_deleted.post
        UNION ALL SELECT keepsake_deletion, 'comment' FROM public_deleted.comment
    ), counted AS (
        SELECT t.deletion_id, t.relation, t.row_count - t.purged AS n FROM keepsake.deletion_table AS t
        JOIN keepsake.deletion AS d ON d.id = t.deletion_id AND d.state <> 'restored'
    )
    SELECT string_agg(what, E'\\n') FROM (
        (SELECT 'lost: ' || relation || ' ' || left(line::text, 80) AS what FROM (TABLE first EXCEPT ALL TABLE there) AS a LIMIT 5)
        UNION ALL
        (SELECT 'too many: ' || relation || ' ' || left(line::text, 80) FROM (TABLE there EXCEPT ALL TABLE first) AS a LIMIT 5)
        UNION ALL
        (SELECT format('%s has %s rows of %s, not %s', deletion_id, a.n, relation, c.n)
         FROM (SELECT deletion_id, relation, count(*) AS n FROM archived GROUP BY 1, 2) AS a FULL JOIN counted AS c USING (deletion_id, relation)
         WHERE coalesce(a.n, 0) <> coalesce(c.n, 0) LIMIT 5)
        UNION ALL
        (SELECT format('%s is archived by %s, which is %s', relation, deletion_id, d.state)
         FROM archived LEFT JOIN keepsake.deletion AS d ON d.id = deletion_id WHERE d.state IS DISTINCT FROM 'deleted' LIMIT 5)
        UNION ALL
        (SELECT 'a comment without its post' FROM comment AS c WHERE NOT EXISTS (SELECT FROM post AS p WHERE p.id = c.post_id) LIMIT 1)
        UNION ALL
        (SELECT 'a post without its thread' FROM post AS p WHERE NOT EXISTS (SELECT FROM thread AS t WHERE t.id = p.thread_id) LIMIT 1)
        UNION ALL
        (SELECT 'a reply to nothing' FROM comment AS c WHERE reply_to IS NOT NULL AND NOT EXISTS (SELECT FROM comment AS p WHERE p.id = c.reply_to) LIMIT 1)
    ) AS wrong";

async fn check(database: &mut PgConnection) -> Result<()> {
    // Once by the indexes, once past them.
    for setting in ["on", "off"] {
        run(database, &format!("SET enable_seqscan = {setting}")).await?;
        expect(database, WRONG, "").await?;
    }
    run(database, "RESET enable_seqscan").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_live_or_archived_after_a_kill() -> Result<()> {
    let mut server = Server::start(POSTGRES_MAJOR).await?;
    run(&mut server.connect_to(DATABASE).await?, FORUM).await?;
    let steps = [
        "DELETE FROM thread WHERE id = 1 + floor(random() * 20)::int",
        "DELETE FROM post WHERE id BETWEEN n % 300 AND n % 300 + 5; DELETE FROM comment WHERE id % 50 = n % 50",
        "PERFORM keepsake.restore(id) FROM (SELECT id FROM keepsake.deletion WHERE state = 'deleted' ORDER BY random() LIMIT 1) AS chosen",
        "PERFORM keepsake.restore(id, 'skip') FROM (SELECT id FROM keepsake.deletion WHERE state = 'deleted' ORDER BY id DESC LIMIT 1) AS chosen",
    ];
    for moment in MOMENTS {
        let mut clients = Vec::new();
        for step in steps {
            clients.push(call(&server, &busy(step)).await?);
        }
        tokio::time::sleep(Duration::from_millis(moment)).await;
        server.postgres.kill();
        for client in clients {
            client.await??;
        }
        server.postgres.restart().await?;
        let mut database = server.connect_to(DATABASE).await?;
        check(&mut database)
            .await
            .with_context(|| format!("killed after {moment} ms"))?;
    }
    let mut database = server.connect_to(DATABASE).await?;
    let settled: i64 = ask(
        &mut database,
        "SELECT count(*) FROM keepsake.deletion WHERE state = 'restored'",
    )
    .await?
    .parse()?;
    let open: i64 = ask(
        &mut database,
        "SELECT count(*) FROM keepsake.deletion WHERE state = 'deleted'",
    )
    .await?
    .parse()?;
    ensure!(
        settled > 0 && settled + open >= 20,
        "the clients did too little: {settled} deletions restored, {open} not"
    );
    // A row whose other parent is gone as well waits for that parent's deletion; in the end all are back.
    for _ in 0..20 {
        run(
            &mut database,
            "SELECT keepsake.restore(id, 'skip') FROM (SELECT id FROM keepsake.deletion WHERE state = 'deleted' ORDER BY id) AS d",
        )
        .await?;
    }
    check(&mut database).await?;
    expect(
        &mut database,
        "SELECT count(*) FROM public_deleted.thread",
        "0",
    )
    .await?;
    expect(
        &mut database,
        "SELECT count(*) FROM public_deleted.post",
        "0",
    )
    .await?;
    expect(
        &mut database,
        "SELECT count(*) FROM public_deleted.comment",
        "0",
    )
    .await
}
