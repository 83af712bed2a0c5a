//! `pg_dump` and `pg_restore` of a database with archives: what was deleted there can be restored here, also where a dump numbers
//! columns anew; and what a part of a dump lacks is told.

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::{outer_majors, postgres_program};
use sqlx::{Connection as _, PgConnection};

use crate::world::{DATABASE, Server, ask, dump, expect, finish, load, refusal, run};

/// Tables that have lost columns, gained and retyped others, with deletions of each of these times; one has row-level security, and an archive that is divided by
/// month since the second of them.
const SHOP: &str = "
    CREATE EXTENSION keepsake;
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE customer (gone_first int, id int PRIMARY KEY, name text, old text, mood mood DEFAULT 'sad');
    CREATE TABLE purchase (gone int, customer_id int REFERENCES customer ON DELETE SET NULL, amount int, id int PRIMARY KEY);
    ALTER TABLE customer DROP gone_first;
    ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
    CREATE POLICY everybody ON customer USING (true);
    SELECT keepsake.manage_schema('public', on_truncate => 'archive');
    INSERT INTO customer (id, name, old) SELECT n, 'c' || n, 'o' || n FROM generate_series(1, 9) n;
    INSERT INTO purchase SELECT 0, 1 + n % 3, n, n FROM generate_series(1, 9) n;
    DELETE FROM customer WHERE id = 1;
    ALTER TABLE customer DROP old;
    ALTER TABLE purchase DROP gone;
    ALTER TABLE customer ADD since int DEFAULT 7;
    SELECT keepsake.archive_by_month('customer');
    DELETE FROM customer WHERE id = 2;
    ALTER TABLE customer ALTER since SET DEFAULT 9, ALTER name TYPE varchar(20), ALTER since TYPE bigint;
    DELETE FROM customer WHERE id = 3;
    ALTER TABLE customer RENAME mood TO feels;
    DELETE FROM purchase WHERE id = 4;";

/// What a restore of everything gives.
const WHOLE: &str = "
    SELECT keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted' ORDER BY id DESC;";

/// What is in the tables, columns by name: a dump may give them another order.
async fn rows(database: &mut PgConnection) -> Result<String> {
    let mut all = String::new();
    for table in [
        "customer",
        "purchase",
        "public_deleted.customer",
        "public_deleted.purchase",
    ] {
        let sql = format!(
            "SELECT string_agg(to_jsonb(t)::text, E'\\n' ORDER BY to_jsonb(t)::text) FROM {table} t"
        );
        all += &format!("-- {table}\n{}\n", ask(database, &sql).await?);
    }
    Ok(all)
}

/// Expects the same rows in both databases, and restores all deletions in the second.
async fn restores_alike(here: &mut PgConnection, there: &mut PgConnection) -> Result<()> {
    assert_eq!(rows(there).await?, rows(here).await?);
    restored(there).await
}

/// Restores all deletions, and expects each row as it was.
async fn restored(there: &mut PgConnection) -> Result<()> {
    run(there, WHOLE).await?;
    expect(
        there,
        "SELECT string_agg(concat_ws(' ', id, name, since, feels), ', ' ORDER BY id) FROM customer WHERE id < 5",
        "1 c1 7 sad, 2 c2 7 sad, 3 c3 7 sad, 4 c4 7 sad",
    )
    .await?;
    expect(
        there,
        "SELECT string_agg(concat_ws(' ', id, customer_id, amount), ', ' ORDER BY id) FROM purchase",
        "1 2 1, 2 3 2, 3 1 3, 4 2 4, 5 3 5, 6 1 6, 7 2 7, 8 3 8, 9 1 9",
    )
    .await?;
    // And goes on.
    run(
        there,
        "ALTER TABLE customer RENAME since TO became; DELETE FROM customer WHERE id = 5; CREATE TABLE later (id int PRIMARY KEY)",
    )
    .await?;
    expect(
        there,
        "SELECT concat_ws(' ', id, name, became, feels) FROM public_deleted.customer",
        "5 c5 7 sad",
    )
    .await?;
    expect(
        there,
        "SELECT keep FROM keepsake.managed_table WHERE relation = 'later'::regclass",
        "archive",
    )
    .await?;
    expect(
        there,
        "SELECT string_agg(format('%s %s', check_name, object), ', ') FROM keepsake.doctor() WHERE severity <> 'info' AND check_name <> 'library_not_preloaded'",
        "",
    )
    .await
}

