//! A crash anywhere loses nothing: repeating the call converges.

use anyhow::Result;
use keepsake_tests::fixtures::{PDF, PNG, TEXT};

use crate::world::{Tenant, any_object_exists, id, names, own_stack, run_schedule};

#[tokio::test]
async fn the_worker_dies_between_upload_and_complete() -> Result<()> {
    let mut stack = own_stack().await?;
    let (upload, post, api) = {
        let tenant = Tenant::new(&stack).await?;
        let upload = tenant.declare(&[PNG, PDF]).await?;
        tenant.put(&upload["files"][0], PNG).await?;
        (upload, tenant.post, tenant.api)
    };

    stack.worker.kill();
    assert!(
        api.get("/healthz").await.is_err(),
        "the worker still answers after kill -9"
    );
    stack.worker.restart().await?;

    // What was stored is stored, the URL that was given still works, and the set completes.
    assert!(
        api.list(("post", &post)).await?.is_empty(),
        "half a set is visible"
    );
    api.put(&upload["files"][0], PNG.bytes)
        .await?
        .expect_problem(412, "object_exists")?;
    api.put(&upload["files"][1], PDF.bytes).await?.expect(201)?;
    api.complete(&upload).await?.json_if(200)?;
    let attachments = api.list(("post", &post)).await?;
    assert_eq!(names(&attachments), [PDF.name, PNG.name]);
    for attachment in &attachments {
        api.download(id(attachment)?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_database_dies_and_comes_back() -> Result<()> {
    let mut stack = own_stack().await?;
    let (attachments, keys, post_path, api, name) = {
        let tenant = Tenant::new(&stack).await?;
        let attachments = tenant.upload(&[PNG, TEXT]).await?;
        let keys = tenant.object_keys().await?;
        let post_path = tenant.post_path();
        (attachments, keys, post_path, tenant.api, tenant.name)
    };

    stack.postgres.kill();
    api.get("/healthz").await?.expect(200)?;
    for path in [
        "/healthz?deep=1".to_owned(),
        format!("{post_path}/attachments"),
    ] {
        api.get(&path)
            .await?
            .expect_problem(503, "database_unavailable")?;
    }
    api.delete(&post_path)
        .await?
        .expect_problem(503, "database_unavailable")?;
    run_schedule(&stack).await?;

    stack.postgres.restart().await?;
    api.get("/healthz?deep=1").await?.expect(200)?;
    assert_eq!(api.download(id(&attachments[0])?).await?.body, PNG.bytes);
    api.delete(&post_path).await?.expect(204)?;

    // And once more, between the deletion and its purge.
    stack.postgres.kill();
    stack.postgres.restart().await?;
    api.restore(&post_path).await?.json_if(200)?;
    api.delete(&post_path).await?.expect(204)?;
    let mut database = stack.postgres.connect().await?;
    sqlx::query("UPDATE keepsake.deletion SET expires_at = expires_at - interval '31 days' WHERE tenant = $1")
        .bind(&name)
        .execute(&mut database)
        .await?;
    run_schedule(&stack).await?;
    assert!(!any_object_exists(&stack, &keys).await?);
    Ok(())
}

#[tokio::test]
async fn the_worker_dies_while_it_purges() -> Result<()> {
    let mut stack = own_stack().await?;
    let keys = {
        let tenant = Tenant::new(&stack).await?;
        tenant.upload(&[PNG, TEXT, PDF]).await?;
        let keys = tenant.object_keys().await?;
        tenant.delete_post().await?.expect(204)?;
        tenant.let_retention_run_out().await?;
        keys
    };
    // As far as a worker gets that purges the rows, leases the objects and dies: the lease must run out.
    let mut database = stack.postgres.connect().await?;
    sqlx::query("SELECT keepsake.purge_batch(1000)")
        .execute(&mut database)
        .await?;
    sqlx::query("SELECT keepsake.lease_objects(1000, interval '1 second')")
        .execute(&mut database)
        .await?;
    stack.worker.kill();
    stack.worker.restart().await?;
    assert!(
        any_object_exists(&stack, &keys).await?,
        "nothing was left to do"
    );

    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    run_schedule(&stack).await?;
    assert!(
        !any_object_exists(&stack, &keys).await?,
        "an object of a purged row is left"
    );
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM keepsake.outbox WHERE leased_until > now()")
            .fetch_one(&mut database)
            .await?;
    assert_eq!(waiting, 0);
    Ok(())
}
