//! What a purge costs: choosing what goes, and letting a million rows go.
//!
//! `KEEPSAKE_BENCH_ROWS` sets how many rows there are (1,000,000; the choice is measured again among
//! ten times as many).

use std::time::{Duration, Instant};

use anyhow::Result;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{AssertSqlSafe, PgConnection};

const ROUNDS: usize = 5;
const BATCH: u32 = 1000;

/// One row in twenty of the first million is deleted, ten rows a deletion; entered by hand, because
/// five thousand deletions by the engine would take longer than all that is measured.
const FILL: &str = "
    DROP EXTENSION IF EXISTS keepsake CASCADE;
    DROP TABLE IF EXISTS item;
    CREATE EXTENSION keepsake;
    CREATE TABLE item (id bigint PRIMARY KEY, body text);
    SELECT keepsake.manage('item', '0');
    INSERT INTO item SELECT n, 'some text here' FROM generate_series(1, ROWS) n;
    SET session_replication_role = replica;
    INSERT INTO keepsake.deletion (id, group_id, root_table, root_key, actor, deleted_at, expires_at)
    SELECT made.id, made.id, 'item', jsonb_build_object('id', n), 'bench', now() - n * interval '1 second', now() - n * interval '1 second'
    FROM generate_series(1, DELETIONS) n, LATERAL (SELECT gen_random_uuid() AS id, n) AS made;
    CREATE TEMP TABLE made AS SELECT (root_key ->> 'id')::bigint AS n, id, deleted_at FROM keepsake.deletion;
    UPDATE item SET deleted_at = made.deleted_at, deletion_id = made.id
    FROM made WHERE item.id % 20 = 0 AND item.id <= DELETIONS * 200 AND made.n = (item.id / 20 - 1) % DELETIONS + 1;
    INSERT INTO keepsake.deletion_table SELECT id, 'item', 10 FROM made;
    DROP TABLE made;
    RESET session_replication_role;
    VACUUM ANALYZE item;
    VACUUM ANALYZE keepsake.deletion;
    VACUUM ANALYZE keepsake.deletion_table;";

async fn run(database: &mut PgConnection, sql: &str) -> Result<()> {
    // One by one: VACUUM and CALL stand outside transactions.
    for statement in sql.split(';').filter(|part| !part.trim().is_empty()) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut *database)
            .await?;
    }
    Ok(())
}

async fn median_of(database: &mut PgConnection, sql: &str) -> Result<f64> {
    let mut times = Vec::new();
    // The first is thrown away: it prepares what the backend keeps.
    for _ in 0..=ROUNDS {
        run(database, "BEGIN").await?;
        let start = Instant::now();
        run(database, sql).await?;
        times.push(start.elapsed());
        run(database, "ROLLBACK").await?;
    }
    let mut times: Vec<Duration> = times.split_off(1);
    times.sort_unstable();
    Ok(times
        .get(ROUNDS / 2)
        .copied()
        .unwrap_or_default()
        .as_secs_f64()
        * 1e3)
}

async fn selection(database: &mut PgConnection, rows: u32, deletions: u32) -> Result<()> {
    let fill = FILL
        .replace("ROWS", &rows.to_string())
        .replace("DELETIONS", &deletions.to_string());
    run(database, &fill).await?;
    let kept = median_of(
        database,
        "SELECT count(*) FROM keepsake.purge_candidates(1000)",
    )
    .await?;
    let bare = median_of(
        database,
        "SELECT count(*) FROM (SELECT id FROM item WHERE deleted_at <= now() ORDER BY deleted_at LIMIT 1000) AS due",
    )
    .await?;
    println!(
        "{:<58} {kept:>9.1} ms {bare:>9.1} ms",
        format!("choosing 1,000 of {} deleted among {rows}", deletions * 10)
    );
    Ok(())
}

