//! The scan gate: shut until found clean, and then together.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepsake_shared::{KeyRing, Sha256Digest};
use keepsake_tests::api::{Api, Reply, text};
use keepsake_tests::fixtures::{Fixture, PNG, TEXT};
use keepsake_tests::secrets::hex;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{self, unix_now};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::versions::{bytes_of, declare_if, history, note, numbers, store};
use crate::world::{
    Tenant, attachment_path, deletion_id, id, items, names, object_exists, run_schedule,
    shared_stack, start_stack, upload_path,
};

/// The key of the scanner, as a setting.
pub const KEYS: &str = "scanner:c2NhbnNjYW5zY2Fuc2NhbnNjYW5zY2Fuc2NhbnNjYW4=";

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
            start_stack(settings).await
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
    tell_to(&tenant.api.with_bearer(None), key, verdict, second).await
}

/// [`tell`], to this worker.
pub async fn tell_to(api: &Api, key: &str, verdict: &str, second: u64) -> Result<Reply> {
    let body = json!({ "object_key": key, "verdict": verdict }).to_string();
    let timestamp = unix_now() - second;
    send(api, &body, timestamp, &sign(&body, timestamp)?).await
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

/// The names that the listings of a state hold: of the post, and of the tenant where that has it.
async fn listed(tenant: &Tenant<'_>, state: &str) -> Result<Vec<String>> {
    let of_post = format!("{}/attachments?state={state}", tenant.post_path());
    let page = tenant.api.get(&of_post).await?.json_if(200)?;
    let found: Vec<String> = names(items(&page)).into_iter().map(str::to_owned).collect();
    let of_tenant = format!("/v1/attachments?state={state}");
    let reply = tenant.api.get(&of_tenant).await?;
    if state == "live" {
        reply.expect_problem(400, "invalid_field")?;
    } else {
        assert_eq!(names(items(&reply.json_if(200)?)), found, "{state}");
    }
    Ok(found)
}

#[tokio::test]
async fn what_is_shut_is_listed_as_what_it_is() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    assert!(listed(&tenant, "scanning").await?.is_empty());
    let attachments = complete(&tenant, &upload).await?;
    let keys = tenant.object_keys().await?;
    let both = [PNG.name, TEXT.name];
    assert_eq!(listed(&tenant, "scanning").await?, both);
    assert_eq!(listed(&tenant, "live").await?, both);
    for state in ["available", "quarantined", "deleted"] {
        assert!(listed(&tenant, state).await?.is_empty(), "{state}");
    }

    // Whoever may read the post sees them; another tenant does not, and neither a wrong cursor.
    let mut claims = token::claims(&tenant.name, "bob");
    claims["scope"] = json!("attachments:read");
    let bearer = token::mint(&claims, &tenant.stack.secrets.jwt_key);
    let reader = tenant.api.with_bearer(Some(&bearer));
    let page = reader.get("/v1/attachments?state=scanning&limit=1").await?;
    let page = page.json_if(200)?;
    assert_eq!(items(&page)[0]["state"], "scanning");
    let cursor = text(&page, "/next_cursor")?;
    let next = format!("/v1/attachments?state=scanning&limit=1&cursor={cursor}");
    let next = reader.get(&next).await?.json_if(200)?;
    assert_eq!(items(&next).len(), 1);
    assert_ne!(items(&next)[0]["id"], items(&page)[0]["id"]);
    for state in ["available", "quarantined"] {
        let other = format!("/v1/attachments?state={state}&cursor={cursor}");
        reader
            .get(&other)
            .await?
            .expect_problem(400, "invalid_field")?;
    }
    let stranger = Tenant::new(tenant.stack).await?;
    let foreign = format!("{}/attachments?state=live", tenant.post_path());
    stranger
        .api
        .get(&foreign)
        .await?
        .expect_problem(404, "not_found")?;
    assert!(listed(&stranger, "scanning").await?.is_empty());

    // Listed is not signed.
    let content = format!("{}/content", attachment_path(&attachments[0])?);
    let refused = reader.get(&content).await?;
    refused.expect_problem(409, "file_scanning")?;
    tell(&tenant, &keys[0], "infected", 0).await?.expect(204)?;
    assert_eq!(listed(&tenant, "quarantined").await?, [PNG.name]);
    assert_eq!(listed(&tenant, "live").await?, [PNG.name]);
    assert!(listed(&tenant, "scanning").await?.is_empty());
    let refused = reader.get(&content).await?;
    refused.expect_problem(403, "file_quarantined")?;

    // What was deleted with its post is listed with nothing that is live.
    tenant.delete_post().await?.expect(204)?;
    let gone = tenant.api.get("/v1/attachments?state=quarantined").await?;
    let gone = gone.json_if(200)?;
    assert!(items(&gone).is_empty());
    tenant.restore_post().await?.json_if(200)?;
    assert_eq!(listed(&tenant, "quarantined").await?, [PNG.name]);
    Ok(())
}

