//! Several at once: whatever interleaves, what is true in the end is true.

use anyhow::{Result, ensure};
use keepsake_tests::fixtures::{PNG, TEXT};
use serde_json::Value;
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::world::{
    Tenant, any_object_exists, deletion_id, id, is_waiting, names, own_stack, run_schedule, tenant,
    until,
};

const AT_ONCE: usize = 6;

#[tokio::test]
async fn many_deletes_are_one_deletion() -> Result<()> {
    let tenant = tenant().await?;
    tenant.upload(&[PNG]).await?;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (api, path) = (tenant.api.clone(), tenant.post_path());
        tasks.spawn(async move { api.delete(&path).await });
    }
    let mut deletions = Vec::new();
    while let Some(reply) = tasks.join_next().await {
        let reply = reply??;
        reply.expect(204)?;
        deletions.push(deletion_id(&reply)?.to_owned());
    }
    deletions.dedup();
    assert_eq!(deletions.len(), 1, "{deletions:?}");
    Ok(())
}

#[tokio::test]
async fn of_many_sets_with_one_name_one_wins() -> Result<()> {
    let tenant = tenant().await?;
    let mut sets = Vec::new();
    for _ in 0..AT_ONCE {
        sets.push(tenant.store(&[PNG]).await?);
    }
    let mut tasks = JoinSet::new();
    for set in sets {
        let api = tenant.api.clone();
        tasks.spawn(async move { api.complete(&set).await });
    }
    let mut won = 0;
    while let Some(reply) = tasks.join_next().await {
        let reply = reply??;
        match reply.status {
            200 => won += 1,
            _ => drop(reply.expect_problem(409, "name_taken")?),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn a_delete_and_a_complete_leave_no_orphan() -> Result<()> {
    for _ in 0..3 {
        let tenant = tenant().await?;
        let upload = tenant.store(&[PNG, TEXT]).await?;

        let (completed, deleted) = tokio::join!(tenant.complete(&upload), tenant.delete_post());
        let completed = completed?;
        deleted?.expect(204)?;
        ensure!(
            matches!(completed.status, 200 | 404 | 409),
            "completing got {}",
            completed.status
        );
        assert_eq!(
            live_rows(&tenant).await?,
            0,
            "a live file of a deleted post"
        );

        tenant.restore_post().await?.json_if(200)?;
        tenant.complete(&upload).await?.json_if(200)?;
        assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    }
    Ok(())
}

async fn live_rows(tenant: &Tenant<'_>) -> Result<i64> {
    let sql =
        "SELECT count(*) FROM attachments.attachment WHERE tenant_id = $1 AND deleted_at IS NULL";
    tenant.count(sql).await
}

#[tokio::test]
async fn a_restore_and_a_purge_never_meet_half_way() -> Result<()> {
    for _ in 0..3 {
        let tenant = tenant().await?;
        tenant.upload(&[PNG, TEXT]).await?;
        let keys = tenant.object_keys().await?;
        tenant.delete_post().await?.expect(204)?;
        tenant.let_retention_run_out().await?;
        let (restored, purged) = tokio::join!(tenant.restore_post(), run_schedule(tenant.stack));
        purged?;
        // A second run takes what the first one passed over; it must find nothing of a restored post.
        run_schedule(tenant.stack).await?;
        let objects_left = any_object_exists(tenant.stack, &keys).await?;
        match restored? {
            reply if reply.status == 200 => {
                let attachments = tenant.attachments().await?;
                assert_eq!(names(&attachments), [PNG.name, TEXT.name]);
                for attachment in &attachments {
                    tenant.api.download(id(attachment)?).await?;
                }
            }
            reply => {
                reply.expect_problem(410, "purged")?;
                assert_eq!(tenant.rows().await?, 0);
                assert!(!objects_left, "bytes outlived their rows");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_sweep_that_waits_for_a_deletion_leaves_it_to_be_restored() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG]).await?;
    let failed = tenant.declare(&[TEXT]).await?;
    let (mut deleting, mut sweeping) = (tenant.database().await?, tenant.database().await?);
    // As the application may leave it that refers to a file which failed, and lets go of it later.
    let reject =
        "UPDATE attachments.attachment SET state = 'rejected' WHERE upload_set_id = $1::uuid";
    sqlx::query(reject)
        .bind(id(&failed)?)
        .execute(&mut deleting)
        .await?;
    let close = "UPDATE attachments.upload_set SET state = 'aborted', settled_at = now() WHERE id = $1::uuid";
    sqlx::query(close)
        .bind(id(&failed)?)
        .execute(&mut deleting)
        .await?;

    deleting.execute("BEGIN").await?;
    let deletion: String =
        sqlx::query_scalar("SELECT keepsake.soft_delete('public.post', $1::bigint)::text")
            .bind(tenant.entity().1.parse::<i64>()?)
            .fetch_one(&mut deleting)
            .await?;
    let process: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut sweeping)
        .await?;
    let sweep = tokio::spawn(async move {
        sweeping
            .execute("SELECT attachments_api.sweep_uploads('{\"limit\": 100}')")
            .await
    });
    until("the sweep waits for the deletion", async || {
        is_waiting(&mut deleting, process).await
    })
    .await?;
    deleting.execute("COMMIT").await?;
    sweep.await??;
    sqlx::query("SELECT keepsake.restore($1::uuid)")
        .bind(deletion)
        .execute(&mut deleting)
        .await?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn several_schedules_at_once_do_the_work_once() -> Result<()> {
    let tenant = tenant().await?;
    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    let keys = tenant.object_keys().await?;
    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    tenant.let_retention_run_out().await?;
    let (one, two, three) = tokio::join!(
        run_schedule(tenant.stack),
        run_schedule(tenant.stack),
        run_schedule(tenant.stack)
    );
    one.and(two).and(three)?;
    assert_eq!(tenant.rows().await?, 1);
    assert!(!any_object_exists(tenant.stack, &keys[..1]).await?);
    assert_eq!(
        tenant.api.download(id(&attachments[1])?).await?.body,
        TEXT.bytes
    );
    Ok(())
}

#[tokio::test]
async fn readers_never_see_half_a_set() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let mut tasks: JoinSet<Result<Vec<Value>>> = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (api, post) = (tenant.api.clone(), tenant.post.clone());
        tasks.spawn(async move { api.list(("post", &post)).await });
    }
    tenant.complete(&upload).await?.json_if(200)?;
    while let Some(seen) = tasks.join_next().await {
        let seen = seen??;
        assert!(
            matches!(seen.len(), 0 | 2),
            "a reader saw {} of 2 files",
            seen.len()
        );
    }
    Ok(())
}
