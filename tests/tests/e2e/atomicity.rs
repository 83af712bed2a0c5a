//! An upload set becomes visible whole or not at all.

use anyhow::Result;
use keepsake_tests::api::{declaration, text};
use keepsake_tests::fixtures::{CSV, Fixture, PDF, PNG, TEXT};
use serde_json::json;

use crate::world::{any_object_exists, errors, id, names, run_schedule, tenant};

/// Plain text under the name of a picture.
const FALSE_PNG: Fixture = Fixture {
    name: "false.png",
    media_type: "image/png",
    bytes: b"not a picture at all",
};

#[tokio::test]
async fn one_bad_file_of_three_leaves_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let files = [PDF, FALSE_PNG, TEXT];
    let upload = tenant
        .api
        .declare(tenant.entity(), &files)
        .await?
        .json_if(201)?;
    for (index, file) in files.iter().enumerate() {
        tenant
            .api
            .put(&upload["files"][index], file.bytes)
            .await?
            .json_if(201)?;
    }
    let keys = tenant.object_keys().await?;

    let complete = format!("/v1/uploads/{}/complete", id(&upload)?);
    let problem = tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(422, "upload_rejected")?;
    assert_eq!(errors(&problem), [("/files/1", "media_type_mismatch")]);

    assert!(tenant.api.list(tenant.entity()).await?.is_empty());
    assert_eq!(tenant.rows().await?, 0);
    run_schedule(tenant.stack).await?;
    assert!(
        !any_object_exists(tenant.stack, &keys).await?,
        "an object of a rejected set is left"
    );

    // Repeating says the same, and the reason stays on record.
    tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(422, "upload_rejected")?;
    let record = tenant
        .api
        .get(&format!("/v1/uploads/{}", id(&upload)?))
        .await?
        .json_if(200)?;
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
    let files = [PNG, CSV];
    let upload = tenant
        .api
        .declare(tenant.entity(), &files)
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;

    let complete = format!("/v1/uploads/{}/complete", id(&upload)?);
    let problem = tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(409, "not_uploaded")?;
    assert_eq!(errors(&problem), [("/files/1", "not_uploaded")]);
    assert!(
        tenant.api.list(tenant.entity()).await?.is_empty(),
        "half a set is visible"
    );

    tenant
        .api
        .put(&upload["files"][1], CSV.bytes)
        .await?
        .json_if(201)?;
    tenant.api.post_empty(&complete).await?.json_if(200)?;
    assert_eq!(
        names(&tenant.api.list(tenant.entity()).await?),
        [CSV.name, PNG.name]
    );
    Ok(())
}

#[tokio::test]
async fn completing_twice_changes_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;
    let complete = format!("/v1/uploads/{}/complete", id(&upload)?);
    let first = tenant.api.post_empty(&complete).await?.json_if(200)?;
    let second = tenant.api.post_empty(&complete).await?.json_if(200)?;
    assert_eq!(first, second);
    assert_eq!(tenant.rows().await?, 1);
    Ok(())
}

#[tokio::test]
async fn two_completions_at_once_make_one_set() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG, TEXT])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][1], TEXT.bytes)
        .await?
        .json_if(201)?;
    let complete = format!("/v1/uploads/{}/complete", id(&upload)?);
    let (one, other) = tokio::join!(
        tenant.api.post_empty(&complete),
        tenant.api.post_empty(&complete)
    );
    one?.json_if(200)?;
    other?.json_if(200)?;
    assert_eq!(tenant.api.list(tenant.entity()).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn an_upload_given_up_leaves_nothing_and_cannot_be_completed() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;
    let keys = tenant.object_keys().await?;
    let path = format!("/v1/uploads/{}", id(&upload)?);

    tenant.api.delete(&path).await?.expect(204)?;
    tenant.api.delete(&path).await?.expect(204)?;
    tenant
        .api
        .post_empty(&format!("{path}/complete"))
        .await?
        .expect_problem(409, "upload_closed")?;
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
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;
    let path = format!("/v1/uploads/{}", id(&upload)?);
    tenant
        .api
        .post_empty(&format!("{path}/complete"))
        .await?
        .json_if(200)?;
    tenant
        .api
        .delete(&path)
        .await?
        .expect_problem(409, "upload_closed")?;
    assert_eq!(tenant.api.list(tenant.entity()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_upload_whose_time_ran_out_is_swept() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG, TEXT])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;
    let keys = tenant.object_keys().await?;
    let mut database = tenant.database().await?;
    sqlx::query("UPDATE attachments.upload_set SET expires_at = now() - interval '1 day' WHERE tenant_id = $1")
        .bind(&tenant.name)
        .execute(&mut database)
        .await?;

    let path = format!("/v1/uploads/{}", id(&upload)?);
    let complete = format!("{path}/complete");
    tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(410, "upload_expired")?;
    run_schedule(tenant.stack).await?;
    let record = tenant.api.get(&path).await?.json_if(200)?;
    assert_eq!(text(&record, "/state")?, "expired");
    tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(410, "upload_expired")?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(
        !any_object_exists(tenant.stack, &keys).await?,
        "an object of an expired set is left"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_before_anything_is_sent() -> Result<()> {
    let tenant = tenant().await?;
    tenant.api.upload(tenant.entity(), &[PNG]).await?;
    let mut shouted = declaration(&PNG);
    shouted["name"] = json!("LOCKET.png");
    let request = json!({ "entity_type": "post", "entity_id": tenant.post, "files": [declaration(&TEXT), shouted] });
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
