//! What the extension costs, as ratios to the same work by hand, side by side in one run.
//!
//! Every measurement alternates between the two sides and rolls its work back; the table gives the
//! median of each and their ratio. `KEEPSAKE_BENCH_ROWS` sets how many rows (100,000).

use std::time::{Duration, Instant};

use anyhow::Result;
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{AssertSqlSafe, PgConnection};

const ROUNDS: usize = 5;

/// Two copies of one schema: `kept` is managed, `bare` is not but has the same columns and indexes.
const SCHEMA: &str = "
    CREATE EXTENSION keepsake;
    CREATE SCHEMA kept;
    CREATE SCHEMA bare;
    CREATE TABLE kept.thread (id int PRIMARY KEY, title text);
    CREATE TABLE kept.post (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES kept.thread ON DELETE CASCADE, body text);
    CREATE TABLE kept.remark (id int PRIMARY KEY, post_id int NOT NULL REFERENCES kept.post ON DELETE CASCADE, body text);
    CREATE INDEX ON kept.post (thread_id);
    CREATE INDEX ON kept.remark (post_id);
    SELECT keepsake.manage('kept.thread', '0'), keepsake.manage('kept.post', '0'), keepsake.manage('kept.remark', '0');
    CREATE TABLE bare.thread (id int PRIMARY KEY, title text, deleted_at timestamptz, deletion_id uuid);
    CREATE TABLE bare.post (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES bare.thread ON DELETE CASCADE, body text, deleted_at timestamptz, deletion_id uuid);
    CREATE TABLE bare.remark (id int PRIMARY KEY, post_id int NOT NULL REFERENCES bare.post ON DELETE CASCADE, body text, deleted_at timestamptz, deletion_id uuid);
    CREATE INDEX ON bare.post (thread_id);
    CREATE INDEX ON bare.remark (post_id);
    CREATE INDEX ON bare.thread (deletion_id) WHERE deletion_id IS NOT NULL;
    CREATE INDEX ON bare.post (deletion_id) WHERE deletion_id IS NOT NULL;
    CREATE INDEX ON bare.remark (deletion_id) WHERE deletion_id IS NOT NULL;";

fn fill(schema: &str, rows: u32) -> String {
    let posts = rows / 100;
    format!(
        "INSERT INTO {schema}.thread VALUES (1, 'one'), (2, 'two');
         INSERT INTO {schema}.post SELECT n, 1, repeat('x', 40) FROM generate_series(1, {posts}) n;
         INSERT INTO {schema}.post VALUES (0, 2, 'x');
         INSERT INTO {schema}.remark SELECT n, n % {posts} + 1, repeat('x', 40) FROM generate_series(1, {rows}) n;"
    )
}

/// The same work, by the extension and by hand.
struct Comparison {
    what: &'static str,
    /// Done before the clock starts, in the same transaction.
    before: [String; 2],
    measured: [String; 2],
}

fn comparisons(rows: u32) -> Vec<Comparison> {
    let both = |sql: &str| [sql.replace("SCHEMA", "kept"), sql.replace("SCHEMA", "bare")];
    let by_hand = "
        UPDATE bare.thread SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 1;
        UPDATE bare.post c SET deleted_at = now(), deletion_id = p.deletion_id FROM bare.thread p
        WHERE p.deletion_id = '00000000-0000-7000-8000-000000000001' AND p.id = c.thread_id AND c.deleted_at IS NULL;
        UPDATE bare.remark c SET deleted_at = now(), deletion_id = p.deletion_id FROM bare.post p
        WHERE p.deletion_id = '00000000-0000-7000-8000-000000000001' AND p.id = c.post_id AND c.deleted_at IS NULL;";
    let deleted = "SELECT keepsake.soft_delete('kept.thread', 1);";
    vec![
        Comparison {
            what: "soft-delete cascade, against set-based UPDATEs",
            before: Default::default(),
            measured: [deleted.to_owned(), by_hand.to_owned()],
        },
        Comparison {
            what: "restore, against set-based UPDATEs",
            before: [deleted.to_owned(), by_hand.to_owned()],
            measured: [
                "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';".to_owned(),
                ["thread", "post", "remark"]
                    .map(|table| format!("UPDATE bare.{table} SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;"))
                    .join("\n"),
            ],
        },
        Comparison {
            what: "purge, against DELETEs leaf first",
            before: [deleted.to_owned(), by_hand.to_owned()],
            measured: [
                format!("SELECT keepsake.purge_batch({});", rows * 2),
                ["remark", "post", "thread"]
                    .map(|table| format!("DELETE FROM bare.{table} WHERE deletion_id IS NOT NULL;"))
                    .join("\n"),
            ],
        },
        Comparison {
            what: "inserting children, against the foreign key alone",
            before: Default::default(),
            measured: both(&format!(
                "INSERT INTO SCHEMA.remark SELECT n + 10000000, n % {} + 1, 'x' FROM generate_series(1, {rows}) n;",
                rows / 100
            )),
        },
        Comparison {
            what: "inserting one child 500 times, against the foreign key alone",
            before: Default::default(),
            measured: both(
                "DO $$ BEGIN FOR n IN 1..500 LOOP INSERT INTO SCHEMA.remark VALUES (n + 20000000, 1, 'x'); END LOOP; END $$;",
            ),
        },
        Comparison {
            what: "bulk UPDATE of another column, against an unmanaged table",
            before: Default::default(),
            measured: both("UPDATE SCHEMA.remark SET body = 'y';"),
        },
    ]
}

