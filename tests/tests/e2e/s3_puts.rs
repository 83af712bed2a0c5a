//! A signed PUT to an S3 store stores exactly what was declared: every lock is inside the signature,
//! and the store, a real one, verifies it.

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::{sha256_base64, text};
use keepsake_tests::cors::Cors;
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::requires;
use reqwest::Method;
use serde_json::{Value, json};

use crate::object_store::ObjectStore;
use crate::world::{Tenant, attachment_path, id, s3_stack, shared_s3_stack, upload_path};

/// The one file of a new upload of `PNG` on the shared S3 stack, and its key.
struct Declared {
    tenant: Tenant<'static>,
    store: &'static ObjectStore,
    upload: Value,
    key: String,
}

impl Declared {
    async fn new() -> Result<Self> {
        let (stack, store) = shared_s3_stack().await?;
        let tenant = Tenant::new(stack).await?;
        let upload = tenant.declare(&[PNG]).await?;
        let key = tenant.object_keys().await?.pop().context("no object key")?;
        Ok(Self {
            tenant,
            store,
            upload,
            key,
        })
    }

    fn file(&self) -> &Value {
        &self.upload["files"][0]
    }

    /// Sends bytes with these headers, and nothing is stored.
    async fn refused(&self, file: &Value, bytes: &[u8], status: u16) -> Result<()> {
        let reply = self.tenant.api.put(file, bytes).await?;
        reply.expect(status)?;
        assert!(!self.store.holds(&self.key), "stored all the same");
        Ok(())
    }
}

#[tokio::test]
async fn the_honest_request_is_stored_and_completes() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let url = text(declared.file(), "/url")?;
    for header in ["content-length", "content-type", "host", "if-none-match"] {
        assert!(url.contains(header), "{header} is not signed: {url}");
    }
    declared.tenant.put(declared.file(), PNG).await?;
    assert_eq!(
        std::fs::read(declared.store.path(&declared.key))?,
        PNG.bytes
    );
    let done = declared
        .tenant
        .complete(&declared.upload)
        .await?
        .json_if(200)?;
    let attachment = &done["attachments"][0];
    let download = declared.tenant.api.download(id(attachment)?).await?;
    assert_eq!(download.body, PNG.bytes);
    let disposition = download
        .header("content-disposition")
        .context("no disposition")?;
    assert!(disposition.starts_with("attachment;"), "{disposition}");
    Ok(())
}

#[tokio::test]
async fn the_documented_cors_lets_pages_send_what_is_signed_and_no_other_page() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let ours = "https://app.example.com";
    declared.store.admit(Cors::documented(ours)?);
    let url = text(declared.file(), "/url")?;
    let signed = declared.file()["headers"]
        .as_object()
        .context("no headers")?;
    let names: Vec<&str> = signed.keys().map(String::as_str).collect();
    let names = names.join(",");
    for (origin, headers, status) in [
        (ours, names.as_str(), 200),
        ("https://evil.example.com", names.as_str(), 403),
        (ours, "x-amz-acl", 403),
    ] {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", headers),
        ];
        let api = declared.tenant.api.with_bearer(None);
        let preflight = api.send(Method::OPTIONS, url, &asked, None).await?;
        preflight.expect(status)?;
        let allowed = preflight.header("access-control-allow-origin");
        assert_eq!(allowed, (status == 200).then_some(ours), "{origin}");
    }
    declared.tenant.put(declared.file(), PNG).await
}

#[tokio::test]
async fn each_signed_header_is_refused_changed_and_dropped() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (name, value) in [
        ("content-type", "text/html"),
        ("if-none-match", "\"x\""),
        ("x-amz-checksum-sha256", zeros),
    ] {
        let mut changed = declared.file().clone();
        assert!(changed["headers"][name].is_string(), "{name} is no lock");
        changed["headers"][name] = json!(value);
        declared
            .refused(&changed, PNG.bytes, 403)
            .await
            .context(name)?;
        changed["headers"]
            .as_object_mut()
            .context("no headers")?
            .remove(name);
        declared
            .refused(&changed, PNG.bytes, 403)
            .await
            .context(name)?;
    }
    // What was not signed is refused as well, where it would change what is stored.
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("x-amz-meta-note", "x"),
        ("x-amz-website-redirect-location", "https://example.com/"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
    ] {
        let mut added = declared.file().clone();
        added["headers"][name] = json!(value);
        declared
            .refused(&added, PNG.bytes, 403)
            .await
            .context(name)?;
    }
    // The length is the fourth.
    let longer = [PNG.bytes, b"x"].concat();
    for bytes in [&PNG.bytes[1..], &longer] {
        declared.refused(declared.file(), bytes, 403).await?;
    }
    declared.tenant.put(declared.file(), PNG).await
}

