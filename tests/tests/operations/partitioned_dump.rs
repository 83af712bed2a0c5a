//! `pg_dump` and `pg_restore` of partitioned tables: a dump brings their triggers and policies itself, and nothing that Keepsake follows in its commands
//! makes them before.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use keepsake_tests::places::outer_majors;
use sqlx::PgConnection;

use crate::load_order::any_order;
use crate::world::{DATABASE, Server, ask, dump, expect, load, run};

/// In both modes: partitioned parents, also at two levels, with referring tables that are partitioned and not, and a deletion in each.
const EVENTS: &str = "
    CREATE EXTENSION keepsake;
    CREATE SCHEMA kept;
    SELECT keepsake.manage_schema('kept');
    DO $$ DECLARE s text; BEGIN FOREACH s IN ARRAY '{public,kept}'::text[] LOOP
        EXECUTE format('
            CREATE TABLE %1$I.event (id int, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
            CREATE TABLE %1$I.event_1 PARTITION OF %1$I.event FOR VALUES FROM (0) TO (10);
            CREATE TABLE %1$I.event_2 PARTITION OF %1$I.event FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
            CREATE TABLE %1$I.event_2_1 PARTITION OF %1$I.event_2 FOR VALUES FROM (0) TO (2000);
            CREATE TABLE %1$I.guest (id int PRIMARY KEY, event int, day int, FOREIGN KEY (event, day) REFERENCES %1$I.event ON DELETE CASCADE);
            CREATE TABLE %1$I.photo (id int PRIMARY KEY, event int, day int, FOREIGN KEY (event, day) REFERENCES %1$I.event ON DELETE CASCADE)
                PARTITION BY HASH (id);
            CREATE TABLE %1$I.photo_1 PARTITION OF %1$I.photo FOR VALUES WITH (MODULUS 1, REMAINDER 0)', s);
        IF s = 'public' THEN
            PERFORM keepsake.manage('event'), keepsake.manage('guest'), keepsake.manage('photo');
            PERFORM keepsake.hide_deleted('event', 'policy'), keepsake.hide_deleted('photo', 'policy');
        ELSE
            PERFORM keepsake.archive_by_month('kept.event'), keepsake.archive_by_month('kept.guest');
        END IF;
        EXECUTE format('
            INSERT INTO %1$I.event SELECT n, n %% 20, n FROM generate_series(1, 1000) n;
            INSERT INTO %1$I.guest SELECT n, n, n %% 20 FROM generate_series(1, 1000) n;
            INSERT INTO %1$I.photo SELECT n, n, n %% 20 FROM generate_series(1, 1000) n;
            DELETE FROM %1$I.event WHERE id <= 500', s);
    END LOOP; END $$;";

/// What stands on the tables.
const OBJECTS: &str = "
    SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT format('%s %s', c.oid::regclass, pg_get_triggerdef(t.oid)) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
        UNION ALL SELECT format('%s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) FROM pg_policy
        UNION ALL SELECT format('%s %s %s', oid::regclass, relrowsecurity, relforcerowsecurity) FROM pg_class WHERE relkind IN ('r', 'p')
    ) AS lines (line)";

const FINDINGS: &str = "
    SELECT string_agg(format('%s %s', check_name, object), ', ') FROM keepsake.doctor()
    WHERE severity <> 'info' AND check_name NOT IN ('library_not_preloaded', 'reference_unindexed')";

/// How often several workers load it: they meet in another order each time.
const LOADS: usize = 2;

/// In how many orders one worker loads it that several might take.
const ORDERS: u64 = 12;

#[tokio::test]
async fn a_dump_carries_partitioned_tables() -> Result<()> {
    for major in outer_majors()? {
        carries(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn carries(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, EVENTS).await?;
    let objects = ask(&mut here, OBJECTS).await?;
    let file = dump(&server, "directory", &[])?;
    let mut ways: Vec<(String, Vec<String>)> = vec![
        ("by_itself".into(), vec![]),
        ("at_once".into(), vec!["--single-transaction".into()]),
    ];
    ways.extend((0..LOADS).map(|n| (format!("by_workers_{n}"), vec!["--jobs=4".into()])));
    for seed in 0..ORDERS {
        let list = any_order(&server, &file, u64::from(major) * ORDERS + seed)?;
        ways.push((format!("order_{seed}"), vec![format!("--use-list={list}")]));
    }
    for (name, options) in ways {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut there = load_into(&server, &name, &file, &options)
            .await
            .with_context(|| name.clone())?;
        loaded(&mut there, &objects).await.context(name)?;
    }
    Ok(())
}

/// PostgreSQL's own errors with several workers and partitions at two levels; without Keepsake, one load in 20 fails so. Workers that attach indexes at both
/// levels at once leave the topmost one invalid; a command on the whole and one on a partition wait for each other.
const BETWEEN_WORKERS: [&str; 2] = [
    "there is no unique constraint matching given keys",
    "deadlock detected",
];

/// How often a load is tried whose workers met so.
const ATTEMPTS: usize = 8;

/// Loads the dump into a new database.
async fn load_into(
    server: &Server,
    name: &str,
    file: &Path,
    options: &[&str],
) -> Result<PgConnection> {
    let met = |error: &anyhow::Error| {
        let text = format!("{error:#}");
        BETWEEN_WORKERS.iter().any(|known| text.contains(known))
    };
    for attempt in 0..ATTEMPTS {
        let database = format!("{name}_{attempt}");
        let there = server.new_database(&database).await?;
        match load(server, &database, file, options) {
            Err(error) if met(&error) => {}
            outcome => return outcome.map(|()| there),
        }
    }
    bail!("{ATTEMPTS} loads met as PostgreSQL's workers may")
}

/// The tables are as they were, and what was deleted comes back.
async fn loaded(there: &mut PgConnection, objects: &str) -> Result<()> {
    ensure!(
        ask(there, OBJECTS).await? == objects,
        "triggers, policies or row security differ"
    );
    expect(there, FINDINGS, "").await?;
    run(there, "SELECT keepsake.restore(id) FROM keepsake.deletion").await?;
    for schema in ["public", "kept"] {
        let live = format!(
            "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.event WHERE body = id::text), (SELECT count(*) FROM {schema}.guest),
                    (SELECT count(*) FROM {schema}.photo_1))"
        );
        expect(there, &live, "1000 1000 1000").await?;
    }
    run(there, "DELETE FROM event_1; DELETE FROM kept.event_2").await?;
    expect(there, "SELECT count(*) FROM kept.photo", "500").await
}
