//! What goes wrong between the worker and its store. In the end there is no visible half set, no
//! object that nobody knows, no row without its bytes.

use std::time::{Duration, Instant};

use anyhow::Result;
use keepsake_tests::fixtures::{Fixture, PDF, PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::stack::Stack;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::agreement::{Place, assert_agreement};
use crate::object_store::{BY_URL, Fault, ObjectStore};
use crate::world::{Tenant, run_schedule, s3_stack, upload_path};

static STACK: OnceCell<(Stack, ObjectStore, Mutex<()>)> = OnceCell::const_new();

/// A stack whose store may be troubled, and the turn to do so: one test at a time.
async fn turn() -> Result<(
    &'static Stack,
    &'static ObjectStore,
    MutexGuard<'static, ()>,
)> {
    let (stack, store, turns) = STACK
        .get_or_try_init(async || {
            let (stack, store) = s3_stack(&[]).await?;
            anyhow::Ok((stack, store, Mutex::new(())))
        })
        .await?;
    let turn = turns.lock().await;
    store.disarm();
    Ok((stack, store, turn))
}

/// Lets whatever waits in the outbox be due, and runs the schedule.
async fn run_schedule_later(stack: &Stack) -> Result<()> {
    let mut database = stack.postgres.connect().await?;
    sqlx::query("UPDATE keepsake.outbox SET next_attempt_at = now(), writable_until = now() - interval '1 hour'")
        .execute(&mut database)
        .await?;
    run_schedule(stack).await
}

/// A set all of whose files are stored.
async fn stored(tenant: &Tenant<'_>, files: &[Fixture]) -> Result<Value> {
    let upload = tenant.store(files).await?;
    assert!(tenant.visible().await?.is_empty(), "visible too early");
    Ok(upload)
}

#[tokio::test]
async fn a_store_that_stumbles_is_asked_again() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    for (fault, times) in [
        (Fault::Refused(500), 2),
        (Fault::Refused(503), 2),
        (Fault::ReplyLost, 2),
        (Fault::DoneButRefused(502), 2),
        (Fault::Slow(Duration::from_secs(1)), 1),
        // Longer than the worker waits for one answer.
        (Fault::DoneButSlow(Duration::from_secs(8)), 1),
    ] {
        let tenant = Tenant::new(stack).await?;
        let upload = stored(&tenant, &[PNG]).await?;
        store.trap("HEAD", "", fault, times);
        store.trap("GET", "", fault, 1);
        tenant.complete(&upload).await?.json_if(200)?;
        assert_eq!(store.disarm(), 0, "{fault:?} was not met");
        assert_eq!(tenant.visible().await?, [PNG.name]);
    }
    assert_agreement(stack, Place::Store(store)).await
}

/// RFC 9110 §15.3.7: an answer may have less than was asked for. Of a store that tells no SHA-256 the bytes are read.
#[tokio::test]
async fn a_store_that_answers_with_less_than_asked_is_asked_for_the_rest() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[("S3_KIND", "other")]).await?;
    let tenant = Tenant::new(&stack).await?;
    for file in [PNG, TEXT] {
        let upload = tenant.store(&[file]).await?;
        store.trap("GET", "", Fault::Short(40), 200);
        tenant.complete(&upload).await?.json_if(200)?;
        // Twice at least, for its type and for its digest.
        assert!(store.disarm() < 198, "nothing more was asked for");
    }
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    Ok(())
}

