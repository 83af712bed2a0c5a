//! An upload set becomes visible whole or not at all.

use anyhow::Result;
use keepsake_tests::api::{declaration, text};
use keepsake_tests::fixtures::{CSV, Fixture, PDF, PNG, TEXT};
use serde_json::json;

use crate::world::{any_object_exists, errors, run_schedule, tenant, upload_path};

/// Plain text under the name of a picture.
const FALSE_PNG: Fixture = Fixture {
    name: "false.png",
    media_type: "image/png",
    bytes: b"not a picture at all",
};

#[tokio::test]
async fn one_bad_file_of_three_leaves_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PDF, FALSE_PNG, TEXT]).await?;
    let keys = tenant.object_keys().await?;

    let refused = tenant.complete(&upload).await?;
    let problem = refused.expect_problem(422, "upload_rejected")?;
    assert_eq!(errors(&problem), [("/files/1", "media_type_mismatch")]);

    assert!(tenant.attachments().await?.is_empty());
    assert_eq!(tenant.rows().await?, 0);
    run_schedule(tenant.stack).await?;
    assert!(
        !any_object_exists(tenant.stack, &keys).await?,
        "an object of a rejected set is left"
    );

    // Repeating says the same, and the reason stays on record.
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(422, "upload_rejected")?;
    let record = tenant.api.get(&upload_path(&upload)?).await?;
    let record = record.json_if(200)?;
    assert_eq!(text(&record, "/state")?, "rejected");
    assert_eq!(
        text(&record, "/files/1/problems/0/code")?,
        "media_type_mismatch"
    );
    Ok(())
}

#[tokio::test]
async fn a_set_waits_for_its_last_file() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG, CSV]).await?;
    tenant.put(&upload["files"][0], PNG).await?;

    let refused = tenant.complete(&upload).await?;
    let problem = refused.expect_problem(409, "not_uploaded")?;
    assert_eq!(errors(&problem), [("/files/1", "not_uploaded")]);
    assert!(
        tenant.attachments().await?.is_empty(),
        "half a set is visible"
    );

    tenant.put(&upload["files"][1], CSV).await?;
    tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [CSV.name, PNG.name]);
    Ok(())
}

#[tokio::test]
async fn completing_twice_changes_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    let first = tenant.complete(&upload).await?.json_if(200)?;
    let second = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(first, second);
    assert_eq!(tenant.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn two_completions_at_once_make_one_set() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let (one, other) = tokio::join!(tenant.complete(&upload), tenant.complete(&upload));
    one?.json_if(200)?;
    other?.json_if(200)?;
    assert_eq!(tenant.attachments().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing_and_cannot_be_completed() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    let keys = tenant.object_keys().await?;
    let path = upload_path(&upload)?;

    tenant.api.delete(&path).await?.expect(204)?;
    tenant.api.delete(&path).await?.expect(204)?;
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(409, "upload_closed")?;
    assert_eq!(tenant.rows().await?, 0);
    run_schedule(tenant.stack).await?;
    assert!(
        !any_object_exists(tenant.stack, &keys).await?,
        "an object of a set given up is left"
    );
    Ok(())
}

#[tokio::test]
async fn a_completed_upload_cannot_be_given_up() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    let path = upload_path(&upload)?;
    tenant.complete(&upload).await?.json_if(200)?;
    let refused = tenant.api.delete(&path).await?;
    refused.expect_problem(409, "upload_closed")?;
    assert_eq!(tenant.attachments().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_upload_whose_time_ran_out_is_swept() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG, TEXT]).await?;
    tenant.put(&upload["files"][0], PNG).await?;
    let keys = tenant.object_keys().await?;
    let mut database = tenant.database().await?;
    sqlx::query("UPDATE attachments.upload_set SET expires_at = now() - interval '1 day' WHERE tenant_id = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;

    let path = upload_path(&upload)?;
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(410, "upload_expired")?;
    run_schedule(tenant.stack).await?;
    let record = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(text(&record, "/state")?, "expired");
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(410, "upload_expired")?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(
        !any_object_exists(tenant.stack, &keys).await?,
        "an object of an expired set is left"
    );
    Ok(())
}

#[tokio::test]
async fn a_whole_set_is_not_completed_after_its_time() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let sql = "UPDATE attachments.upload_set SET expires_at = now() - interval '20 seconds' WHERE tenant_id = $1";
    sqlx::query(sql)
        .bind(&tenant.name)
        .execute(&mut tenant.database().await?)
        .await?;
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(410, "upload_expired")?;
    assert!(tenant.attachments().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_before_anything_is_sent() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    let mut shouted = declaration(&PNG);
    shouted["name"] = json!("LOCKET.png");
    let request = tenant.request(json!([declaration(&TEXT), shouted]));
    let problem = tenant
        .api
        .post("/v1/uploads", &request)
        .await?
        .expect_problem(409, "name_taken")?;
    assert_eq!(errors(&problem), [("/files/1/name", "name_taken")]);
    assert_eq!(
        tenant.upload_sets().await?,
        1,
        "a refused declaration left a set"
    );
    Ok(())
}
