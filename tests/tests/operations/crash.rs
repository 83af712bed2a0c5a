//! Power fails: the server is killed between any two steps of a deletion, a restore and a purge,
//! and at any other moment. What was begun has happened whole or not at all, and the same call
//! again brings it to its end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::POSTGRES_MAJOR;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::PgConnection;

use crate::busy_clients::{Call, busy, call};
use crate::world::{DATABASE, MANAGE, Server, TABLES, ask, check_invariants, expect, run};

const PATIENCE: Duration = Duration::from_secs(20);

/// How long clients go on before a kill at no chosen point, and how often that is done.
const MOMENTS: [u64; 8] = [20, 55, 90, 140, 210, 300, 35, 120];

/// Threads with posts, comments and files; what is deleted may be purged at once.
const ROWS: &str = "
    SELECT keepsake.set_retention('thread', '0'), keepsake.set_retention('post', '0');
    INSERT INTO thread SELECT n, n FROM generate_series(1, 20) n;
    INSERT INTO post SELECT 10 * t + n, t, n FROM generate_series(1, 20) t, generate_series(1, 3) n;
    INSERT INTO comment SELECT 10 * p.id + n, p.id FROM post p, generate_series(1, 3) n;
    UPDATE comment SET reply_to = id - 1 WHERE id % 10 = 2;
    INSERT INTO file SELECT id, 'post', id, 'o/' || id FROM post;
    CREATE TABLE gone AS SELECT object_key FROM file WHERE false";

/// A call, and the steps at which it is killed: statements on one of the tables, or the registry.
const CALLS: [(&str, &str, &str); 3] = [
    (
        "SELECT keepsake.soft_delete('thread', 1)",
        "UPDATE",
        "SELECT (SELECT bool_and(deleted_at IS NOT NULL) FROM thread WHERE id = 1)
            AND (SELECT bool_and(deleted_at IS NOT NULL) FROM comment WHERE post_id / 10 = 1)
            AND (SELECT bool_and(deleted_at IS NOT NULL) FROM file WHERE id / 10 = 1)",
    ),
    (
        "SELECT keepsake.restore(id) FROM keepsake.deletion WHERE root_key = '{\"id\": 1}' AND state = 'deleted'",
        "UPDATE",
        "SELECT (SELECT bool_and(deleted_at IS NULL) FROM thread WHERE id = 1)
            AND (SELECT bool_and(deleted_at IS NULL) FROM comment WHERE post_id / 10 = 1)
            AND (SELECT bool_and(deleted_at IS NULL) FROM file WHERE id / 10 = 1)",
    ),
    (
        "CALL keepsake.purge(2)",
        "DELETE",
        "SELECT NOT EXISTS (SELECT FROM thread WHERE id = 1) AND NOT EXISTS (SELECT FROM file WHERE id / 10 = 1)",
    ),
];

/// Tables whose rows the calls write, before and after whose statements the server is killed.
const STEPS: [&str; 6] = [
    "thread",
    "post",
    "comment",
    "file",
    "keepsake.deletion",
    "keepsake.deletion_table",
];

async fn forum() -> Result<Server> {
    let server = Server::start(POSTGRES_MAJOR).await?;
    let mut database = server.connect_to(DATABASE).await?;
    run(&mut database, TABLES).await?;
    run(&mut database, MANAGE).await?;
    run(&mut database, ROWS).await?;
    // Stops a call where `stop` says so, until it is killed.
    run(
        &mut database,
        "CREATE TABLE stop (tbl regclass, op text, moment text);
         CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF EXISTS (SELECT FROM public.stop WHERE tbl = TG_RELID AND op = TG_OP AND moment = TG_WHEN) THEN
                 PERFORM pg_sleep(60);
             END IF;
             RETURN NULL;
         END $$",
    )
    .await?;
    for table in STEPS {
        for moment in ["BEFORE", "AFTER"] {
            run(
                &mut database,
                &format!(
                    "CREATE TRIGGER stop_{moment} {moment} INSERT OR UPDATE OR DELETE ON {table}
                     FOR EACH STATEMENT EXECUTE FUNCTION stop_here()"
                ),
            )
            .await?;
        }
    }
    Ok(server)
}

/// The whole of what must hold after a crash.
async fn check(database: &mut PgConnection) -> Result<()> {
    check_invariants(database).await?;
    // The outbox has exactly the objects whose rows are gone.
    expect(
        database,
        "SELECT string_agg(object_key, ' ') FROM (
             (SELECT 'o/' || 10 * t + n FROM generate_series(1, 20) t, generate_series(1, 3) n
              EXCEPT SELECT object_key FROM file)
             EXCEPT SELECT object_key FROM keepsake.outbox
             UNION ALL
             SELECT object_key FROM file NATURAL JOIN keepsake.outbox) AS wrong (object_key)",
        "",
    )
    .await
}

