//! What archive mode costs: the same work on plain tables and on tables managed with `keep => 'archive'`, side by side in one
//! run, and where there is such a thing by hand.
//!
//! What is measured is processor time of the backend, which does not depend on what else the machine does; the table gives
//! the median of each side and the ratio to the plain one. `KEEPSAKE_BENCH_ROWS` sets how many rows the largest work has
//! (1,000,000).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::pgbench::{self, Load};
use keepsake_tests::postgres::Postgres;
use keepsake_tests::stack::throwaway_folder;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const ROUNDS: usize = 5;

/// Tables that are not managed, that are, and that have what a person adds who marks rows by hand.
const SIDES: [&str; 3] = ["plain", "kept", "hand"];

const TABLES: &str = "
    CREATE SCHEMA SIDE;
    CREATE TABLE SIDE.item (id int PRIMARY KEY, label text, n int);
    CREATE INDEX ON SIDE.item (n);
    CREATE TABLE SIDE.thread (id int PRIMARY KEY, title text);
    CREATE TABLE SIDE.post (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES SIDE.thread ON DELETE CASCADE, body text);
    CREATE TABLE SIDE.remark (id int PRIMARY KEY, post_id int NOT NULL REFERENCES SIDE.post ON DELETE CASCADE, body text);
    CREATE INDEX ON SIDE.post (thread_id);
    CREATE INDEX ON SIDE.remark (post_id);";

/// With names of its own: Keepsake refuses to delete from a table that has its columns and is not managed.
const BY_HAND: &str = "
    ALTER TABLE hand.NAME ADD COLUMN gone_at timestamptz, ADD COLUMN gone_by uuid;
    CREATE INDEX ON hand.NAME (gone_by) WHERE gone_by IS NOT NULL;";

const MARKED: &str = "gone_at = now(), gone_by = '00000000-0000-7000-8000-000000000001'";

/// Everything as it was before each measurement. Rows of the archive go, too.
const EMPTY: &str = "
    TRUNCATE plain.item, plain.thread, plain.post, plain.remark, kept.item, kept.thread, kept.post, kept.remark,
        hand.item, hand.thread, hand.post, hand.remark, kept_deleted.item, kept_deleted.thread, kept_deleted.post, kept_deleted.remark;
    DELETE FROM keepsake.deletion_table; DELETE FROM keepsake.deletion;";

/// Reads what a session keeps of its tables: what is compared are sessions that have made a deletion before.
const FIRST: &str = "
    INSERT INTO SIDE.item VALUES (0, 'x', 0); INSERT INTO SIDE.thread VALUES (0, 'x');
    INSERT INTO SIDE.post VALUES (0, 0, 'x'); INSERT INTO SIDE.remark VALUES (0, 0, 'x');
    DELETE FROM SIDE.item WHERE id = 0; DELETE FROM SIDE.thread WHERE id = 0;";

const ITEMS: &str =
    "INSERT INTO SIDE.item SELECT n, repeat('x', 40), n FROM generate_series(1, ROWS) AS n;";

const FORUM: &str = "
    INSERT INTO SIDE.thread SELECT n, 'thread ' || n FROM generate_series(1, 1000) AS n;
    INSERT INTO SIDE.post SELECT n, 1 + n % 1000, repeat('x', 40) FROM generate_series(1, 10000) AS n;
    INSERT INTO SIDE.remark SELECT n, 1 + n % 10000, repeat('x', 40) FROM generate_series(1, ROWS) AS n;";

/// The same work on two sides or three, and the ratio of `kept` to `plain` that is aimed at.
struct Work {
    what: String,
    fill: String,
    /// Run on each side before the clock starts.
    before: [String; 3],
    measured: [String; 3],
    aim: &'static str,
    rounds: usize,
}

impl Work {
    fn new(
        what: impl Into<String>,
        fill: String,
        measured: [String; 3],
        aim: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            fill,
            before: Default::default(),
            measured,
            aim,
            rounds: ROUNDS,
        }
    }
}

fn on_both(sql: &str) -> [String; 3] {
    ["plain", "kept", ""].map(|side| {
        if side.is_empty() {
            String::new()
        } else {
            sql.replace("SIDE", side)
        }
    })
}

