//! The scan gate: shut until found clean, and then together.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepsake_shared::{KeyRing, Sha256Digest};
use keepsake_tests::api::{Api, Reply, text};
use keepsake_tests::fixtures::{PNG, TEXT};
use keepsake_tests::secrets::hex;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::unix_now;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::world::{Tenant, attachment_path, id, object_exists, shared_stack, upload_path};

const KEYS: &str = "scanner:c2NhbnNjYW5zY2Fuc2NhbnNjYW5zY2Fuc2NhbnNjYW4=";

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// A tenant whose files are scanned, on a stack that takes verdicts.
async fn scanned_tenant() -> Result<Tenant<'static>> {
    let stack = STACK
        .get_or_try_init(async || {
            let vars = vec![("SCAN_KEYS".to_owned(), KEYS.to_owned())];
            let settings = StackSettings {
                vars,
                ..StackSettings::default()
            };
            Stack::start(settings, |_| ()).await
        })
        .await?;
    let tenant = Tenant::new(stack).await?;
    sqlx::query("INSERT INTO attachments.scan_policy VALUES ($1, true)")
        .bind(&tenant.name)
        .execute(&mut tenant.database().await?)
        .await?;
    Ok(tenant)
}

async fn send(api: &Api, body: &str, timestamp: u64, signature: &str) -> Result<Reply> {
    let timestamp = timestamp.to_string();
    let headers = [
        ("content-type", "application/json"),
        ("keepsake-timestamp", timestamp.as_str()),
        ("keepsake-signature", signature),
    ];
    let body = Some(body.as_bytes().to_vec());
    api.send(Method::POST, "/v1/scan-results", &headers, body)
        .await
}

fn sign(body: &str, timestamp: u64) -> Result<String> {
    let keys: KeyRing = KEYS.parse()?;
    let signed = format!("keepsake scan result, version 1\n{timestamp}\n{body}");
    let mac = keys.signing_key().sign(&[signed.as_bytes()]);
    Ok(format!("scanner.{}", hex(&mac)))
}

/// Tells what a scanner found, as it would. `second` tells one message from another.
async fn tell(tenant: &Tenant<'_>, key: &str, verdict: &str, second: u64) -> Result<Reply> {
    let body = json!({ "object_key": key, "verdict": verdict }).to_string();
    let timestamp = unix_now() - second;
    let api = tenant.api.with_bearer(None);
    send(&api, &body, timestamp, &sign(&body, timestamp)?).await
}

async fn complete(tenant: &Tenant<'_>, upload: &Value) -> Result<Vec<Value>> {
    let done = tenant.complete(upload).await?.json_if(200)?;
    assert_eq!(done["state"], "scanning");
    Ok(done["attachments"]
        .as_array()
        .context("no attachments")?
        .clone())
}

#[tokio::test]
async fn a_set_opens_whole_when_its_last_file_is_found_clean() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let attachments = complete(&tenant, &upload).await?;
    let keys = tenant.object_keys().await?;
    for attachment in &attachments {
        assert_eq!(attachment["state"], "scanning");
        let path = attachment_path(attachment)?;
        for path in [&path, &format!("{path}/content")] {
            tenant
                .api
                .get(path)
                .await?
                .expect_problem(409, "file_scanning")?;
        }
    }
    let status = tenant.api.get(&upload_path(&upload)?).await?.json_if(200)?;
    assert_eq!(status["state"], "scanning");
    tenant
        .api
        .delete(&upload_path(&upload)?)
        .await?
        .expect_problem(409, "upload_closed")?;

    tell(&tenant, &keys[0], "clean", 0).await?.expect(204)?;
    assert!(tenant.visible().await?.is_empty(), "half a set is visible");
    for (second, verdict) in ["unsupported", "access_denied", "failed"]
        .iter()
        .enumerate()
    {
        tell(&tenant, &keys[1], verdict, second as u64)
            .await?
            .expect(204)?;
        assert!(tenant.visible().await?.is_empty(), "{verdict} opened it");
    }
    tell(&tenant, &keys[1], "clean", 0).await?.expect(204)?;
    assert_eq!(tenant.visible().await?, [PNG.name, TEXT.name]);
    let file = tenant.api.download(id(&attachments[0])?).await?;
    assert_eq!(file.body, PNG.bytes);
    let again = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(again["state"], "completed");
    Ok(())
}

#[tokio::test]
async fn malware_rejects_its_set_and_is_never_signed() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let attachments = complete(&tenant, &upload).await?;
    let keys = tenant.object_keys().await?;
    tell(&tenant, &keys[1], "clean", 0).await?.expect(204)?;
    tell(&tenant, &keys[0], "infected", 0).await?.expect(204)?;
    // Nothing opens it any more.
    tell(&tenant, &keys[0], "clean", 0).await?.expect(204)?;

    assert!(tenant.visible().await?.is_empty());
    let content = format!("{}/content", attachment_path(&attachments[0])?);
    tenant
        .api
        .get(&content)
        .await?
        .expect_problem(403, "file_quarantined")?;
    let rejected = tenant.complete(&upload).await?;
    let problem = rejected.expect_problem(422, "upload_rejected")?;
    assert_eq!(problem["errors"][0]["code"], "file_quarantined");
    let stranger = Tenant::new(tenant.stack).await?;
    stranger
        .api
        .get(&content)
        .await?
        .expect_problem(404, "not_found")?;
    // The malware is kept for who looks into it; the clean file beside it goes.
    assert_eq!(tenant.object_keys().await?, keys[..1]);
    assert!(object_exists(tenant.stack, &keys[0]).await?);
    Ok(())
}