/// The process of the session that sleeps at a step; `None` when the call ends without coming there.
async fn sleeper(database: &mut PgConnection, call: &Call) -> Result<Option<i32>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = call.is_finished();
        let pid = ask(
            database,
            "SELECT min(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        )
        .await?;
        if let Ok(pid) = pid.parse() {
            return Ok(Some(pid));
        }
        if ended {
            return Ok(None);
        }
        ensure!(
            Instant::now() < deadline,
            "the call neither sleeps nor ends"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_step_leaves_all_or_nothing() -> Result<()> {
    let mut server = forum().await?;
    let mut kills = 0;
    for (sql, operation, done) in CALLS {
        for (n, step) in STEPS.into_iter().enumerate() {
            let moment = if n % 2 == 0 { "AFTER" } else { "BEFORE" };
            let operation = if step.starts_with("keepsake.") {
                "UPDATE"
            } else {
                operation
            };
            kills += i32::from(
                kill_at(&mut server, sql, (step, operation, moment))
                    .await
                    .with_context(|| format!("{moment} {operation} of {step} in {sql}"))?,
            );
        }
        // The same call again brings it to its end.
        let mut database = server.connect_to(DATABASE).await?;
        run(&mut database, sql).await?;
        expect(&mut database, done, "true").await?;
        check(&mut database).await?;
        if sql.contains("restore") {
            run(&mut database, CALLS[0].0).await?;
        }
    }
    ensure!(
        kills >= 10,
        "only {kills} calls came to the step at which they were to be killed"
    );
    Ok(())
}

/// Kills the server (or, at every third step, only the backend, which makes it restart itself) when
/// the call has come to the step. Whether it came there.
async fn kill_at(
    server: &mut Server,
    sql: &str,
    (step, operation, moment): (&str, &str, &str),
) -> Result<bool> {
    let mut database = server.connect_to(DATABASE).await?;
    run(
        &mut database,
        &format!("TRUNCATE stop; INSERT INTO stop VALUES ('{step}', '{operation}', '{moment}')"),
    )
    .await?;
    let calling = call(server, sql).await?;
    let found = sleeper(&mut database, &calling).await?;
    match found {
        Some(pid) if step == "comment" => kill(Pid::from_raw(pid), Signal::SIGKILL)?,
        Some(_) => server.postgres.kill(),
        None => {}
    }
    calling.await??;
    let mut database = if found.is_some() && step != "comment" {
        server.postgres.restart().await?;
        server.connect_to(DATABASE).await?
    } else {
        reconnect(server).await?
    };
    check(&mut database).await?;
    run(&mut database, "TRUNCATE stop").await?;
    Ok(found.is_some())
}

/// A connection once the server has put itself together again.
async fn reconnect(server: &Server) -> Result<PgConnection> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(mut database) = server.connect_to(DATABASE).await
            && run(&mut database, "SELECT 1").await.is_ok()
        {
            return Ok(database);
        }
        ensure!(Instant::now() < deadline, "the server does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_moment_leaves_all_or_nothing() -> Result<()> {
    let mut server = forum().await?;
    let deleting = busy("PERFORM keepsake.soft_delete('thread', id) FROM thread WHERE n % 3 > 0 ORDER BY random() LIMIT 1;
                         PERFORM keepsake.soft_delete('post', id) FROM post WHERE n % 3 = 0 ORDER BY random() LIMIT 1");
    let restoring = busy("PERFORM keepsake.restore(id) FROM (
                              SELECT id FROM keepsake.deletion WHERE state = 'deleted' ORDER BY random() LIMIT 1) AS chosen");
    let purging = "CALL keepsake.purge(2, 4)";
    let mut purged = 0;
    let mut deletions: i64 = 0;
    // A busy machine does little in a moment: then there are more, and longer ones.
    for round in 1..=5 {
        if deletions >= 20 && purged > 0 {
            break;
        }
        for moment in MOMENTS.map(|moment| moment * round) {
            let mut calls = Vec::new();
            for sql in [&deleting, &restoring, purging] {
                calls.push(call(&server, sql).await?);
            }
            tokio::time::sleep(Duration::from_millis(moment)).await;
            server.postgres.kill();
            for call in calls {
                call.await??;
            }
            server.postgres.restart().await?;
            let mut database = server.connect_to(DATABASE).await?;
            check(&mut database)
                .await
                .with_context(|| format!("killed after {moment} ms"))?;
            let outbox: i64 = ask(&mut database, "SELECT count(*) FROM keepsake.outbox")
                .await?
                .parse()?;
            ensure!(outbox >= purged, "the outbox has lost objects");
            purged = outbox;
        }
        deletions = ask(
            &mut server.connect_to(DATABASE).await?,
            "SELECT count(*) FROM keepsake.deletion",
        )
        .await?
        .parse()?;
    }
    ensure!(
        deletions >= 20 && purged > 0,
        "the clients did too little: {deletions} deletions, {purged} objects"
    );
    // What is left comes to its end, and the live rows are those that nobody deleted.
    let mut database = server.connect_to(DATABASE).await?;
    run(
        &mut database,
        "SELECT keepsake.soft_delete('thread', id) FROM thread WHERE deleted_at IS NULL",
    )
    .await?;
    run(&mut database, "CALL keepsake.purge()").await?;
    check(&mut database).await?;
    expect(&mut database, "SELECT count(*) FROM keepsake.outbox", "60").await?;
    expect(&mut database, "SELECT count(*) FROM thread", "0").await
}
