//! What the extension costs, as ratios to the same work by hand, side by side in one run.
//!
//! Every measurement alternates between the sides and leaves the tables as it found them; the table gives the
//! median of each and the ratio to the work by hand. `KEEPSAKE_BENCH_ROWS` sets how many rows there
//! are (10,000, 100,000 and 1,000,000, one after the other).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keepsake_tests::pgbench::{self, Load};
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Three copies of one schema: `kept` is managed, `bare` is not but has columns and
/// indexes like it, `hard` has neither and deletes for good.
const SCHEMA: &str = "
    DROP SCHEMA IF EXISTS kept, bare, hard CASCADE;
    DROP EXTENSION IF EXISTS keepsake CASCADE;
    CREATE EXTENSION keepsake;
    CREATE SCHEMA kept;
    CREATE SCHEMA bare;
    CREATE SCHEMA hard;";

const TABLES: &str = "
    CREATE TABLE SCHEMA.thread (id int PRIMARY KEY, title text);
    CREATE TABLE SCHEMA.post (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES SCHEMA.thread ON DELETE CASCADE, body text);
    CREATE TABLE SCHEMA.remark (id int PRIMARY KEY, post_id int NOT NULL REFERENCES SCHEMA.post ON DELETE CASCADE, body text);
    CREATE INDEX ON SCHEMA.post (thread_id);
    CREATE INDEX ON SCHEMA.remark (post_id);
    CREATE TABLE SCHEMA.label (id int PRIMARY KEY);
    CREATE TABLE SCHEMA.labelled (id int PRIMARY KEY, label_id int REFERENCES SCHEMA.label ON DELETE SET NULL, body text);
    CREATE INDEX ON SCHEMA.labelled (label_id);
    CREATE TABLE SCHEMA.link (id int PRIMARY KEY, up int REFERENCES SCHEMA.link ON DELETE CASCADE);
    CREATE INDEX ON SCHEMA.link (up);";

const MANAGED: &str = "SELECT keepsake.manage('kept.thread', '0'), keepsake.manage('kept.post', '0'), keepsake.manage('kept.remark', '0'), keepsake.manage('kept.label', '0'), keepsake.manage('kept.link', '0');";

/// With names of its own: Keepsake refuses to delete from a table that has its columns and is not managed.
const BY_HAND: &str = "
    ALTER TABLE bare.NAME ADD COLUMN gone_at timestamptz, ADD COLUMN gone_by uuid;
    CREATE INDEX ON bare.NAME (gone_by) WHERE gone_by IS NOT NULL;";

const SIDES: [&str; 3] = ["kept", "bare", "hard"];

fn schema() -> String {
    let tables = SIDES.map(|side| TABLES.replace("SCHEMA", side)).join("\n");
    let by_hand = ["thread", "post", "remark"].map(|table| BY_HAND.replace("NAME", table));
    format!("{SCHEMA}{tables}{MANAGED}{}", by_hand.join("\n"))
}

fn fill(schema: &str, rows: u32) -> String {
    let posts = rows / 100;
    format!(
        "INSERT INTO {schema}.thread VALUES (1, 'one'), (2, 'two');
         INSERT INTO {schema}.post SELECT n, 1, repeat('x', 40) FROM generate_series(1, {posts}) n;
         INSERT INTO {schema}.post VALUES (0, 2, 'x');
         INSERT INTO {schema}.remark SELECT n, n % {posts} + 1, repeat('x', 40) FROM generate_series(1, {rows}) n;
         INSERT INTO {schema}.label VALUES (1);
         INSERT INTO {schema}.labelled SELECT n, 1, repeat('x', 40) FROM generate_series(1, {rows}) n;
         INSERT INTO {schema}.link SELECT n, nullif(n - 1, 0) FROM generate_series(1, 5000) n;"
    )
}

/// The same work: by the extension, by hand, and where there is such a thing by a real DELETE.
struct Comparison {
    what: &'static str,
    /// Committed before the clock starts; what is measured then undoes it, and is committed as well.
    undoes: [String; 3],
    measured: [String; 3],
}

const MARKED: &str = "gone_at = now(), gone_by = '00000000-0000-7000-8000-000000000001'";