async fn measure(database: &mut PgConnection, before: &str, measured: &str) -> Result<Duration> {
    let script = |sql: &str| AssertSqlSafe(format!("{sql};"));
    sqlx::raw_sql("BEGIN").execute(&mut *database).await?;
    sqlx::raw_sql(script(before))
        .execute(&mut *database)
        .await?;
    let start = Instant::now();
    sqlx::raw_sql(script(measured))
        .execute(&mut *database)
        .await?;
    // What a foreign key or trigger has put off until the commit belongs to the work.
    sqlx::raw_sql("SET CONSTRAINTS ALL IMMEDIATE")
        .execute(&mut *database)
        .await?;
    let took = start.elapsed();
    sqlx::raw_sql("ROLLBACK").execute(&mut *database).await?;
    sqlx::raw_sql(
        "VACUUM kept.thread, kept.post, kept.remark, bare.thread, bare.post, bare.remark",
    )
    .execute(database)
    .await?;
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn compare(database: &mut PgConnection, comparison: &Comparison) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (side, times) in times.iter_mut().enumerate() {
            times.push(
                measure(
                    database,
                    &comparison.before[side],
                    &comparison.measured[side],
                )
                .await?,
            );
        }
    }
    let [kept, bare] = times.map(median);
    println!(
        "{:<66} {:>9.1} ms {:>9.1} ms {:>6.2} ×",
        comparison.what,
        kept.as_secs_f64() * 1e3,
        bare.as_secs_f64() * 1e3,
        kept.as_secs_f64() / bare.as_secs_f64()
    );
    Ok(())
}

async fn time_presign(database: &mut PgConnection) -> Result<()> {
    const ROWS: u32 = 100_000;
    let sql = format!(
        "SELECT count(keepsake.presign('PUT', 'https://acct.r2.cloudflarestorage.com', 'bucket', 't/acme/' || n, 'auto',
             'AKIAIOSFODNN7EXAMPLE', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', '2026-09-01 00:00:00+00', 900))
         FROM generate_series(1, {ROWS}) n"
    );
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&mut *database)
            .await?;
        times.push(start.elapsed());
    }
    println!(
        "keepsake.presign over {ROWS} rows: {:.2} µs a row",
        median(times).as_secs_f64() * 1e6 / f64::from(ROWS)
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let rows = std::env::var("KEEPSAKE_BENCH_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(100_000);
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "bench", &leash).await?;
    let mut database = postgres.connect().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut database).await?;
    for schema in ["kept", "bare"] {
        sqlx::raw_sql(AssertSqlSafe(fill(schema, rows)))
            .execute(&mut database)
            .await?;
    }
    sqlx::raw_sql("VACUUM ANALYZE")
        .execute(&mut database)
        .await?;

    println!("{rows} rows, median of {ROUNDS} rounds");
    println!(
        "{:<66} {:>12} {:>12} {:>8}",
        "", "keepsake", "by hand", "ratio"
    );
    for comparison in comparisons(rows) {
        compare(&mut database, &comparison).await?;
    }
    time_presign(&mut database).await
}
