//! Uploads whose entity is deleted before they are complete.

use anyhow::Result;
use keepsake_tests::fixtures::{PDF, PNG};

use crate::world::{any_object_exists, id, run_schedule, tenant};

#[tokio::test]
async fn a_set_waits_for_its_entity_to_come_back() -> Result<()> {
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
    tenant.api.delete(&tenant.post_path()).await?.expect(204)?;

    let complete = format!("/v1/uploads/{}/complete", id(&upload)?);
    tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(409, "upload_closed")?;
    let restore = format!("{}/restore", tenant.post_path());
    tenant.api.post_empty(&restore).await?.json_if(200)?;
    tenant.api.post_empty(&complete).await?.json_if(200)?;
    assert_eq!(tenant.api.list(tenant.entity()).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_set_given_up_meanwhile_leaves_nothing_when_its_entity_comes_back() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PDF])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PDF.bytes)
        .await?
        .json_if(201)?;
    let keys = tenant.object_keys().await?;
    tenant.api.delete(&tenant.post_path()).await?.expect(204)?;
    tenant
        .api
        .delete(&format!("/v1/uploads/{}", id(&upload)?))
        .await?
        .expect(204)?;

    let restore = format!("{}/restore", tenant.post_path());
    tenant.api.post_empty(&restore).await?.json_if(200)?;
    assert!(tenant.api.list(tenant.entity()).await?.is_empty());
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(!any_object_exists(tenant.stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn a_set_whose_rows_were_purged_is_not_called_complete() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant
        .api
        .declare(tenant.entity(), &[PNG, PDF])
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][0], PNG.bytes)
        .await?
        .json_if(201)?;
    tenant
        .api
        .put(&upload["files"][1], PDF.bytes)
        .await?
        .json_if(201)?;
    tenant.api.delete(&tenant.post_path()).await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    let complete = format!("/v1/uploads/{}/complete", id(&upload)?);
    tenant
        .api
        .post_empty(&complete)
        .await?
        .expect_problem(409, "upload_closed")?;
    Ok(())
}