/// RFC 9110 §14.2: a server may pass over a range. One that compresses tells no length, unless it is asked not to.
#[tokio::test]
async fn a_store_that_answers_in_its_own_way_is_understood() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    for (method, fault) in [("GET", Fault::Whole), ("HEAD", Fault::NoLength)] {
        let tenant = Tenant::new(stack).await?;
        let upload = stored(&tenant, &[PNG, PDF, TEXT]).await?;
        store.trap(method, "", fault, 3);
        tenant.complete(&upload).await?.json_if(200)?;
        assert_eq!(store.disarm(), 0, "{fault:?} was not met");
        assert_eq!(tenant.visible().await?.len(), 3);
    }
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn a_store_that_is_down_changes_nothing() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    for (fault, at_most) in [
        (Fault::Refused(500), Duration::from_secs(5)),
        (Fault::Refused(503), Duration::from_secs(5)),
        (Fault::ReplyLost, Duration::from_secs(5)),
        // Three tries of six seconds, with pauses.
        (
            Fault::Slow(Duration::from_secs(60)),
            Duration::from_secs(25),
        ),
    ] {
        let tenant = Tenant::new(stack).await?;
        let upload = stored(&tenant, &[PNG, TEXT]).await?;
        store.trap("HEAD", "", fault, 100);
        let began = Instant::now();
        let reply = tenant.complete(&upload).await?;
        reply.expect_problem(503, "storage_unavailable")?;
        assert!(reply.header("retry-after").is_some());
        assert!(
            began.elapsed() < at_most,
            "{fault:?}: {:?}",
            began.elapsed()
        );
        assert!(tenant.visible().await?.is_empty(), "half a set is visible");
        store.disarm();
        tenant.complete(&upload).await?.json_if(200)?;
        assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    }
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn a_client_whose_upload_got_no_reply_sends_it_again_and_completes() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    let tenant = Tenant::new(stack).await?;
    let upload = tenant.declare(&[PNG]).await?;
    let file = &upload["files"][0];
    store.trap("PUT", BY_URL, Fault::ReplyLost, 1);
    assert!(tenant.api.put(file, PNG.bytes).await.is_err());
    tenant.api.put(file, PNG.bytes).await?.expect(412)?;
    tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn a_rejected_set_leaves_no_object_however_the_deletion_goes() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    for (fault, times) in [
        (Fault::Refused(500), 3),
        (Fault::Refused(503), 1),
        (Fault::Refused(403), 1),
        (Fault::ReplyLost, 3),
        (Fault::DoneButRefused(500), 3),
    ] {
        let tenant = Tenant::new(stack).await?;
        let upload = stored(&tenant, &[PNG, TEXT]).await?;
        let keys = tenant.object_keys().await?;
        // Behind the store's back, so that completing finds another file.
        std::fs::write(store.path(&keys[0]), PDF.bytes)?;
        store.trap("POST", "delete", fault, times);
        tenant
            .complete(&upload)
            .await?
            .expect_problem(422, "upload_rejected")?;
        assert_eq!(store.disarm(), 0, "{fault:?} was not met");
        assert!(tenant.visible().await?.is_empty());
        assert_eq!(tenant.rows().await?, 0);

        run_schedule_later(stack).await?;
        for key in &keys {
            assert!(
                !store.holds(key),
                "{fault:?}: an object of a rejected set stayed"
            );
        }
        let again = tenant.complete(&upload).await?;
        again.expect_problem(422, "upload_rejected")?;
    }
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn purged_bytes_go_in_the_end_and_living_ones_never() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    let living = Tenant::new(stack).await?;
    living.upload(&[PNG, PDF]).await?;
    let living_keys = living.object_keys().await?;
    for fault in [Fault::Refused(503), Fault::ReplyLost] {
        let tenant = Tenant::new(stack).await?;
        tenant.upload(&[PNG, TEXT]).await?;
        let keys = tenant.object_keys().await?;
        tenant.delete_post().await?.expect(204)?;
        tenant.let_retention_run_out().await?;
        store.trap("POST", "delete", fault, 3);
        run_schedule(stack).await?;
        assert_eq!(store.disarm(), 0, "{fault:?} was not met");
        assert_eq!(tenant.rows().await?, 0);
        run_schedule_later(stack).await?;
        for key in &keys {
            assert!(!store.holds(key), "{fault:?}: purged bytes stayed");
        }
    }
    for key in &living_keys {
        assert!(store.holds(key), "bytes went that a row names");
    }
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn an_upload_that_nobody_completes_is_swept_with_its_bytes() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    let tenant = Tenant::new(stack).await?;
    let upload = stored(&tenant, &[PNG]).await?;
    let keys = tenant.object_keys().await?;
    let mut database = tenant.database().await?;
    sqlx::query("UPDATE attachments.upload_set SET expires_at = now() - interval '1 hour' WHERE tenant_id = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;
    run_schedule_later(stack).await?;
    run_schedule_later(stack).await?;
    assert!(
        !store.holds(&keys[0]),
        "the bytes of an expired upload stayed"
    );
    assert_eq!(tenant.rows().await?, 0);
    let status = tenant.api.get(&upload_path(&upload)?).await?.json_if(200)?;
    assert_eq!(status["state"], "expired");
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn a_delete_that_is_done_and_answered_too_late_is_done_again() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    let tenant = Tenant::new(stack).await?;
    tenant.upload(&[PNG, TEXT]).await?;
    let keys = tenant.object_keys().await?;
    tenant.delete_post().await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    // Longer than the worker waits for a deletion.
    let late = Fault::DoneButSlow(Duration::from_secs(40));
    store.trap("POST", "delete", late, 1);
    let began = Instant::now();
    stack.worker.run_schedule().await?;
    assert!(began.elapsed() > Duration::from_secs(25), "it was not late");
    assert_eq!(store.disarm(), 0);
    let waiting = "SELECT count(*) FROM keepsake.outbox WHERE split_part(object_key, '/', 2) = $1 AND attempts > 0";
    assert_eq!(tenant.count(waiting).await?, 0, "it was not done again");
    assert!(!keys.iter().any(|key| store.holds(key)));
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn ten_completions_at_once_make_one_set_of_a_store_that_stumbles() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    let tenant = Tenant::new(stack).await?;
    let upload = stored(&tenant, &[PNG, TEXT]).await?;
    store.trap("HEAD", "", Fault::Slow(Duration::from_millis(300)), 5);
    store.trap("HEAD", "", Fault::Refused(503), 5);
    let replies = futures_util::future::join_all((0..10).map(|_| tenant.complete(&upload))).await;
    let mut answers = Vec::new();
    for reply in replies {
        answers.push(reply?.json_if(200)?);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(store.disarm(), 0);
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    assert_agreement(stack, Place::Store(store)).await
}

#[tokio::test]
async fn schedules_at_once_do_each_thing_once() -> Result<()> {
    requires!(S3);
    let (stack, store, _turn) = turn().await?;
    let (purged, swept, ending) = (
        Tenant::new(stack).await?,
        Tenant::new(stack).await?,
        Tenant::new(stack).await?,
    );
    purged.upload(&[PNG, TEXT]).await?;
    purged.delete_post().await?.expect(204)?;
    purged.let_retention_run_out().await?;
    stored(&swept, &[PNG]).await?;
    swept.let_time_pass_until("-2 minutes").await?;
    stored(&ending, &[PNG, TEXT]).await?;
    ending.let_time_pass_until("5 minutes").await?;
    let mut database = stack.postgres.connect().await?;
    let last: i64 = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM attachments.run")
        .fetch_one(&mut database)
        .await?;
    // So that they are all at it together.
    store.trap("POST", "delete", Fault::Slow(Duration::from_secs(1)), 1);
    let (one, two, three) = tokio::join!(
        run_schedule(stack),
        run_schedule(stack),
        run_schedule(stack)
    );
    one.and(two).and(three)?;
    for (step, counter, once) in [
        ("purge", "purged", 2),
        ("sweep", "expired", 1),
        ("drain", "deleted", 3),
        ("complete", "completed", 1),
    ] {
        let sql = "SELECT sum((counts ->> $2)::bigint)::bigint FROM attachments.run WHERE step = $1 AND id > $3";
        let done: i64 = sqlx::query_scalar(sql)
            .bind(step)
            .bind(counter)
            .bind(last)
            .fetch_one(&mut database)
            .await?;
        assert!(done >= once, "{step}: {done}");
        if step != "purge" {
            assert_eq!(done, once, "{step}");
        }
    }
    assert_eq!(ending.visible().await?, [PNG.name, TEXT.name]);
    assert_eq!((purged.rows().await?, swept.rows().await?), (0, 0));
    assert_agreement(stack, Place::Store(store)).await
}
