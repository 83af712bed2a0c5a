//! An upload whose client stored its files and never said so is completed by the schedule, before its time is over.

use anyhow::{Context as _, Result};
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{Fixture, PDF, PNG, TEXT};
use keepsake_tests::stack::Stack;
use serde_json::Value;
use sqlx::types::Json;

use crate::agreement::{Place, assert_agreement};
use crate::object_store::Fault;
use crate::world::{
    Tenant, any_object_exists, errors, id, own_stack, run_schedule, s3_stack, tenant, upload_path,
};

/// Plain text under the name of a picture.
const FALSE_PNG: Fixture = Fixture {
    name: "false.png",
    media_type: "image/png",
    bytes: b"not a picture at all",
};

async fn state(tenant: &Tenant<'_>, upload: &Value) -> Result<String> {
    let shown = tenant.api.get(&upload_path(upload)?).await?.json_if(200)?;
    Ok(text(&shown, "/state")?.to_owned())
}

/// What the schedule's looks came to, all runs together.
async fn counted(stack: &Stack, what: &str) -> Result<i64> {
    let sql = "SELECT coalesce(sum((counts ->> $1)::bigint), 0)::bigint FROM attachments.run WHERE step = 'complete'";
    Ok(sqlx::query_scalar(sql)
        .bind(what)
        .fetch_one(&mut stack.postgres.connect().await?)
        .await?)
}

/// Lets the next look be due, as when half of the time that was left has passed.
async fn let_next_look_come(stack: &Stack) -> Result<()> {
    let sql =
        "UPDATE attachments.upload_set SET next_look_at = now() WHERE next_look_at IS NOT NULL";
    sqlx::query(sql)
        .execute(&mut stack.postgres.connect().await?)
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_its_client_left_is_completed_before_its_end_and_not_long_before() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    run_schedule(tenant.stack).await?;
    assert!(tenant.visible().await?.is_empty(), "its client is at work");

    tenant.let_time_pass_until("5 minutes").await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    assert_eq!(state(&tenant, &upload).await?, "completed");
    let attachments = tenant.attachments().await?;
    for attachment in &attachments {
        assert_eq!(attachment["uploaded_by"], "ada");
        tenant.api.download(id(attachment)?).await?;
    }
    // Its client is there after all.
    let answer = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(answer["attachments"].as_array().map(Vec::len), Some(2));
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 2);
    Ok(())
}

#[tokio::test]
async fn half_of_a_set_waits_to_its_end_and_is_swept() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG, TEXT]).await?;
    tenant.put(&upload["files"][0], PNG).await?;
    let keys = tenant.object_keys().await?;
    tenant.let_time_pass_until("5 minutes").await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(state(&tenant, &upload).await?, "pending");
    assert!(tenant.visible().await?.is_empty(), "half a set is visible");
    assert!(any_object_exists(tenant.stack, &keys[..1]).await?);
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(409, "not_uploaded")?;

    tenant.let_time_pass_until("-2 minutes").await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(state(&tenant, &upload).await?, "expired");
    assert_eq!(tenant.rows().await?, 0);
    assert!(!any_object_exists(tenant.stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn a_whole_set_whose_time_is_over_stays_expired() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    tenant.let_time_pass_until("-1 second").await?;
    run_schedule(tenant.stack).await?;
    assert!(tenant.visible().await?.is_empty());
    tenant.let_time_pass_until("-2 minutes").await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(state(&tenant, &upload).await?, "expired");
    assert_eq!(tenant.rows().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_set_with_a_wrong_file_is_rejected_and_says_why() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PDF, FALSE_PNG]).await?;
    let keys = tenant.object_keys().await?;
    tenant.let_time_pass_until("5 minutes").await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(state(&tenant, &upload).await?, "rejected");
    assert_eq!(tenant.rows().await?, 0);
    assert!(!any_object_exists(tenant.stack, &keys).await?);
    let refused = tenant.complete(&upload).await?;
    let problem = refused.expect_problem(422, "upload_rejected")?;
    assert_eq!(errors(&problem), [("/files/1", "media_type_mismatch")]);
    let shown = tenant.api.get(&upload_path(&upload)?).await?.json_if(200)?;
    assert_eq!(
        text(&shown, "/files/1/problems/0/code")?,
        "media_type_mismatch"
    );
    Ok(())
}