fn works(rows: u32) -> Vec<Work> {
    let items = ITEMS.replace("ROWS", "30000");
    let mut works = vec![
        Work::new(
            "INSERT of 30,000 rows",
            String::new(),
            on_both(
                "INSERT INTO SIDE.item SELECT n, repeat('x', 40), n FROM generate_series(1, 30000) AS n",
            ),
            "1.00",
        ),
        Work::new(
            "UPDATE of 30,000 rows",
            items.clone(),
            on_both("UPDATE SIDE.item SET label = 'y'"),
            "1.00",
        ),
        Work::new(
            "SELECT of 30,000 rows",
            items.clone(),
            on_both("SELECT count(*), sum(length(label)) FROM SIDE.item"),
            "1.00",
        ),
        Work::new(
            "upsert of 30,000 rows",
            items.clone(),
            on_both(
                "INSERT INTO SIDE.item SELECT n, 'y', n FROM generate_series(1, 30000) AS n ON CONFLICT (id) DO UPDATE SET label = excluded.label",
            ),
            "1.00",
        ),
        Work {
            before: on_both("COPY (SELECT * FROM SIDE.item) TO 'FILE'; DELETE FROM SIDE.item"),
            ..Work::new(
                "COPY of 30,000 rows",
                items.clone(),
                on_both("COPY SIDE.item FROM 'FILE'"),
                "1.00",
            )
        },
        Work::new(
            "DELETE of 30,000 rows",
            items,
            [
                "DELETE FROM plain.item".to_owned(),
                "DELETE FROM kept.item".to_owned(),
                format!("UPDATE hand.item SET {MARKED}"),
            ],
            "2.2",
        ),
    ];
    for remarks in [100_000, rows] {
        for mut work in [cascade(remarks), restore(remarks)] {
            work.rounds = if remarks > 100_000 { 3 } else { ROUNDS };
            works.push(work);
        }
    }
    works
}

fn cascade(remarks: u32) -> Work {
    let by_hand = format!(
        "UPDATE hand.thread SET {MARKED};
         UPDATE hand.post AS c SET {MARKED} FROM hand.thread AS p WHERE p.gone_by IS NOT NULL AND p.id = c.thread_id AND c.gone_at IS NULL;
         UPDATE hand.remark AS c SET {MARKED} FROM hand.post AS p WHERE p.gone_by IS NOT NULL AND p.id = c.post_id AND c.gone_at IS NULL"
    );
    Work::new(
        format!("cascade 1,000 to 10,000 to {remarks}"),
        FORUM.replace("ROWS", &remarks.to_string()),
        [
            "DELETE FROM plain.thread".to_owned(),
            "DELETE FROM kept.thread".to_owned(),
            by_hand,
        ],
        "1.8",
    )
}

/// By hand, what was removed lies in tables of the same columns; that is the side to compare with.
fn restore(remarks: u32) -> Work {
    let tables = ["thread", "post", "remark"];
    let copy = tables.map(|table| format!("DROP TABLE IF EXISTS plain.{table}_gone; CREATE TABLE plain.{table}_gone AS TABLE plain.{table};"));
    let back =
        tables.map(|table| format!("INSERT INTO plain.{table} SELECT * FROM plain.{table}_gone;"));
    let mut work = Work::new(
        format!("restore of 1,000 and 10,000 and {remarks}"),
        FORUM.replace("ROWS", &remarks.to_string()),
        [
            back.concat(),
            "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted'".to_owned(),
            String::new(),
        ],
        "0.6",
    );
    work.before = [
        format!("{} DELETE FROM plain.thread", copy.concat()),
        "DELETE FROM kept.thread".to_owned(),
        String::new(),
    ];
    work
}

async fn run(database: &mut PgConnection, sql: &str) -> Result<()> {
    if sql.is_empty() {
        return Ok(());
    }
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(database)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(())
}

/// A backend, and what it has used so far.
struct Backend {
    session: PgConnection,
    process: i32,
}

/// Milliseconds of the processor, and bytes of WAL.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    time: f64,
    wal: f64,
}

impl Backend {
    async fn connect(postgres: &Postgres) -> Result<Self> {
        let mut session = postgres.connect().await?;
        let process = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut session)
            .await?;
        Ok(Self { session, process })
    }

    async fn used(&mut self) -> Result<Cost> {
        let wal: i64 = sqlx::query_scalar("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .fetch_one(&mut self.session)
            .await?;
        // The time on a processor, in nanoseconds, comes first.
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.process))?;
        let time: f64 = text.split(' ').next().unwrap_or_default().parse()?;
        Ok(Cost {
            time: time / 1e6,
            wal: wal as f64,
        })
    }

    async fn measure(&mut self, sql: &str) -> Result<Cost> {
        let before = self.used().await?;
        run(&mut self.session, sql).await?;
        let after = self.used().await?;
        Ok(Cost {
            time: after.time - before.time,
            wal: after.wal - before.wal,
        })
    }

    /// The highest memory of its own that it ever had, in MiB.
    fn memory(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number
            .context("no RssAnon in the status of the backend")?
            .parse::<f64>()?
            / 1024.0)
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

