//! Purge: never before its time, then rows first and bytes after.

use anyhow::Result;
use keepsake_tests::fixtures::{PDF, PNG, TEXT};

use crate::world::{any_object_exists, id, names, object_exists, run_schedule, tenant};

#[tokio::test]
async fn nothing_is_purged_before_its_time() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.api.upload(tenant.entity(), &[PNG]).await?.remove(0);
    let keys = tenant.object_keys().await?;
    let path = format!("/v1/attachments/{}", id(&attachment)?);
    tenant.api.delete(&path).await?.expect(204)?;

    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 1);
    assert!(any_object_exists(tenant.stack, &keys).await?);
    tenant
        .api
        .post_empty(&format!("{path}/restore"))
        .await?
        .json_if(200)?;
    assert_eq!(tenant.api.download(id(&attachment)?).await?.body, PNG.bytes);
    Ok(())
}

#[tokio::test]
async fn what_expired_goes_and_what_lives_stays() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant
        .api
        .upload(tenant.entity(), &[PNG, PDF, TEXT])
        .await?;
    let keys = tenant.object_keys().await?;
    let gone = format!("/v1/attachments/{}", id(&attachments[1])?);
    tenant.api.delete(&gone).await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(tenant.stack).await?;

    assert_eq!(tenant.rows().await?, 2);
    assert_eq!(
        names(&tenant.api.list(tenant.entity()).await?),
        [PNG.name, TEXT.name]
    );
    assert!(object_exists(tenant.stack, &keys[0]).await?);
    assert!(!object_exists(tenant.stack, &keys[1]).await?);
    assert!(object_exists(tenant.stack, &keys[2]).await?);
    tenant
        .api
        .post_empty(&format!("{gone}/restore"))
        .await?
        .expect_problem(410, "purged")?;
    tenant
        .api
        .delete(&gone)
        .await?
        .expect_problem(410, "purged")?;
    tenant
        .api
        .get(&gone)
        .await?
        .expect_problem(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn a_restore_at_the_last_moment_wins() -> Result<()> {
    let tenant = tenant().await?;
    tenant.api.upload(tenant.entity(), &[PNG]).await?;
    tenant.api.delete(&tenant.post_path()).await?.expect(204)?;
    tenant.let_retention_run_out().await?;
    tenant
        .api
        .post_empty(&format!("{}/restore", tenant.post_path()))
        .await?
        .json_if(200)?;
    run_schedule(tenant.stack).await?;
    assert_eq!(names(&tenant.api.list(tenant.entity()).await?), [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn running_the_schedule_again_changes_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.api.upload(tenant.entity(), &[PNG, TEXT]).await?;
    tenant
        .api
        .delete(&format!("/v1/attachments/{}", id(&attachments[0])?))
        .await?
        .expect(204)?;
    tenant.let_retention_run_out().await?;
    for _ in 0..3 {
        run_schedule(tenant.stack).await?;
        assert_eq!(tenant.rows().await?, 1);
        assert_eq!(names(&tenant.api.list(tenant.entity()).await?), [TEXT.name]);
    }
    Ok(())
}