#[tokio::test]
async fn what_is_open_and_what_is_shut_stand_in_one_listing() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let open = tenant.store(&[TEXT]).await?;
    complete(&tenant, &open).await?;
    let key = tenant.object_keys().await?.remove(0);
    tell(&tenant, &key, "clean", 0).await?.expect(204)?;
    let shut = tenant.store(&[PNG]).await?;
    complete(&tenant, &shut).await?;
    let whole = format!("{}/attachments?state=live", tenant.post_path());
    let page = tenant
        .api
        .get(&format!("{whole}&limit=1"))
        .await?
        .json_if(200)?;
    assert_eq!(items(&page)[0]["name"], PNG.name);
    assert_eq!(items(&page)[0]["state"], "scanning");
    let cursor = text(&page, "/next_cursor")?;
    let next = tenant.api.get(&format!("{whole}&cursor={cursor}")).await?;
    let next = next.json_if(200)?;
    assert_eq!(names(items(&next)), [TEXT.name]);
    assert_eq!(items(&next)[0]["state"], "available");
    assert_eq!(tenant.visible().await?, [TEXT.name]);
    Ok(())
}

#[tokio::test]
async fn what_is_in_quarantine_is_deleted_and_stays_shut_when_it_is_back() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[PNG]).await?;
    let attachments = complete(&tenant, &upload).await?;
    let key = tenant.object_keys().await?.remove(0);
    // What is still being scanned is nobody's to delete: its set is not whole without it.
    let refused = tenant.delete_attachment(&attachments[0]).await?;
    refused.expect_problem(404, "not_found")?;
    tell(&tenant, &key, "infected", 0).await?.expect(204)?;
    let stranger = Tenant::new(tenant.stack).await?;
    let refused = stranger.delete_attachment(&attachments[0]).await?;
    refused.expect_problem(404, "not_found")?;

    let deleted = tenant.delete_attachment(&attachments[0]).await?;
    deleted.expect(204)?;
    assert!(listed(&tenant, "quarantined").await?.is_empty());
    assert!(listed(&tenant, "deleted").await?.is_empty());
    let deletion = deletion_id(&deleted)?;
    let bin = tenant.api.get("/v1/deletions").await?.json_if(200)?;
    assert_eq!(items(&bin)[0]["id"], deletion);
    assert_eq!(items(&bin)[0]["root"]["label"], PNG.name);
    assert_eq!(items(&bin)[0]["counts"]["attachments"], 1);
    let details = tenant.api.get(&format!("/v1/deletions/{deletion}")).await?;
    assert_eq!(details.json_if(200)?["tree"][0]["label"], PNG.name);
    let content = format!("{}/content", attachment_path(&attachments[0])?);
    let refused = tenant.api.get(&content).await?;
    refused.expect_problem(404, "not_found")?;

    let path = attachment_path(&attachments[0])?;
    tenant.api.restore(&path).await?.json_if(200)?;
    assert_eq!(listed(&tenant, "quarantined").await?, [PNG.name]);
    assert!(tenant.visible().await?.is_empty());
    let refused = tenant.api.get(&content).await?;
    refused.expect_problem(403, "file_quarantined")?;

    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    tenant.let_retention_run_out().await?;
    run_schedule(tenant.stack).await?;
    assert_eq!(tenant.rows().await?, 0);
    assert!(!object_exists(tenant.stack, &key).await?);
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

/// What is stored of a tenant's newest content.
async fn newest_key(tenant: &Tenant<'_>) -> Result<String> {
    let keys = tenant.object_keys().await?;
    // The id in a key is that of its declaration.
    keys.into_iter().max().context("no object")
}