#[tokio::test]
async fn what_was_open_shuts_when_malware_is_found_later() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    let attachments = complete(&tenant, &upload).await?;
    let key = tenant.object_keys().await?.remove(0);
    tell(&tenant, &key, "clean", 0).await?.expect(204)?;
    assert_eq!(tenant.visible().await?, [PNG.name]);
    tell(&tenant, &key, "infected", 0).await?.expect(204)?;
    assert!(tenant.visible().await?.is_empty());
    let content = format!("{}/content", attachment_path(&attachments[0])?);
    tenant
        .api
        .get(&content)
        .await?
        .expect_problem(403, "file_quarantined")?;
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_not_the_scanners_is_refused() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    complete(&tenant, &upload).await?;
    let key = tenant.object_keys().await?.remove(0);
    let body = json!({ "object_key": key, "verdict": "clean" }).to_string();
    let (now, api) = (unix_now(), &tenant.api);
    let good = sign(&body, now)?;
    for (timestamp, signature) in [
        (now, "".to_owned()),
        (now, good.replace("scanner.", "other.")),
        (now, format!("scanner.{}", "0".repeat(64))),
        (now + 1, good.clone()),
        (now - 400, sign(&body, now - 400)?),
        (now + 400, sign(&body, now + 400)?),
        (now, sign(&body.replace("clean", "failed"), now)?),
    ] {
        let refused = send(api, &body, timestamp, &signature).await?;
        refused.expect_problem(401, "signature_invalid")?;
    }
    assert!(tenant.visible().await?.is_empty());

    for (body, code) in [
        (body.replace("clean", "fine"), "invalid_field"),
        (body.replace("t/", "../"), "invalid_field"),
        (
            body.replace('}', ",\"state\":\"available\"}"),
            "unknown_field",
        ),
    ] {
        let refused = send(api, &body, now, &sign(&body, now)?).await?;
        refused.expect_problem(400, code)?;
    }
    let unknown = body.replace(
        &key,
        "t/acme/post/1/0198f7d0-1111-7aaa-8bbb-000000000001.png",
    );
    let refused = send(api, &unknown, now, &sign(&unknown, now)?).await?;
    refused.expect_problem(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn the_same_message_again_does_nothing() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    complete(&tenant, &upload).await?;
    let keys = tenant.object_keys().await?;
    let body = json!({ "object_key": keys[0], "verdict": "clean" }).to_string();
    let now = unix_now();
    let signature = sign(&body, now)?;
    for _ in 0..2 {
        send(&tenant.api, &body, now, &signature)
            .await?
            .expect(204)?;
    }
    tell(&tenant, &keys[0], "failed", 0).await?.expect(204)?;
    // The verdict that was overtaken does not come back.
    send(&tenant.api, &body, now, &signature)
        .await?
        .expect(204)?;
    // However it is spelt.
    let (key, mac) = signature.split_once('.').context("no signature")?;
    let in_base64 = STANDARD.encode(mac.parse::<Sha256Digest>()?.as_bytes());
    for spelling in [mac.to_uppercase(), in_base64] {
        let again = send(&tenant.api, &body, now, &format!("{key}.{spelling}")).await?;
        assert!(matches!(again.status, 204 | 401), "{}", again.status);
    }
    tell(&tenant, &keys[1], "clean", 0).await?.expect(204)?;
    assert!(tenant.visible().await?.is_empty());
    let waiting: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM attachments.scan_queue WHERE object_key = ANY ($1)",
    )
    .bind(&keys)
    .fetch_one(&mut tenant.database().await?)
    .await?;
    assert_eq!(waiting, 1);
    Ok(())
}

#[tokio::test]
async fn a_name_that_was_taken_during_the_scan_rejects_the_set() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let (one, other) = (tenant.store(&[PNG]).await?, tenant.store(&[PNG]).await?);
    complete(&tenant, &one).await?;
    complete(&tenant, &other).await?;
    let keys = tenant.object_keys().await?;
    for key in &keys {
        tell(&tenant, key, "clean", 0).await?.expect(204)?;
    }
    assert_eq!(tenant.visible().await?, [PNG.name]);
    let problem = tenant
        .complete(&other)
        .await?
        .expect_problem(422, "upload_rejected")?;
    assert_eq!(problem["errors"][0]["code"], "name_taken");
    assert_eq!(text(&problem, "/errors/0/pointer")?, "/files/0");
    Ok(())
}

#[tokio::test]
async fn without_a_scanners_key_there_is_no_such_place() -> Result<()> {
    let tenant = Tenant::new(shared_stack().await?).await?;
    tell(
        &tenant,
        "t/a/post/1/0198f7d0-1111-7aaa-8bbb-000000000001.png",
        "clean",
        0,
    )
    .await?
    .expect_problem(404, "not_found")?;
    Ok(())
}
