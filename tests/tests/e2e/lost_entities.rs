//! Uploads whose entity is deleted before they are complete.

use anyhow::Result;
use keepsake_tests::fixtures::{PDF, PNG};

use crate::world::{any_object_exists, run_schedule, tenant, upload_path};

#[tokio::test]
async fn a_set_waits_for_its_entity_to_come_back() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;

    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(409, "upload_closed")?;
    tenant.restore_post().await?.json_if(200)?;
    tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(tenant.attachments().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_set_given_up_meanwhile_leaves_nothing_when_its_entity_comes_back() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PDF]).await?;
    let keys = tenant.object_keys().await?;
    tenant.delete_post().await?.expect(204)?;
    tenant
        .api
        .delete(&upload_path(&upload)?)
        .await?
        .expect(204)?;

    tenant.restore_post().await?.json_if(200)?;
    assert!(tenant.attachments().await?.is_empty());
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(!any_object_exists(tenant.stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn a_set_whose_entity_was_purged_is_gone_with_it() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG, PDF]).await?;
    tenant.delete_post().await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    let refused = tenant.complete(&upload).await?;
    refused.expect_problem(404, "not_found")?;
    Ok(())
}
