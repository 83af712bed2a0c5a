//! Purge: never before its time, then rows first and bytes after.

use anyhow::Result;
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use reqwest::Method;

use crate::world::{
    Tenant, any_object_exists, attachment_path, expect_nothing, id, object_exists, own_stack,
    run_schedule, tenant,
};

#[tokio::test]
async fn nothing_is_purged_before_its_time() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(PNG).await?;
    let keys = tenant.object_keys().await?;
    let path = attachment_path(&attachment)?;
    tenant.api.delete(&path).await?.expect(204)?;

    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 1);
    assert!(any_object_exists(tenant.stack, &keys).await?);
    tenant.api.restore(&path).await?.json_if(200)?;
    assert_eq!(tenant.api.download(id(&attachment)?).await?.body, PNG.bytes);
    Ok(())
}

#[tokio::test]
async fn what_expired_goes_and_what_lives_stays() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, PDF, TEXT]).await?;
    let keys = tenant.object_keys().await?;
    let gone = attachment_path(&attachments[1])?;
    tenant.api.delete(&gone).await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(tenant.stack).await?;

    assert_eq!(tenant.rows().await?, 2);
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    assert!(object_exists(tenant.stack, &keys[0]).await?);
    assert!(!object_exists(tenant.stack, &keys[1]).await?);
    assert!(object_exists(tenant.stack, &keys[2]).await?);
    tenant
        .api
        .restore(&gone)
        .await?
        .expect_problem(410, "purged")?;
    tenant
        .api
        .delete(&gone)
        .await?
        .expect_problem(410, "purged")?;
    expect_nothing(&tenant.api, &[(Method::GET, &gone)]).await?;
    Ok(())
}

#[tokio::test]
async fn a_restore_at_the_last_moment_wins() -> Result<()> {
    // Of its own: the schedule that another test runs would purge it before.
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG]).await?;
    tenant.delete_post().await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    tenant.restore_post().await?.json_if(200)?;
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn running_the_schedule_again_changes_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    tenant.let_retention_run_out().await?;
    for _ in 0..3 {
        run_schedule(tenant.stack).await?;
        assert_eq!(tenant.rows().await?, 1);
        assert_eq!(tenant.visible().await?, [TEXT.name]);
    }
    Ok(())
}
