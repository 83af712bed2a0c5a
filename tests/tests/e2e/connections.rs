//! The worker's connections to the database: one for a request, lent by a pool or lost half way.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keepsake_tests::fixtures::{PNG, TEXT};
use keepsake_tests::migrate::WORKER;
use keepsake_tests::requires;
use keepsake_tests::stack::{Stack, StackSettings};
use serde_json::json;
use sqlx::Connection as _;

use crate::object_store::Fault;
use crate::world::{Tenant, own_stack, s3_stack, start_stack};

/// Ends the worker's connections, and tells how many there were.
async fn cut(stack: &Stack) -> Result<i64> {
    let mut database = stack.postgres.connect().await?;
    let cut = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1",
    )
    .bind(WORKER)
    .fetch_one(&mut database)
    .await?;
    database.close().await?;
    Ok(cut)
}

#[tokio::test]
async fn a_lent_connection_tells_nobody_of_whom_it_served_before() -> Result<()> {
    let settings = StackSettings {
        pool: Some(1),
        ..StackSettings::default()
    };
    let stack = start_stack(settings).await?;
    let (one, other) = (Tenant::new(&stack).await?, Tenant::new(&stack).await?);
    let files = [(&one, PNG), (&other, TEXT)];
    for (tenant, file) in &files {
        tenant.upload(&[*file]).await?;
    }

    stream::iter(files.iter().cycle().take(40))
        .map(async |(tenant, file)| {
            let listed = tenant.api.get("/v1/attachments").await?;
            let names: Vec<String> = listed.json_if(200)?["items"]
                .as_array()
                .context("no items")?
                .iter()
                .map(|item| item["name"].as_str().unwrap_or_default().to_owned())
                .collect();
            assert_eq!(names, [file.name]);
            anyhow::Ok(())
        })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;

    // The pool finds a new one.
    assert_eq!(cut(&stack).await?, 1);
    assert_eq!(one.visible().await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn a_connection_lost_between_two_calls_of_a_request_is_opened_again() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.store(&[PNG]).await?;
    store.trap("HEAD", "", Fault::Slow(Duration::from_secs(3)), 1);
    let (completed, cut) = tokio::join!(tenant.complete(&upload), async {
        // The set has been looked up, and its object is looked at.
        store.sprung().await?;
        cut(&stack).await
    });
    assert_eq!(cut?, 1, "the request has one connection");
    completed?.json_if(200)?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

/// The worker opens a connection while it still looks at the request, and may not need it after all.
#[tokio::test]
async fn a_refused_request_leaves_no_connection_behind() -> Result<()> {
    requires!(WORKER);
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    tenant.upload(&[PNG]).await?;
    let nothing = tenant.request(json!([]));
    stream::iter(0..40)
        .map(async |_| {
            let refused = tenant.api.post("/v1/uploads", &nothing).await?;
            refused.expect(422)?;
            tenant.api.get("/v1/attachments?limit=0").await?.expect(400)
        })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;

    let mut database = stack.postgres.connect().await?;
    let mut open = i64::MAX;
    for _ in 0..50 {
        open = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = $1")
            .bind(WORKER)
            .fetch_one(&mut database)
            .await?;
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(open, 0, "connections of requests that have their answer");
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}
