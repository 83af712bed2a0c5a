//! What R2 tells of its objects completes an upload whose client has gone. The messages are put into the
//! queue by hand, in R2's form: on one machine R2 tells nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keepsake_tests::api::text;
use keepsake_tests::fixtures::{JPEG, PDF, PNG, TEXT};
use keepsake_tests::requires;
use serde_json::{Value, json};

use crate::world::{Tenant, own_stack, upload_path};

/// Longer than a batch waits, and than a message that is retried.
const PATIENCE: Duration = Duration::from_secs(45);
/// Longer than a batch waits.
const A_BATCH: Duration = Duration::from_secs(8);

/// A message of R2
/// (<https://developers.cloudflare.com/r2/buckets/event-notifications/#message-format>).
fn event(action: &str, key: &str) -> Value {
    json!({
        "account": "0123456789abcdef0123456789abcdef",
        "action": action,
        "bucket": "keepsake",
        "object": { "key": key, "size": 1, "eTag": "0123456789abcdef" },
        "eventTime": "2026-11-21T12:00:00.000Z",
    })
}

async fn state(tenant: &Tenant<'_>, upload: &Value) -> Result<String> {
    let shown = tenant.api.get(&upload_path(upload)?).await?.json_if(200)?;
    Ok(text(&shown, "/state")?.to_owned())
}

async fn becomes(tenant: &Tenant<'_>, upload: &Value, wanted: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let seen = state(tenant, upload).await?;
        if seen == wanted {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "still {seen}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn keys_of(tenant: &Tenant<'_>, upload: &Value) -> Result<Vec<String>> {
    let keys = sqlx::query_scalar(
        "SELECT object_key FROM attachments.attachment WHERE upload_set_id = $1::uuid ORDER BY position",
    )
    .bind(text(upload, "/id")?)
    .fetch_all(&mut tenant.database().await?)
    .await?;
    Ok(keys)
}

#[tokio::test]
async fn the_store_completes_what_its_client_left() -> Result<()> {
    requires!(WORKER);
    let stack = own_stack().await?;
    let store = stack.companion("tests/store-events/wrangler.toml").await?;
    let client = reqwest::Client::new();
    let tell = async |message: Value| -> Result<()> {
        client
            .post(&store.url)
            .header("content-type", "application/json")
            .body(message.to_string())
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    };
    let tenant = Tenant::new(&stack).await?;

    // What is no message of R2's, or of nothing of ours, holds nothing up.
    for message in [json!("x"), json!({ "action": 1 }), event("PutObject", "t")] {
        tell(message).await?;
    }

    // One file of two: nothing is visible before the other is there.
    let pair = tenant.declare(&[PNG, TEXT]).await?;
    let keys = keys_of(&tenant, &pair).await?;
    ensure!(keys.len() == 2, "{keys:?}");
    tenant.put(&pair["files"][0], PNG).await?;
    tell(event("PutObject", &keys[0])).await?;
    tokio::time::sleep(A_BATCH).await;
    ensure!(tenant.visible().await?.is_empty());
    tenant.put(&pair["files"][1], TEXT).await?;
    tell(event("DeleteObject", &keys[1])).await?;
    tokio::time::sleep(A_BATCH).await;
    ensure!(tenant.visible().await?.is_empty());
    tell(event("PutObject", &keys[1])).await?;
    tell(event("PutObject", &keys[1])).await?;
    becomes(&tenant, &pair, "completed").await?;
    ensure!(tenant.visible().await?.len() == 2);
    // The client is there after all.
    tenant.complete(&pair).await?.json_if(200)?;

    // The worker may not ask for a while: the message comes again.
    let single = tenant.store(&[JPEG]).await?;
    let key = keys_of(&tenant, &single).await?.remove(0);
    let revoked =
        "REVOKE EXECUTE ON FUNCTION attachments_api.find_open_upload FROM keepsake_worker";
    sqlx::query(revoked)
        .execute(&mut tenant.database().await?)
        .await?;
    tell(event("PutObject", &key)).await?;
    tokio::time::sleep(A_BATCH).await;
    ensure!(state(&tenant, &single).await? == "pending");
    sqlx::query("GRANT EXECUTE ON FUNCTION attachments_api.find_open_upload TO keepsake_worker")
        .execute(&mut tenant.database().await?)
        .await?;
    becomes(&tenant, &single, "completed").await?;

    // The same messages again, when their files have been deleted or given up, bring nothing back.
    let given_up = tenant.store(&[PDF]).await?;
    let gone = keys_of(&tenant, &given_up).await?.remove(0);
    tenant
        .api
        .delete(&upload_path(&given_up)?)
        .await?
        .expect(204)?;
    tenant.delete_post().await?.expect(204)?;
    for key in [&key, &gone] {
        tell(event("PutObject", key)).await?;
        tell(event("CompleteMultipartUpload", key)).await?;
    }
    tokio::time::sleep(A_BATCH).await;
    ensure!(state(&tenant, &given_up).await? == "aborted");
    tenant.restore_post().await?.json_if(200)?;
    let names = tenant.visible().await?;
    ensure!(names == [JPEG.name, PNG.name, TEXT.name], "{names:?}");
    Ok(())
}