#[tokio::test]
async fn a_set_without_its_thing_or_its_name_waits() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;
    tenant.let_time_pass_until("5 minutes").await?;
    run_schedule(tenant.stack).await?;
    tenant.restore_post().await?.json_if(200)?;
    assert_eq!(state(&tenant, &upload).await?, "pending");

    let other = tenant.store(&[PNG]).await?;
    tenant.complete(&other).await?.json_if(200)?;
    let_next_look_come(tenant.stack).await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(state(&tenant, &upload).await?, "pending");
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn a_look_comes_again_only_when_half_the_time_has_passed() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.declare(&[PNG]).await?;
    tenant.let_time_pass_until("8 minutes").await?;
    for _ in 0..3 {
        run_schedule(&stack).await?;
    }
    assert_eq!(counted(&stack, "waiting").await?, 1, "looked for nothing");
    let sql = "SELECT to_jsonb(extract(epoch FROM next_look_at - now())::float8) FROM attachments.upload_set";
    let Json(left): Json<f64> = sqlx::query_scalar(sql)
        .fetch_one(&mut tenant.database().await?)
        .await?;
    assert!((220.0..=240.0).contains(&left), "looks again in {left} s");

    tenant.put(&upload["files"][0], PNG).await?;
    let_next_look_come(&stack).await?;
    run_schedule(&stack).await?;
    assert_eq!(counted(&stack, "completed").await?, 1);
    assert_eq!(tenant.visible().await?, [PNG.name]);
    assert_agreement(&stack, Place::Bucket).await
}

#[tokio::test]
async fn a_store_that_fails_is_asked_by_the_next_run_and_runs_at_once_share_the_work() -> Result<()>
{
    let (stack, store) = s3_stack(&[]).await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.store(&[PNG]).await?;
    tenant.let_time_pass_until("10 minutes").await?;
    store.trap("HEAD", "", Fault::Refused(503), 100);
    run_schedule(&stack).await?;
    store.disarm();
    assert_eq!(counted(&stack, "failed").await?, 1);
    assert!(tenant.visible().await?.is_empty());
    let outcome: String =
        sqlx::query_scalar("SELECT outcome FROM attachments.run WHERE step = 'complete'")
            .fetch_one(&mut tenant.database().await?)
            .await?;
    assert_eq!(outcome, "failed");

    let mut others = Vec::new();
    for _ in 0..3 {
        let other = Tenant::new(&stack).await?;
        other.store(&[PNG, TEXT]).await?;
        other.let_time_pass_until("5 minutes").await?;
        others.push(other);
    }
    let_next_look_come(&stack).await?;
    let (one, two, three) = tokio::join!(
        run_schedule(&stack),
        run_schedule(&stack),
        run_schedule(&stack)
    );
    one.and(two).and(three)?;
    assert_eq!(counted(&stack, "completed").await?, 4, "each set once");
    assert_eq!(tenant.visible().await?, [PNG.name]);
    for other in &others {
        assert_eq!(other.visible().await?, [PNG.name, TEXT.name]);
    }
    assert_agreement(&stack, Place::Store(&store)).await
}

#[tokio::test]
async fn the_lease_of_a_run_that_broke_off_is_taken_up() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.store(&[PNG]).await?;
    tenant.let_time_pass_until("5 minutes").await?;
    // As far as a run gets that leases the set and dies.
    let lease = "SELECT attachments_api.lease_open_upload('{\"lead_seconds\": 660, \"lease_seconds\": 60}')";
    let mut database = tenant.database().await?;
    let leased: Value = sqlx::query_scalar(lease).fetch_one(&mut database).await?;
    assert_eq!(leased["ok"]["upload_id"], upload["id"]);
    let again: Value = sqlx::query_scalar(lease).fetch_one(&mut database).await?;
    assert!(again["ok"].is_null(), "{again}");
    run_schedule(&stack).await?;
    assert!(tenant.visible().await?.is_empty());
    let_next_look_come(&stack).await?;
    run_schedule(&stack).await?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    let attachment = tenant.attachments().await?.pop().context("none")?;
    tenant.api.download(id(&attachment)?).await?;
    Ok(())
}