#[tokio::test]
async fn a_new_version_waits_for_the_scanner_and_the_old_one_stays_open() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[note(1)]).await?;
    let attachment = complete(&tenant, &upload).await?.remove(0);
    let refused = declare_if(&tenant.api, &attachment, note(2), &[]).await?;
    refused.expect_problem(409, "file_scanning")?;
    tell(&tenant, &newest_key(&tenant).await?, "clean", 0)
        .await?
        .expect(204)?;

    let second = store(&tenant.api, &attachment, note(2)).await?;
    complete(&tenant, &second).await?;
    let open = async |bytes: Fixture, versions: &[i64]| -> Result<()> {
        assert_eq!(numbers(&tenant.api, &attachment).await?, versions);
        let body = tenant.api.download(id(&attachment)?).await?.body;
        assert_eq!(body, bytes.bytes);
        assert_eq!(listed(&tenant, "available").await?, [bytes.name]);
        Ok(())
    };
    open(note(1), &[1]).await?;
    // It is no attachment of its own while it waits.
    assert!(listed(&tenant, "scanning").await?.is_empty());
    assert_eq!(listed(&tenant, "live").await?, ["note.txt"]);
    let clean = newest_key(&tenant).await?;
    tell(&tenant, &clean, "clean", 1).await?.expect(204)?;
    open(note(2), &[2, 1]).await?;
    assert_eq!(
        tenant.complete(&second).await?.json_if(200)?["state"],
        "completed"
    );

    // Malware in a new version rejects it alone.
    let third = store(&tenant.api, &attachment, note(3)).await?;
    complete(&tenant, &third).await?;
    tell(&tenant, &newest_key(&tenant).await?, "infected", 2)
        .await?
        .expect(204)?;
    open(note(2), &[2, 1]).await?;
    tenant
        .complete(&third)
        .await?
        .expect_problem(422, "upload_rejected")?;
    assert_eq!(tenant.rows().await?, 2);
    assert!(listed(&tenant, "quarantined").await?.is_empty());

    // Of two that wait, the first that is found clean wins.
    let (fourth, fifth) = (
        store(&tenant.api, &attachment, note(4)).await?,
        store(&tenant.api, &attachment, note(5)).await?,
    );
    complete(&tenant, &fourth).await?;
    let key = newest_key(&tenant).await?;
    complete(&tenant, &fifth).await?;
    tell(&tenant, &key, "clean", 3).await?.expect(204)?;
    open(note(5), &[3, 2, 1]).await?;
    let keys = tenant.object_keys().await?;
    let waits = "SELECT object_key FROM attachments.scan_queue WHERE object_key = ANY ($1)";
    let left: String = sqlx::query_scalar(waits)
        .bind(keys)
        .fetch_one(&mut tenant.database().await?)
        .await?;
    tell(&tenant, &left, "clean", 4).await?.expect(204)?;
    open(note(5), &[3, 2, 1]).await?;
    let status = tenant.api.get(&upload_path(&fourth)?).await?.json_if(200)?;
    assert_eq!(status["state"], "rejected");
    assert_eq!(
        status["files"][0]["problems"][0]["code"],
        "version_conflict"
    );
    Ok(())
}

#[tokio::test]
async fn malware_in_a_former_version_shuts_that_one() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let upload = tenant.store(&[note(1)]).await?;
    let attachment = complete(&tenant, &upload).await?.remove(0);
    let first = newest_key(&tenant).await?;
    tell(&tenant, &first, "clean", 0).await?.expect(204)?;
    complete(&tenant, &store(&tenant.api, &attachment, note(2)).await?).await?;
    let second = newest_key(&tenant).await?;
    tell(&tenant, &second, "clean", 1).await?.expect(204)?;
    for verdict in ["infected", "clean"] {
        tell(&tenant, &first, verdict, 2).await?.expect(204)?;
        let versions = history(&tenant.api, &attachment).await?;
        assert_eq!(
            (&versions[0]["state"], &versions[1]["state"]),
            (&json!("available"), &json!("quarantined"))
        );
        let version = format!("{}/versions/1", attachment_path(&attachment)?);
        let refused = tenant.api.get(&format!("{version}/content")).await?;
        refused.expect_problem(403, "file_quarantined")?;
        tenant
            .api
            .restore(&version)
            .await?
            .expect_problem(403, "file_quarantined")?;
        assert_eq!(bytes_of(&tenant.api, &attachment, 2).await?, note(2).bytes);
    }
    // In the current one it shuts the attachment, also for a version on its way.
    let third = store(&tenant.api, &attachment, note(3)).await?;
    tell(&tenant, &second, "infected", 3).await?.expect(204)?;
    assert_eq!(listed(&tenant, "quarantined").await?, ["note.txt"]);
    for path in ["/versions", "/versions/2/content", "/content"] {
        let path = format!("{}{path}", attachment_path(&attachment)?);
        tenant
            .api
            .get(&path)
            .await?
            .expect_problem(403, "file_quarantined")?;
    }
    let refused = tenant.complete(&third).await?.json_if(200)?;
    assert_eq!(refused["state"], "scanning");
    tell(&tenant, &newest_key(&tenant).await?, "clean", 4)
        .await?
        .expect(204)?;
    assert_eq!(tenant.rows().await?, 2);
    assert_eq!(listed(&tenant, "quarantined").await?, ["note.txt"]);
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

#[tokio::test]
async fn a_file_that_is_stored_at_once_is_shut_until_found_clean() -> Result<()> {
    let tenant = scanned_tenant().await?;
    let path = format!("{}/attachments?name=at-once.png", tenant.post_path());
    let key = [("idempotency-key", "scanned")];
    let send = || {
        let body = Some(PNG.bytes.to_vec());
        tenant.api.send(Method::POST, &path, &key, body)
    };
    let stored = send().await?.json_if(201)?;
    assert_eq!(stored["state"], "scanning");
    assert!(tenant.visible().await?.is_empty());
    assert_eq!(send().await?.json_if(201)?, stored, "repeated");
    let attachment = text(&stored, "/attachments/0/id")?;
    let content = format!("/v1/attachments/{attachment}/content");
    tenant
        .api
        .get(&content)
        .await?
        .expect_problem(409, "file_scanning")?;

    let keys = tenant.object_keys().await?;
    tell(&tenant, &keys[0], "clean", 0).await?.expect(204)?;
    assert_eq!(tenant.visible().await?, ["at-once.png"]);
    assert_eq!(send().await?.json_if(201)?["state"], "completed");
    Ok(())
}