fn comparisons(rows: u32) -> Vec<Comparison> {
    let on_each = |sql: &str| SIDES.map(|side| sql.replace("SCHEMA", side));
    let by_hand = format!("
        UPDATE bare.thread SET {MARKED} WHERE id = 1;
        UPDATE bare.post c SET {MARKED} FROM bare.thread p WHERE p.gone_by IS NOT NULL AND p.id = c.thread_id AND c.gone_at IS NULL;
        UPDATE bare.remark c SET {MARKED} FROM bare.post p WHERE p.gone_by IS NOT NULL AND p.id = c.post_id AND c.gone_at IS NULL;");
    let deleted = "SELECT keepsake.soft_delete('kept.thread', 1);";
    let restored_by_hand = ["thread", "post", "remark"].map(|table| {
        format!("UPDATE bare.{table} SET gone_at = NULL, gone_by = NULL WHERE gone_by IS NOT NULL;")
    });
    let posts = rows / 100;
    vec![
        Comparison {
            what: "soft-delete cascade",
            undoes: Default::default(),
            measured: [
                deleted.to_owned(),
                by_hand.clone(),
                "DELETE FROM hard.thread WHERE id = 1;".to_owned(),
            ],
        },
        Comparison {
            what: "restore",
            undoes: [deleted.to_owned(), by_hand, String::new()],
            measured: [
                "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';"
                    .to_owned(),
                restored_by_hand.join("\n"),
                String::new(),
            ],
        },
        Comparison {
            what: "plain DELETE of all remarks, converted",
            undoes: Default::default(),
            measured: [
                "DELETE FROM kept.remark;".to_owned(),
                format!("UPDATE bare.remark SET {MARKED};"),
                "DELETE FROM hard.remark;".to_owned(),
            ],
        },
        // By hand would be without a memory: PostgreSQL's own is what it is compared with.
        Comparison {
            what: "SET NULL of as many, to PostgreSQL's own",
            undoes: Default::default(),
            measured: [
                "DELETE FROM kept.label WHERE id = 1;".to_owned(),
                "DELETE FROM hard.label WHERE id = 1;".to_owned(),
                String::new(),
            ],
        },
        Comparison {
            what: "a chain of 5,000, to PostgreSQL's own",
            undoes: Default::default(),
            measured: [
                "DELETE FROM kept.link WHERE id = 1;".to_owned(),
                "DELETE FROM hard.link WHERE id = 1;".to_owned(),
                String::new(),
            ],
        },
        Comparison {
            what: "inserting as many children",
            undoes: Default::default(),
            measured: on_each(&format!(
                "INSERT INTO SCHEMA.remark SELECT n + 10000000, n % {posts} + 1, 'x' FROM generate_series(1, {rows}) n;"
            )),
        },
        Comparison {
            what: "inserting one child, 500 times",
            undoes: Default::default(),
            measured: on_each(
                "DO $$ BEGIN FOR n IN 1..500 LOOP INSERT INTO SCHEMA.remark VALUES (n + 20000000, 1, 'x'); END LOOP; END $$;",
            ),
        },
        Comparison {
            what: "UPDATE of another column of all remarks",
            undoes: Default::default(),
            measured: on_each("UPDATE SCHEMA.remark SET body = 'y';"),
        },
    ]
}

/// Single statements, each on its own: one a transaction, prepared, four clients at once.
const SINGLE: Load = Load {
    clients: 4,
    transactions: 2000,
};

/// What each of them finds. `bare.done` stands for the registry.
const SINGLE_ROWS: &str = "
    TRUNCATE bare.done;
    DELETE FROM SCHEMA.remark WHERE id > 1000000;
    DELETE FROM SCHEMA.post WHERE id > 1000000;
    INSERT INTO SCHEMA.post SELECT 1000000 + n, 1, 'x' FROM generate_series(1, 8000) AS n;
    INSERT INTO SCHEMA.remark SELECT 1000000 + n, 1000000 + (n + 4) / 5, 'x' FROM generate_series(1, 40000) AS n;";

const DONE: &str = "CREATE TABLE bare.done (id uuid PRIMARY KEY, actor text, gone_at timestamptz, expires_at timestamptz);
    CREATE INDEX ON bare.done (expires_at, id);";

/// A single statement, and what it may cost at most: of the same by hand, and of the plain one.
struct Single {
    what: &'static str,
    kept: &'static str,
    by_hand: &'static str,
    plain: &'static str,
    aims: &'static str,
}

const SINGLES: [Single; 4] = [
    Single {
        what: "DELETE of one row",
        kept: "DELETE FROM kept.remark WHERE id = 1000000 + :id",
        by_hand: "WITH d AS (INSERT INTO bare.done VALUES (gen_random_uuid(), current_user, now(), now() + interval '30 days') RETURNING id)
             UPDATE bare.remark AS t SET gone_at = now(), gone_by = d.id FROM d WHERE t.id = 1000000 + :id",
        plain: "DELETE FROM hard.remark WHERE id = 1000000 + :id",
        aims: "2, 4",
    },
    Single {
        what: "DELETE of one row and its five children",
        kept: "DELETE FROM kept.post WHERE id = 1000000 + :id",
        by_hand: "WITH d AS (INSERT INTO bare.done VALUES (gen_random_uuid(), current_user, now(), now() + interval '30 days') RETURNING id),
             p AS (UPDATE bare.post AS t SET gone_at = now(), gone_by = d.id FROM d WHERE t.id = 1000000 + :id)
             UPDATE bare.remark AS t SET gone_at = now(), gone_by = d.id FROM d WHERE t.post_id = 1000000 + :id AND t.gone_at IS NULL",
        plain: "DELETE FROM hard.post WHERE id = 1000000 + :id",
        aims: "",
    },
    Single {
        what: "INSERT of one child",
        kept: "INSERT INTO kept.remark VALUES (2000000 + :id, 1, 'x')",
        by_hand: "INSERT INTO bare.remark VALUES (2000000 + :id, 1, 'x')",
        plain: "INSERT INTO hard.remark VALUES (2000000 + :id, 1, 'x')",
        aims: "1.25",
    },
    Single {
        what: "UPDATE of a referring column",
        kept: "UPDATE kept.remark SET post_id = 2 WHERE id = 1000000 + :id",
        by_hand: "UPDATE bare.remark SET post_id = 2 WHERE id = 1000000 + :id",
        plain: "UPDATE hard.remark SET post_id = 2 WHERE id = 1000000 + :id",
        aims: "1.15",
    },
];

async fn compare_single(postgres: &Postgres, folder: &Path, single: &Single) -> Result<()> {
    const ROUNDS: usize = 3;
    let mut costs = SIDES.map(|_| Vec::new());
    for round in 0..=ROUNDS {
        let mut database = postgres.connect().await?;
        run(&mut database, "TRUNCATE keepsake.deletion CASCADE").await?;
        for side in SIDES {
            // Rows that are deleted are out of the way of those that are made.
            run(&mut database, "SET session_replication_role = replica").await?;
            run(&mut database, SINGLE_ROWS.replace("SCHEMA", side)).await?;
            run(&mut database, "RESET session_replication_role").await?;
        }
        run(&mut database, "VACUUM ANALYZE").await?;
        database.close().await?;
        let statements = [single.kept, single.by_hand, single.plain];
        for (statement, costs) in statements.into_iter().zip(&mut costs) {
            let cost = pgbench::cost(postgres, folder, SINGLE, statement).await?;
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    let [kept, by_hand, plain] = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs.get(ROUNDS / 2).copied().unwrap_or_default()
    });
    println!(
        "{:<42} {kept:>9.0} ms {by_hand:>9.0} ms {:>6.2} × {plain:>9.0} ms {:>6.2} × {:>6}",
        single.what,
        kept / by_hand,
        kept / plain,
        single.aims,
    );
    Ok(())
}

async fn run_singles(postgres: &Postgres, folder: &Path) -> Result<()> {
    let mut database = postgres.connect().await?;
    run(&mut database, schema()).await?;
    for side in SIDES {
        run(&mut database, fill(side, 10_000)).await?;
    }
    run(&mut database, DONE).await?;
    database.close().await?;
    println!(
        "\n{:<42} {:>12} {:>12} {:>8} {:>12} {:>8} {:>6}",
        "8,000 times, processor time", "keepsake", "by hand", "ratio", "plain", "ratio", "aims"
    );
    for single in &SINGLES {
        compare_single(postgres, folder, single).await?;
    }
    Ok(())
}

async fn run(database: &mut PgConnection, sql: impl Into<String>) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(database)
        .await?;
    Ok(())
}