#[tokio::test]
async fn a_dump_carries_the_archives() -> Result<()> {
    for major in outer_majors()? {
        whole(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn whole(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, SHOP).await?;
    let ways: [(&str, &[&str], &[&str]); 3] = [
        ("at_once", &[], &["--single-transaction"]),
        ("by_rows", &["--inserts"], &[]),
        (
            "by_column",
            &["--column-inserts", "--rows-per-insert=3"],
            &[],
        ),
    ];
    for (name, dumping, loading) in ways {
        let mut there = server.new_database(name).await?;
        let file = dump(&server, "custom", dumping)?;
        load(&server, name, &file, loading).with_context(|| name.to_owned())?;
        restores_alike(&mut here, &mut there)
            .await
            .with_context(|| name.to_owned())?;
    }
    // Onto itself: archives and tables are dropped and made anew, and no event trigger stands in the way.
    let before = rows(&mut here).await?;
    let file = dump(&server, "custom", &[])?;
    load(&server, DATABASE, &file, &["--clean", "--if-exists"])?;
    let mut here = server.connect_to(DATABASE).await?;
    assert_eq!(rows(&mut here).await?, before);
    Ok(())
}

/// Tables that hang on each other, and have lost a column, with a deletion of rows of all.
const CHAIN: &str = "
    CREATE EXTENSION keepsake;
    DO $$ BEGIN FOR n IN 1..16 LOOP
        EXECUTE format('CREATE TABLE t%s (gone int, id int PRIMARY KEY, up int %s)', n,
                       CASE WHEN n > 1 THEN format('REFERENCES t%s ON DELETE CASCADE', n - 1) END);
        EXECUTE format('ALTER TABLE t%s ENABLE ROW LEVEL SECURITY', n);
    END LOOP; END $$;
    SELECT keepsake.manage_schema('public', on_truncate => 'archive');
    DO $$ BEGIN FOR n IN 1..16 LOOP
        EXECUTE format('INSERT INTO t%s SELECT 0, g, g FROM generate_series(1, 2000) g', n);
        EXECUTE format('ALTER TABLE t%s DROP gone', n);
    END LOOP; END $$;
    DELETE FROM t1 WHERE id <= 500;";
/// How often it is loaded each way: workers meet in another order each time.
const LOADS: usize = 3;

#[tokio::test]
async fn archives_are_loaded_by_several_workers() -> Result<()> {
    for major in outer_majors()? {
        side_by_side(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn side_by_side(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, CHAIN).await?;
    let file = dump(&server, "directory", &[])?;
    for preloads in [false, true] {
        for round in 0..LOADS {
            let name = format!("preloads_{preloads}_{round}");
            drop(server.new_database(&name).await?);
            if preloads {
                let set =
                    format!("ALTER DATABASE {name} SET session_preload_libraries = 'keepsake'");
                run(&mut here, &set).await?;
            }
            load(&server, &name, &file, &["--jobs=4"]).with_context(|| name.clone())?;
            let mut there = server.connect_to(&name).await?;
            let findings = "
                SELECT string_agg(format('%s %s', check_name, object), ', ') FROM keepsake.doctor()
                WHERE severity <> 'info' AND check_name <> 'library_not_preloaded'";
            expect(&mut there, findings, "").await?;
            let policies = "SELECT count(*) FROM pg_policy WHERE polname = 'keepsake_source_owner'";
            expect(&mut there, policies, "16").await?;
            run(&mut there, WHOLE).await?;
            let rows = "SELECT (SELECT count(*) FROM t1) + (SELECT sum(up) FROM t16)";
            expect(&mut there, rows, "2003000").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_schema_and_the_data_of_archives_can_come_apart() -> Result<()> {
    for major in outer_majors()? {
        apart(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn apart(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, SHOP).await?;
    let ways: [(&str, &str, &[&str]); 3] = [
        ("plain", "custom", &[]),
        ("disabled", "custom", &["--disable-triggers"]),
        (
            "in_parallel",
            "directory",
            &["--disable-triggers", "--jobs=3"],
        ),
    ];
    for (name, format, options) in ways {
        let mut there = server.new_database(name).await?;
        load(
            &server,
            name,
            &dump(&server, "custom", &["--schema-only"])?,
            &[],
        )?;
        load(
            &server,
            name,
            &dump(&server, format, &["--data-only"])?,
            options,
        )
        .with_context(|| name.to_owned())?;
        restores_alike(&mut here, &mut there)
            .await
            .with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_part_of_a_dump_tells_what_it_lacks() -> Result<()> {
    for major in outer_majors()? {
        parts(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

const FOUND: &str = "
    SELECT string_agg(format('%s %s', check_name, object), ', ' ORDER BY check_name, object) FROM keepsake.doctor()
    WHERE severity <> 'info' AND check_name <> 'library_not_preloaded'";

async fn parts(major: u16) -> Result<()> {
    let server = Server::start(major).await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, SHOP).await?;
    // The schema alone has the triggers and the archives, and not the registry.
    let mut there = server.new_database("schema_alone").await?;
    load(
        &server,
        "schema_alone",
        &dump(&server, "custom", &["--schema-only"])?,
        &[],
    )?;
    expect(
        &mut there,
        FOUND,
        "archive_unregistered public_deleted.customer, archive_unregistered public_deleted.purchase, table_unregistered public.customer, table_unregistered public.purchase",
    )
    .await?;
    run(&mut there, "SELECT keepsake.manage_schema('public')").await?;
    expect(&mut there, FOUND, "").await?;
    run(
        &mut there,
        "INSERT INTO customer VALUES (1, 'one'); DELETE FROM customer",
    )
    .await?;
    expect(
        &mut there,
        "SELECT name FROM public_deleted.customer",
        "one",
    )
    .await?;

    // One table has its triggers, and nothing else.
    let mut there = server.new_database("one_table").await?;
    run(
        &mut there,
        "CREATE EXTENSION keepsake; CREATE TYPE mood AS ENUM ('sad', 'glad')",
    )
    .await?;
    load(
        &server,
        "one_table",
        &dump(&server, "custom", &["--table=public.customer"])?,
        &[],
    )?;
    expect(&mut there, FOUND, "table_unregistered public.customer").await?;
    run(
        &mut there,
        "SELECT keepsake.manage('customer', keep => 'archive'); DELETE FROM customer WHERE id = 4",
    )
    .await?;
    expect(&mut there, FOUND, "").await?;
    expect(&mut there, "SELECT name FROM public_deleted.customer", "c4").await?;

    // A schema leaves the archive behind, and needs the extension.
    server.new_database("one_schema").await?;
    let file = dump(&server, "custom", &["--schema=public"])?;
    ensure!(
        load(&server, "one_schema", &file, &[]).is_err(),
        "triggers were made without their functions"
    );
    Ok(())
}

#[tokio::test]
async fn published_archives_can_be_restored_and_purged() -> Result<()> {
    for major in outer_majors()? {
        published(major)
            .await
            .with_context(|| format!("on PostgreSQL {major}"))?;
    }
    Ok(())
}

async fn published(major: u16) -> Result<()> {
    let mut server = Server::start(major).await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, "ALTER SYSTEM SET wal_level = logical").await?;
    server.postgres.kill();
    server.postgres.restart().await?;
    let mut here = server.connect_to(DATABASE).await?;
    run(&mut here, SHOP).await?;
    run(&mut here, "CREATE PUBLICATION everything FOR ALL TABLES").await?;
    run(
        &mut here,
        "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1), (2); DELETE FROM later WHERE id = 1; DELETE FROM later WHERE id = 2",
    )
    .await?;
    run(
        &mut here,
        "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_table = 'later'::regclass AND root_key = '{\"id\": 1}';
         SELECT keepsake.purge_deletion(id) FROM keepsake.deletion WHERE state = 'deleted'",
    )
    .await?;
    expect(
        &mut here,
        "SELECT string_agg(id::text, ' ') FROM later",
        "1",
    )
    .await?;
    expect(
        &mut here,
        "SELECT (SELECT count(*) FROM public_deleted.later) + (SELECT count(*) FROM public_deleted.customer)",
        "0",
    )
    .await?;
    expect(
        &mut here,
        "SELECT string_agg(check_name, ' ') FROM keepsake.doctor() WHERE check_name ~ 'publication|identity'",
        "publication_of_archives",
    )
    .await?;
    // What changes an archive is PostgreSQL's to refuse where it has no identity.
    run(
        &mut here,
        "DELETE FROM later; ALTER TABLE public_deleted.later REPLICA IDENTITY DEFAULT",
    )
    .await?;
    assert_eq!(
        refusal(&mut here, "DELETE FROM public_deleted.later").await?,
        "55000"
    );
    expect(
        &mut here,
        "SELECT string_agg(object, ' ') FROM keepsake.doctor() WHERE check_name = 'archive_without_identity'",
        "public_deleted.later",
    )
    .await
}

/// The releases that `pg_upgrade` leads from and to: others here are not built alike.
const UPGRADE: (u16, u16) = (16, 18);

#[tokio::test]
async fn pg_upgrade_takes_the_archives_along() -> Result<()> {
    let (from, to) = UPGRADE;
    let old = Server::start(from).await?;
    let mut here = old.connect_to(DATABASE).await?;
    run(&mut here, SHOP).await?;
    let before = rows(&mut here).await?;
    here.close().await?;
    let mut new = Server::start(to).await?;
    let mut empty = new.connect_to("postgres").await?;
    run(&mut empty, &format!("DROP DATABASE {DATABASE}")).await?;
    empty.close().await?;
    for server in [&old, &new] {
        finish(
            server
                .program("pg_ctl", "postgres")?
                .args(["stop", "--wait", "--mode=fast", "--pgdata"])
                .arg(server.scratch("")?),
        )?;
    }
    finish(
        new.program("pg_checksums", "postgres")?
            .args(["--disable", "--pgdata"])
            .arg(new.scratch("")?),
    )?;
    let programs = |major| -> Result<std::path::PathBuf> {
        let server = postgres_program(major, "postgres")?;
        Ok(server.parent().context("no folder")?.to_path_buf())
    };
    finish(
        new.program("pg_upgrade", "postgres")?
            .arg("--old-bindir")
            .arg(programs(from)?)
            .arg("--new-bindir")
            .arg(programs(to)?)
            .arg("--old-datadir")
            .arg(old.scratch("")?)
            .arg("--new-datadir")
            .arg(new.scratch("")?)
            .arg("--socketdir")
            .arg(new.scratch("")?)
            .current_dir(new.scratch("")?),
    )?;
    new.postgres.restart().await?;
    let mut there = new.connect_to(DATABASE).await?;
    assert_eq!(rows(&mut there).await?, before);
    restored(&mut there).await
}