const SCHEMA: &str = "
    CREATE TABLE SCHEMA.thread (id bigint PRIMARY KEY, title text);
    CREATE TABLE SCHEMA.post (id bigint PRIMARY KEY, thread_id bigint NOT NULL REFERENCES SCHEMA.thread ON DELETE CASCADE, body text);
    CREATE TABLE SCHEMA.remark (id bigint PRIMARY KEY, post_id bigint NOT NULL REFERENCES SCHEMA.post ON DELETE CASCADE, body text);
    CREATE INDEX ON SCHEMA.post (thread_id);
    CREATE INDEX ON SCHEMA.remark (post_id);
    INSERT INTO SCHEMA.thread VALUES (1, 'one');
    INSERT INTO SCHEMA.post SELECT n, 1, 'text' FROM generate_series(1, ROWS / 100) n;
    INSERT INTO SCHEMA.remark SELECT n, n % (ROWS / 100) + 1, 'some text' FROM generate_series(1, ROWS) n;";

const MARKED: &str = "
    ALTER TABLE bare.NAME ADD COLUMN gone_at timestamptz, ADD COLUMN gone_by uuid;
    CREATE INDEX ON bare.NAME (gone_by) WHERE gone_by IS NOT NULL;
    UPDATE bare.NAME SET gone_at = now(), gone_by = '00000000-0000-7000-8000-000000000001';";

/// The same by hand: leaf first, by key, the rows of each batch found through the index.
async fn purge_by_hand(database: &mut PgConnection) -> Result<()> {
    run(
        database,
        "SET enable_seqscan = off; SET enable_bitmapscan = off",
    )
    .await?;
    for table in ["remark", "post", "thread"] {
        let sql = format!(
            "DELETE FROM bare.{table} WHERE id = ANY (ARRAY(
                 SELECT id FROM bare.{table} WHERE gone_by = '00000000-0000-7000-8000-000000000001' LIMIT {BATCH}))"
        );
        loop {
            let gone = sqlx::query(AssertSqlSafe(sql.clone()))
                .execute(&mut *database)
                .await?;
            if gone.rows_affected() == 0 {
                break;
            }
        }
    }
    run(database, "RESET enable_seqscan; RESET enable_bitmapscan").await
}

async fn purge(database: &mut PgConnection, rows: u32) -> Result<()> {
    run(
        database,
        "DROP EXTENSION IF EXISTS keepsake CASCADE; DROP SCHEMA IF EXISTS kept, bare CASCADE;
         CREATE EXTENSION keepsake; CREATE SCHEMA kept; CREATE SCHEMA bare",
    )
    .await?;
    for side in ["kept", "bare"] {
        let sql = SCHEMA
            .replace("SCHEMA", side)
            .replace("ROWS", &rows.to_string());
        run(database, &sql).await?;
    }
    run(
        database,
        "SELECT keepsake.manage('kept.thread', '0'), keepsake.manage('kept.post', '0'), keepsake.manage('kept.remark', '0');
         SELECT keepsake.soft_delete('kept.thread', 1)",
    )
    .await?;
    for table in ["thread", "post", "remark"] {
        run(database, &MARKED.replace("NAME", table)).await?;
    }
    run(database, "VACUUM ANALYZE; CHECKPOINT").await?;
    let start = Instant::now();
    purge_by_hand(database).await?;
    let bare = start.elapsed().as_secs_f64();
    run(database, "CHECKPOINT; SET client_min_messages = warning").await?;
    let start = Instant::now();
    run(database, &format!("CALL keepsake.purge({BATCH})")).await?;
    let kept = start.elapsed().as_secs_f64();
    println!(
        "{:<58} {:>9.1} ms {:>9.1} ms  {:.2} × the speed",
        format!("purging {rows} rows, {BATCH} a batch"),
        kept * 1e3,
        bare * 1e3,
        bare / kept
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let rows = std::env::var("KEEPSAKE_BENCH_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(1_000_000);
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "bench", &leash).await?;
    let mut database = postgres.connect().await?;
    println!("{:<58} {:>12} {:>12}", "", "keepsake", "by hand");
    for _ in 0..3 {
        purge(&mut database, rows).await?;
    }
    println!("{:<58} {:>12} {:>12}", "", "keepsake", "no index");
    selection(&mut database, rows, rows / 200).await?;
    selection(&mut database, rows.saturating_mul(10), rows / 200).await
}