async fn measure(database: &mut PgConnection, undoes: &str, measured: &str) -> Result<Duration> {
    run(database, undoes).await?;
    run(database, "BEGIN").await?;
    let start = Instant::now();
    run(database, measured).await?;
    // What a foreign key or trigger has put off until the commit belongs to the work.
    run(database, "SET CONSTRAINTS ALL IMMEDIATE").await?;
    let took = start.elapsed();
    let end = if undoes.is_empty() {
        "ROLLBACK"
    } else {
        "COMMIT"
    };
    run(database, end).await?;
    for side in SIDES {
        run(
            database,
            format!(
                "VACUUM {side}.thread, {side}.post, {side}.remark, {side}.label, {side}.labelled, {side}.link"
            ),
        )
        .await?;
    }
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn compare(
    database: &mut PgConnection,
    comparison: &Comparison,
    rounds: usize,
) -> Result<()> {
    let mut times = SIDES.map(|_| Vec::new());
    for _ in 0..rounds {
        for (side, times) in times.iter_mut().enumerate() {
            let (undoes, measured) = (&comparison.undoes[side], &comparison.measured[side]);
            if !measured.is_empty() {
                times.push(measure(database, undoes, measured).await?);
            }
        }
    }
    let [kept, bare, hard] = times.map(|times| median(times).as_secs_f64() * 1e3);
    let hard = if hard > 0.0 {
        format!("{hard:>9.1} ms")
    } else {
        "           –".to_owned()
    };
    println!(
        "{:<42} {kept:>9.1} ms {bare:>9.1} ms {:>6.2} × {hard}",
        comparison.what,
        kept / bare
    );
    Ok(())
}

/// How much memory of its own the backend takes for one cascade over everything, in MiB.
async fn memory_of_a_cascade(postgres: &Postgres) -> Result<f64> {
    let mut database = postgres.connect().await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut database)
        .await?;
    run(
        &mut database,
        "LOAD 'keepsake'; SELECT count(*) FROM kept.remark;",
    )
    .await?;
    let before = anonymous_memory(backend)?;
    run(
        &mut database,
        "BEGIN; SELECT keepsake.soft_delete('kept.thread', 1);",
    )
    .await?;
    let after = anonymous_memory(backend)?;
    run(&mut database, "ROLLBACK").await?;
    database.close().await?;
    Ok((after - before) / 1024.0)
}