#[tokio::test]
async fn other_bytes_of_the_same_length_are_refused_by_their_digest() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let mut other = PNG.bytes.to_vec();
    other.reverse();
    declared.refused(declared.file(), &other, 400).await?;
    declared.tenant.put(declared.file(), PNG).await
}

#[tokio::test]
async fn the_url_is_for_this_request_alone() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let url = text(declared.file(), "/url")?;
    let (place, query) = url.split_once('?').context("no query")?;
    let day = query
        .split('&')
        .find(|parameter| parameter.starts_with("X-Amz-Expires="))
        .context("no expiry")?;
    for other in [
        format!("{place}x?{query}"),
        format!("{place}?{}", query.replace(day, "X-Amz-Expires=604800")),
        format!("{place}?{query}&partNumber=1&uploadId=x"),
        format!("{place}?{query}0"),
        place.to_owned(),
    ] {
        let mut changed = declared.file().clone();
        changed["url"] = json!(other);
        let reply = declared.tenant.api.put(&changed, PNG.bytes).await?;
        assert!(matches!(reply.status, 400 | 403), "{other}: {reply:?}");
        assert!(!declared.store.holds(&declared.key), "stored by {other}");
    }
    for method in [Method::GET, Method::DELETE] {
        let reply = declared.tenant.api.send(method, url, &[], None).await?;
        reply.expect(403)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_put_is_refused_and_the_first_stays() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    declared.tenant.put(declared.file(), PNG).await?;
    let again = declared.tenant.api.put(declared.file(), PNG.bytes).await?;
    again.expect(412)?;
    assert_eq!(
        std::fs::read(declared.store.path(&declared.key))?,
        PNG.bytes
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_yet_can_still_come() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let early = declared.tenant.complete(&declared.upload).await?;
    early.expect_problem(409, "not_uploaded")?;
    declared.tenant.put(declared.file(), PNG).await?;
    declared
        .tenant
        .complete(&declared.upload)
        .await?
        .json_if(200)?;
    Ok(())
}

#[tokio::test]
async fn other_bytes_behind_the_stores_back_are_found_and_go() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let path = declared.store.path(&declared.key);
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    std::fs::write(&path, PDF.bytes)?;
    let refused = declared.tenant.complete(&declared.upload).await?;
    refused.expect_problem(422, "upload_rejected")?;
    assert!(
        !declared.store.holds(&declared.key),
        "the wrong bytes stayed"
    );
    assert!(declared.tenant.visible().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_store_that_tells_no_digest_is_read_instead() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    let path = declared.store.path(&declared.key);
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    // Written past the store, so that it knows no checksum.
    std::fs::write(&path, PNG.bytes)?;
    let place = format!("/v1/uploads/{}", id(&declared.upload)?);
    let status = declared.tenant.api.get(&place).await?.json_if(200)?;
    assert_eq!(status["files"][0]["seen"]["size"], PNG.bytes.len());
    assert_eq!(status["files"][0]["problems"], json!([]));
    declared
        .tenant
        .complete(&declared.upload)
        .await?
        .json_if(200)?;

    // The same length and the same first bytes, but for the last.
    let declared = Declared::new().await?;
    let path = declared.store.path(&declared.key);
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    let mut altered = PNG.bytes.to_vec();
    *altered.last_mut().context("empty")? ^= 1;
    std::fs::write(&path, altered)?;
    let refused = declared.tenant.complete(&declared.upload).await?;
    let problem = refused.expect_problem(422, "upload_rejected")?;
    assert_eq!(problem["errors"][0]["code"], "sha256_mismatch");
    assert!(
        !declared.store.holds(&declared.key),
        "the wrong bytes stayed"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_stored_with_an_encoding_is_not_what_was_declared() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    // S3 takes headers that are not signed and not its own.
    let mut encoded = declared.file().clone();
    encoded["headers"]["content-encoding"] = json!("gzip");
    declared.tenant.put(&encoded, PNG).await?;
    let refused = declared.tenant.complete(&declared.upload).await?;
    let problem = refused.expect_problem(422, "upload_rejected")?;
    assert_eq!(problem["errors"][0]["code"], "content_encoded");
    assert!(!declared.store.holds(&declared.key), "it stayed");
    Ok(())
}

#[tokio::test]
async fn a_given_up_upload_leaves_nothing() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    declared.tenant.put(declared.file(), PNG).await?;
    let place = format!("/v1/uploads/{}", id(&declared.upload)?);
    declared.tenant.api.delete(&place).await?.expect(204)?;
    for _ in 0..100 {
        if !declared.store.holds(&declared.key) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the object of a given up upload stayed")
}

#[tokio::test]
async fn the_worker_serves_no_objects_that_are_elsewhere() -> Result<()> {
    requires!(S3);
    let declared = Declared::new().await?;
    for method in [Method::GET, Method::PUT] {
        let reply = declared
            .tenant
            .api
            .send(method, "/v1/objects/x", &[], None)
            .await?;
        assert!(matches!(reply.status, 403 | 404), "{}", reply.status);
    }
    Ok(())
}

#[tokio::test]
async fn a_download_url_is_for_one_file_under_its_name() -> Result<()> {
    requires!(S3);
    let (stack, _) = shared_s3_stack().await?;
    let tenant = Tenant::new(stack).await?;
    let attachment = tenant.upload_one(TEXT).await?;
    let url = tenant.api.content_url(id(&attachment)?).await?;
    tenant.api.get(&url).await?.expect(200)?;
    let other = url.replace("attachment%3B", "inline%3B");
    assert_ne!(other, url);
    tenant.api.get(&other).await?.expect(403)?;
    let part = tenant.api.get_with(&url, &[("range", "bytes=1-3")]).await?;
    part.expect(206)?;
    assert_eq!(part.body, &TEXT.bytes[1..4]);

    tenant.delete_attachment(&attachment).await?.expect(204)?;
    let content = format!("{}/content", attachment_path(&attachment)?);
    tenant
        .api
        .get(&content)
        .await?
        .expect_problem(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn a_url_that_can_replace_bytes_works_for_a_short_time() -> Result<()> {
    requires!(S3);
    let (stack, _store) = s3_stack(&[("S3_KIND", "other")]).await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.declare(&[PNG]).await?;
    let url: reqwest::Url = text(&upload, "/files/0/url")?.parse()?;
    let seconds = url.query_pairs().find(|(name, _)| name == "X-Amz-Expires");
    let seconds: u32 = seconds.context("no lifetime")?.1.parse()?;
    ensure!((1..=300).contains(&seconds), "it works for {seconds} s");
    // The upload itself has its time.
    ensure!(text(&upload, "/expires_at")? > text(&upload, "/files/0/expires_at")?);
    Ok(())
}

#[tokio::test]
async fn a_url_of_a_part_replaces_nothing_once_the_file_is_complete() -> Result<()> {
    requires!(S3);
    let in_parts = [("S3_KIND", "other"), ("MULTIPART_THRESHOLD_BYTES", "1")];
    let (stack, _store) = s3_stack(&in_parts).await?;
    let tenant = Tenant::new(&stack).await?;
    let upload = tenant.declare(&[PNG]).await?;
    let wanted = json!({
        "attachment_id": text(&upload, "/files/0/attachment_id")?,
        "parts": [{ "number": 1, "checksum": sha256_base64(PNG.bytes) }],
    });
    let parts = format!("{}/parts", upload_path(&upload)?);
    let signed = tenant.api.post(&parts, &wanted).await?.json_if(200)?;
    let part = &signed["parts"][0];
    tenant.api.put(part, PNG.bytes).await?.expect_stored()?;
    let done = tenant.complete(&upload).await?.json_if(200)?;

    let mut other = PNG.bytes.to_vec();
    other.reverse();
    // Whatever the store answers.
    tenant.api.put(part, &other).await?;
    let kept = tenant.api.download(id(&done["attachments"][0])?).await?;
    ensure!(kept.body == PNG.bytes, "it was replaced");
    Ok(())
}