async fn compare(postgres: &Postgres, work: &Work) -> Result<()> {
    let file = postgres.folder().join("data/items").display().to_string();
    let with_file = |sql: &str| sql.replace("FILE", &file);
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for round in 0..=work.rounds {
        let mut backend = Backend::connect(postgres).await?;
        run(&mut backend.session, EMPTY).await?;
        for side in SIDES {
            run(&mut backend.session, &work.fill.replace("SIDE", side)).await?;
        }
        run(&mut backend.session, "LOAD 'keepsake'").await?;
        for (at, costs) in costs.iter_mut().enumerate() {
            if work.measured[at].is_empty() {
                continue;
            }
            run(&mut backend.session, &with_file(&work.before[at])).await?;
            for table in ["thread", "post", "remark", "item"] {
                run(
                    &mut backend.session,
                    &format!("VACUUM ANALYZE {}.{table}", SIDES[at]),
                )
                .await?;
            }
            // By hand there is nothing to be kept.
            if at < 2 {
                run(&mut backend.session, &FIRST.replace("SIDE", SIDES[at])).await?;
            }
            let cost = backend.measure(&with_file(&work.measured[at])).await?;
            // The first round fills what is kept in memory.
            if round > 0 {
                costs.push(cost);
            }
        }
        backend.session.close().await?;
    }
    let times = costs
        .each_ref()
        .map(|costs| median(costs.iter().map(|cost| cost.time).collect()));
    let wals = costs
        .each_ref()
        .map(|costs| median(costs.iter().map(|cost| cost.wal).collect()));
    let by_hand = if times[2] > 0.0 {
        format!("{:>6.2} ×", times[1] / times[2])
    } else {
        String::new()
    };
    let wal = if wals[0] > 0.0 {
        format!("{:>6.2} ×", wals[1] / wals[0])
    } else {
        String::new()
    };
    println!(
        "{:<42} {:>9.1} ms {:>9.1} ms {:>6.2} × {:>6} {wal:>8} {by_hand}",
        work.what,
        times[0],
        times[1],
        times[1] / times[0],
        work.aim,
    );
    Ok(())
}

/// Rows that each client of pgbench removes, one a transaction.
const EACH: u32 = 2000;
const CLIENTS: u32 = 4;
const SINGLE_ROUNDS: usize = 3;

/// Single rows by pgbench.
async fn compare_single(
    postgres: &Postgres,
    folder: &Path,
    what: &str,
    statement: &str,
    aim: &str,
) -> Result<()> {
    let load = Load {
        clients: CLIENTS,
        transactions: EACH,
    };
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..=SINGLE_ROUNDS {
        let mut database = postgres.connect().await?;
        run(&mut database, EMPTY).await?;
        for side in SIDES {
            let rows = (EACH * CLIENTS).to_string();
            run(
                &mut database,
                &ITEMS.replace("SIDE", side).replace("ROWS", &rows),
            )
            .await?;
        }
        run(&mut database, "VACUUM ANALYZE").await?;
        database.close().await?;
        for (at, times) in times.iter_mut().enumerate() {
            let sql = statement.replace("SIDE", SIDES[at]);
            let cost = pgbench::cost(postgres, folder, load, &sql).await?;
            if round > 0 {
                times.push(cost);
            }
        }
    }
    let [plain, kept] = times.map(median);
    println!(
        "{what:<42} {plain:>9.1} ms {kept:>9.1} ms {:>6.2} × {aim:>6}",
        kept / plain
    );
    Ok(())
}

/// What a backend takes for one DELETE of all rows.
async fn compare_memory(postgres: &Postgres, rows: u32) -> Result<()> {
    let mut database = postgres.connect().await?;
    run(&mut database, EMPTY).await?;
    for side in SIDES {
        run(
            &mut database,
            &ITEMS
                .replace("SIDE", side)
                .replace("ROWS", &rows.to_string()),
        )
        .await?;
    }
    // A trigger that does nothing, for the queue of PostgreSQL's own.
    run(
        &mut database,
        "CREATE OR REPLACE FUNCTION plain.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER nothing AFTER DELETE ON plain.item FOR EACH ROW EXECUTE FUNCTION plain.nothing()",
    )
    .await?;
    let mut taken = [0.0; 2];
    for (at, taken) in taken.iter_mut().enumerate() {
        let mut backend = Backend::connect(postgres).await?;
        run(
            &mut backend.session,
            &format!(
                "LOAD 'keepsake'; DELETE FROM {}.item WHERE id = 1",
                SIDES[at]
            ),
        )
        .await?;
        let before = backend.memory()?;
        run(
            &mut backend.session,
            &format!("BEGIN; DELETE FROM {}.item", SIDES[at]),
        )
        .await?;
        *taken = backend.memory()? - before;
        run(&mut backend.session, "ROLLBACK").await?;
        backend.session.close().await?;
    }
    run(&mut database, "DROP TRIGGER nothing ON plain.item").await?;
    println!(
        "memory kept after a DELETE of {rows} rows: {:+.1} MiB with an empty trigger, {:+.1} MiB with the archive",
        taken[0], taken[1]
    );
    Ok(())
}