/// In KiB, as Linux tells it.
fn anonymous_memory(process: i32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .context("no RssAnon in the status of the backend")?
        .parse()?)
}

async fn time_presign(database: &mut PgConnection) -> Result<()> {
    const ROWS: u32 = 100_000;
    const ROUNDS: usize = 5;
    run(
        database,
        "DROP EXTENSION IF EXISTS keepsake CASCADE; CREATE EXTENSION keepsake",
    )
    .await?;
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

async fn run_with(postgres: &Postgres, rows: u32) -> Result<()> {
    let rounds = if rows > 100_000 { 3 } else { 5 };
    let mut database = postgres.connect().await?;
    run(&mut database, schema()).await?;
    for side in SIDES {
        run(&mut database, fill(side, rows)).await?;
    }
    run(&mut database, "VACUUM ANALYZE").await?;
    run(&mut database, "CHECKPOINT").await?;
    println!(
        "\n{:<42} {:>12} {:>12} {:>8} {:>12}",
        format!("{rows} rows, median of {rounds}"),
        "keepsake",
        "by hand",
        "ratio",
        "real DELETE"
    );
    for comparison in comparisons(rows) {
        compare(&mut database, &comparison, rounds).await?;
    }
    println!(
        "memory of the backend for one cascade: {:+.1} MiB",
        memory_of_a_cascade(postgres).await?
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let chosen = std::env::var("KEEPSAKE_BENCH_ROWS").ok();
    let sizes = match chosen.and_then(|rows| rows.parse().ok()) {
        Some(rows) => vec![rows],
        None => vec![10_000, 100_000, 1_000_000],
    };
    let (folder, leash) = throwaway_folder()?;
    let postgres = Postgres::start(&folder, "bench", &leash).await?;
    for rows in sizes {
        run_with(&postgres, rows).await?;
    }
    run_singles(&postgres, &folder).await?;
    println!();
    time_presign(&mut postgres.connect().await?).await
}