/// Archived rows purged, and as many removed by hand in batches of the same size. `divided`: the archive is divided by month.
async fn compare_purge(postgres: &Postgres, rows: u32, batch: u32, divided: bool) -> Result<()> {
    let mut backend = Backend::connect(postgres).await?;
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..3 {
        run(&mut backend.session, EMPTY).await?;
        run(&mut backend.session, "DROP TABLE IF EXISTS plain.gone").await?;
        run(
            &mut backend.session,
            &ITEMS
                .replace("SIDE", "kept")
                .replace("ROWS", &rows.to_string()),
        )
        .await?;
        run(&mut backend.session, "CREATE TABLE plain.gone AS SELECT gen_random_uuid() AS deletion, * FROM kept.item; CREATE INDEX ON plain.gone (id)").await?;
        run(
            &mut backend.session,
            &format!("SELECT keepsake.set_retention('kept.item', '0'), keepsake.archive_by_month('kept.item', {divided}); DELETE FROM kept.item"),
        )
        .await?;
        // Both have been vacuumed since, as they are long before their time is over.
        run(&mut backend.session, "VACUUM ANALYZE").await?;
        let by_hand = format!(
            "DO $$ BEGIN FOR batch IN 0..{} LOOP DELETE FROM plain.gone WHERE id > batch * {batch} AND id <= (batch + 1) * {batch}; COMMIT; END LOOP; END $$",
            rows / batch
        );
        times[0].push(backend.measure(&by_hand).await?.time);
        let purge = format!("CALL keepsake.purge({batch})");
        times[1].push(backend.measure(&purge).await?.time);
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM kept_deleted.item")
            .fetch_one(&mut backend.session)
            .await?;
        ensure!(left == 0, "the purge left {left} rows");
    }
    let [by_hand, purge] = times.map(median);
    let how = if divided {
        format!("by month, by hand {batch} a batch")
    } else {
        format!("{batch} a batch, as by hand")
    };
    println!(
        "purge of {rows} rows, {how}: {purge:.1} ms, by hand {by_hand:.1} ms: {:.2} × the speed (aim: 1.0)",
        by_hand / purge
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let chosen = std::env::var("KEEPSAKE_BENCH_ROWS").ok();
    let rows: u32 = chosen
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(1_000_000);
    let (folder, leash) = throwaway_folder()?;
    let mut postgres = Postgres::start(&folder, "bench", &leash).await?;
    let mut database = postgres.connect().await?;
    // Only the backends work, and pages are written to the WAL once for each change.
    for setting in [
        "autovacuum = off",
        "full_page_writes = off",
        "max_wal_size = '8GB'",
        "jit = off",
    ] {
        run(&mut database, &format!("ALTER SYSTEM SET {setting}")).await?;
    }
    run(&mut database, "CREATE EXTENSION keepsake").await?;
    for side in SIDES {
        run(&mut database, &TABLES.replace("SIDE", side)).await?;
    }
    for table in ["item", "thread", "post", "remark"] {
        run(&mut database, &BY_HAND.replace("NAME", table)).await?;
    }
    run(
        &mut database,
        "SELECT keepsake.manage(t, '30 days', keep => 'archive', on_truncate => 'allow', cascade => true)
         FROM unnest(ARRAY['kept.item', 'kept.thread', 'kept.post', 'kept.remark']::regclass[]) AS t",
    )
    .await?;
    database.close().await?;
    postgres.kill();
    postgres.restart().await?;
    println!(
        "{:<42} {:>12} {:>12} {:>8} {:>6} {:>8} {:>8}",
        format!("median of {ROUNDS}, of 3 beyond 100,000"),
        "plain",
        "archive",
        "ratio",
        "aim",
        "WAL",
        "by hand"
    );
    compare_single(
        &postgres,
        &folder,
        "DELETE of one row, 4 clients",
        "DELETE FROM SIDE.item WHERE id = :id",
        "1.5",
    )
    .await?;
    compare_single(
        &postgres,
        &folder,
        "UPDATE of one row, 4 clients",
        "UPDATE SIDE.item SET label = 'y' WHERE id = :id",
        "1.00",
    )
    .await?;
    compare_single(
        &postgres,
        &folder,
        "INSERT of one row, 4 clients",
        "INSERT INTO SIDE.item VALUES (100000 + :id, 'y', 1)",
        "1.00",
    )
    .await?;
    for work in works(rows) {
        compare(&postgres, &work).await?;
    }
    compare_memory(&postgres, rows).await?;
    for batch in [1000, 10_000] {
        compare_purge(&postgres, rows, batch, false).await?;
    }
    compare_purge(&postgres, rows, 10_000, true).await
}
