//! What a browser gets, and what protects it.

use anyhow::{Context, Result};
use keepsake_shared::{KeyRing, ObjectKey, ObjectToken};
use keepsake_tests::api::{Reply, declaration, text};
use keepsake_tests::fixtures::{CSV, Fixture, JPEG, PDF, PNG, TEXT};
use keepsake_tests::requires;
use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;

use crate::world::{Tenant, attachment_path, id, shared_s3_stack, tenant};

async fn signed_url(tenant: &Tenant<'_>, file: Fixture, query: &str) -> Result<String> {
    let attachment = tenant.upload_one(file).await?;
    let path = format!("/v1/attachments/{}/content{query}", id(&attachment)?);
    let reply = tenant.api.get(&path).await?;
    reply.expect(302)?;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    Ok(reply.header("location").context("no Location")?.to_owned())
}

/// What the browser is told to do with a file.
fn disposition_of(reply: &Reply) -> Result<&str> {
    reply
        .header("content-disposition")
        .context("no disposition")
}

#[tokio::test]
async fn a_file_is_saved_not_shown_unless_asked_and_safe() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let reply = tenant.api.get(&signed_url(&tenant, PNG, "").await?).await?;
    let disposition = disposition_of(&reply)?;
    assert!(
        disposition.starts_with("attachment; filename=\"locket.png\""),
        "{disposition}"
    );
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(
        reply.header("content-security-policy"),
        Some("default-src 'none'; sandbox")
    );

    let other = crate::world::tenant().await?;
    let reply = other
        .api
        .get(&signed_url(&other, PNG, "?inline=true").await?)
        .await?;
    let disposition = disposition_of(&reply)?;
    assert!(disposition.starts_with("inline"), "{disposition}");

    let reply = other
        .api
        .get(&signed_url(&other, CSV, "?inline=true").await?)
        .await?;
    let disposition = disposition_of(&reply)?;
    assert!(
        disposition.starts_with("attachment"),
        "a table was shown in place: {disposition}"
    );
    Ok(())
}

const SCRIPT: &[u8] =
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>";

/// Files that are two things at once, or not what their name says.
fn polyglots() -> Vec<Fixture> {
    let behind = |file: Fixture, more: &[u8]| Fixture {
        bytes: [file.bytes, more].concat().leak(),
        ..file
    };
    let named = |name, media_type, bytes| Fixture {
        name,
        media_type,
        bytes,
    };
    vec![
        behind(PNG, SCRIPT),
        behind(JPEG, b"<?php system($_GET['c']); ?>"),
        behind(PDF, SCRIPT),
        // A comment for a script, a picture's head for everybody else.
        named(
            "a.gif",
            "image/gif",
            b"GIF89a/*\x01\x00\x01\x00\x00*/=1;alert(1)//;",
        ),
        named(
            "a.bmp",
            "image/bmp",
            b"BM/*<script>*/=1;alert(document.domain)//",
        ),
        named("a.txt", "text/plain", SCRIPT),
        named(
            "b.txt",
            "text/plain",
            b"<!doctype html><script>alert(1)</script>",
        ),
        named(
            "a.csv",
            "text/csv",
            b"=cmd|' /C calc'!A0,<script>alert(1)</script>",
        ),
        named(
            "a.json",
            "application/json",
            b"{\"a\":\"</script><script>alert(1)</script>\"}",
        ),
        named("a.md", "text/markdown", b"<script>alert(1)</script>"),
        named("a.png", "image/png", SCRIPT),
        named(
            "b.png",
            "image/png",
            b"<html><script>alert(1)</script></html>",
        ),
        named(
            "a.pdf",
            "application/pdf",
            b"<html>%PDF-1.4 <script>alert(1)</script>",
        ),
        named("b.jpg", "image/jpeg", PNG.bytes),
        named("a.mp3", "audio/mpeg", b"<script>alert(1)</script>"),
    ]
}

/// Where the worker serves the bytes and where a store does: each is refused, or it is what it was declared to be and is
/// never shown in place, so that no script of it runs.
async fn runs_no_script(tenant: &Tenant<'_>, is_served_here: bool) -> Result<()> {
    let (mut refused, mut served) = (0, 0);
    for file in polyglots() {
        let upload = tenant.store(&[file]).await.context(file.name)?;
        let done = tenant.complete(&upload).await?;
        if done.status != 200 {
            done.expect_problem(422, "upload_rejected")
                .context(file.name)?;
            refused += 1;
            continue;
        }
        let done = done.json()?;
        let attachment = text(&done, "/attachments/0/id")?;
        for query in ["", "?inline=true"] {
            let path = format!("/v1/attachments/{attachment}/content{query}");
            let redirect = tenant.api.get(&path).await?;
            let url = redirect.header("location").context("no Location")?;
            let reply = tenant.api.get(url).await?;
            reply.expect(200)?;
            let at = format!("{}{query}: {:?}", file.name, reply.headers);
            assert_eq!(reply.header("content-type"), Some(file.media_type), "{at}");
            assert!(disposition_of(&reply)?.starts_with("attachment"), "{at}");
            if is_served_here {
                assert_eq!(
                    reply.header("x-content-type-options"),
                    Some("nosniff"),
                    "{at}"
                );
                let policy = reply.header("content-security-policy");
                assert_eq!(policy, Some("default-src 'none'; sandbox"), "{at}");
            }
        }
        served += 1;
    }
    assert!(
        refused >= 5 && served >= 5,
        "{refused} refused, {served} served"
    );
    Ok(())
}

#[tokio::test]
async fn no_polyglot_runs_from_the_bucket() -> Result<()> {
    requires!(SERVED);
    runs_no_script(&tenant().await?, true).await
}

#[tokio::test]
async fn no_polyglot_runs_from_an_s3_store() -> Result<()> {
    requires!(S3);
    let (stack, _) = shared_s3_stack().await?;
    runs_no_script(&Tenant::new(stack).await?, false).await
}

/// Whoever signs: what is not safe to show is not shown.
#[tokio::test]
async fn no_token_shows_what_is_not_safe() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let keys: KeyRing = tenant.stack.secrets.url_key_ring().parse()?;
    let url = signed_url(&tenant, TEXT, "").await?;
    let (prefix, token) = url.rsplit_once('/').context("not an object URL")?;
    let mut token = ObjectToken::verify(token, &keys, OffsetDateTime::now_utc())?;
    if let ObjectToken::Download { inline, .. } = &mut token {
        *inline = true;
    }
    let reply = tenant
        .api
        .get(&format!("{prefix}/{}", token.sign(&keys)))
        .await?;
    reply.expect(200)?;
    assert!(
        disposition_of(&reply)?.starts_with("attachment"),
        "{:?}",
        reply.headers
    );
    Ok(())
}

/// Kinds of files that run scripts are not taken at all, whatever they are called.
#[tokio::test]
async fn what_runs_scripts_is_not_taken() -> Result<()> {
    let tenant = tenant().await?;
    for name in [
        "a.svg",
        "a.SVG",
        "a.svgz",
        "a.html",
        "a.htm",
        "a.xhtml",
        "a.xml",
        "a.mhtml",
        "a.js",
        "a.mjs",
        "a.wasm",
        "a.swf",
        "a.hta",
        "a.png.svg",
        "a.php",
        "a.xsl",
    ] {
        for media_type in [
            "image/svg+xml",
            "text/html",
            "image/png",
            "application/octet-stream",
        ] {
            let mut file = declaration(&PNG);
            file["name"] = json!(name);
            file["media_type"] = json!(media_type);
            let request = tenant.request(json!([file]));
            let reply = tenant.api.post("/v1/uploads", &request).await?;
            reply
                .expect_problem(415, "media_type_not_allowed")
                .with_context(|| format!("{name} as {media_type}"))?;
        }
    }
    for media_type in [
        "image/svg+xml",
        "text/html",
        "imagex/png",
        "image/*",
        "image/png\r\nx: y",
    ] {
        let mut file = declaration(&PNG);
        file["media_type"] = json!(media_type);
        let reply = tenant
            .api
            .post("/v1/uploads", &tenant.request(json!([file])))
            .await?;
        assert!(
            matches!(reply.status, 415 | 422),
            "{media_type}: {}",
            reply.status
        );
    }
    assert_eq!(tenant.upload_sets().await?, 0);
    Ok(())
}

#[tokio::test]
async fn ranges_and_conditions() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let url = signed_url(&tenant, TEXT, "").await?;
    let whole = tenant.api.get(&url).await?;
    whole.expect(200)?;
    let etag = whole.header("etag").context("no ETag")?.to_owned();

    let part = tenant.api.get_with(&url, &[("range", "bytes=2-6")]).await?;
    part.expect(206)?;
    assert_eq!(part.body, &TEXT.bytes[2..=6]);
    let total = TEXT.bytes.len();
    assert_eq!(
        part.header("content-range"),
        Some(format!("bytes 2-6/{total}").as_str())
    );

    let tail = tenant.api.get_with(&url, &[("range", "bytes=-4")]).await?;
    assert_eq!(tail.body, &TEXT.bytes[total - 4..]);

    let beyond = tenant
        .api
        .get_with(&url, &[("range", "bytes=99999-")])
        .await?;
    beyond.expect_problem(416, "range_not_satisfiable")?;
    assert_eq!(
        beyond.header("content-range"),
        Some(format!("bytes */{total}").as_str())
    );

    // What is unchanged is not sent, whatever part of it is asked for.
    for range in ["bytes=0-", "bytes=2-6", "bytes=99999-"] {
        for if_range in ["\"another\"", &etag] {
            let wants = [
                ("if-none-match", etag.as_str()),
                ("range", range),
                ("if-range", if_range),
            ];
            for count in 1..=wants.len() {
                let unchanged = tenant.api.get_with(&url, &wants[..count]).await?;
                unchanged.expect(304)?;
                assert!(unchanged.body.is_empty());
            }
        }
    }

    // A range of another version is no range of this one, not even one out of reach.
    for range in ["bytes=2-6", "bytes=99999-"] {
        let wants = [("range", range), ("if-range", "\"another\"")];
        let whole = tenant.api.get_with(&url, &wants).await?;
        whole.expect(200)?;
        assert_eq!(whole.body, TEXT.bytes);
    }

    let head = tenant.api.send(Method::HEAD, &url, &[], None).await?;
    head.expect(200)?;
    assert!(head.body.is_empty());
    Ok(())
}

/// RFC 9110 §13: what a client that resumes, or that checks what it has, may ask.
#[tokio::test]
async fn conditions_are_met_or_refused() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let url = signed_url(&tenant, TEXT, "").await?;
    let whole = tenant.api.get(&url).await?;
    let tag = whole.header("etag").context("no ETag")?.to_owned();
    let stored = whole.header("last-modified").context("no Last-Modified")?;
    let stored = stored.to_owned();
    let (before, after) = (
        "Thu, 01 Jan 2015 00:00:00 GMT",
        "Thu, 01 Jan 2099 00:00:00 GMT",
    );

    for (condition, status) in [
        (("if-match", tag.as_str()), 200),
        (("if-match", "*"), 200),
        (("if-match", "\"another\""), 412),
        (("if-unmodified-since", stored.as_str()), 200),
        (("if-unmodified-since", before), 412),
        (("if-modified-since", stored.as_str()), 304),
        (("if-modified-since", after), 304),
        (("if-modified-since", before), 200),
    ] {
        let reply = tenant.api.get_with(&url, &[condition]).await?;
        let head = tenant
            .api
            .send(Method::HEAD, &url, &[condition], None)
            .await?;
        assert_eq!(
            (reply.status, head.status),
            (status, status),
            "{condition:?}"
        );
        // In whatever part of it, even one that it does not have.
        for range in ["bytes=2-6", "bytes=99999-"] {
            let part = tenant
                .api
                .get_with(&url, &[condition, ("range", range)])
                .await?;
            let want = match (status, range) {
                (200, "bytes=2-6") => 206,
                (200, _) => 416,
                (other, _) => other,
            };
            assert_eq!(part.status, want, "{condition:?} {range}");
            if want == 412 {
                part.expect_problem(412, "precondition_failed")?;
            }
        }
    }

    for (if_range, status) in [(tag.as_str(), 206), (stored.as_str(), 206), (before, 200)] {
        let wants = [("range", "bytes=2-6"), ("if-range", if_range)];
        let reply = tenant.api.get_with(&url, &wants).await?;
        reply.expect(status)?;
    }
    Ok(())
}

#[tokio::test]
async fn nothing_in_between_may_compress_the_bytes() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let url = signed_url(&tenant, TEXT, "").await?;
    for (range, status) in [("bytes=0-", 206), ("bytes=2-6", 206), ("items=1", 200)] {
        let wants = [("range", range), ("accept-encoding", "gzip, br")];
        let reply = tenant.api.get_with(&url, &wants).await?;
        reply.expect(status)?;
        let cache = reply.header("cache-control").unwrap_or_default();
        assert!(cache.contains("no-transform"), "{cache}");
        let coding = reply.header("content-encoding").unwrap_or("identity");
        assert_eq!(coding, "identity", "{range}");
        let want = if range == "bytes=2-6" {
            &TEXT.bytes[2..=6]
        } else {
            TEXT.bytes
        };
        assert_eq!(reply.body, want, "{range}");
    }
    Ok(())
}

#[tokio::test]
async fn content_is_asked_for_by_head_and_with_a_bare_flag() -> Result<()> {
    let (chosen, (stack, _)) = (tenant().await?, shared_s3_stack().await?);
    let is_served = chosen.stack.store.is_none();
    for (tenant, is_served_here) in [(chosen, is_served), (Tenant::new(stack).await?, false)] {
        let attachment = tenant.upload_one(PNG).await?;
        let path = format!("/v1/attachments/{}/content?inline", id(&attachment)?);
        for method in [Method::HEAD, Method::GET] {
            let redirect = tenant.api.send(method.clone(), &path, &[], None).await?;
            redirect.expect(302)?;
            let url = redirect.header("location").context("no Location")?;
            let reply = tenant.api.send(method.clone(), url, &[], None).await?;
            assert_eq!(reply.status, 200, "{method} {url}");
            // The store of the tests does as a URL says on GET alone.
            if is_served_here || method == Method::GET {
                assert!(disposition_of(&reply)?.starts_with("inline"), "{method}");
            }
            let length = reply.header("content-length").context("no length")?;
            assert_eq!(length, PNG.bytes.len().to_string(), "{method}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_gone_has_no_range_to_miss() -> Result<()> {
    requires!(SERVED);
    let tenant = tenant().await?;
    let keys: KeyRing = tenant.stack.secrets.url_key_ring().parse()?;
    let url = signed_url(&tenant, TEXT, "").await?;
    let (prefix, token) = url.rsplit_once('/').context("not an object URL")?;
    let mut token = ObjectToken::verify(token, &keys, OffsetDateTime::now_utc())?;
    // The place of a file that was declared and never sent.
    tenant.declare(&[PNG]).await?;
    let empty = tenant.object_keys().await?.pop().context("no object key")?;
    if let ObjectToken::Download { key, .. } = &mut token {
        *key = ObjectKey::parse(&empty)?;
    }
    let url = format!("{prefix}/{}", token.sign(&keys));
    for range in ["bytes=0-", "bytes=99999-"] {
        let reply = tenant.api.get_with(&url, &[("range", range)]).await?;
        reply.expect_problem(404, "not_found")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_name_in_any_script_survives() -> Result<()> {
    let tenant = tenant().await?;
    let name = "Übersicht 東京 \u{1f5dd}.txt";
    let mut file = declaration(&TEXT);
    file["name"] = json!(name);
    let request = tenant.request(json!([file]));
    let upload = tenant
        .api
        .post("/v1/uploads", &request)
        .await?
        .json_if(201)?;
    tenant.put(&upload["files"][0], TEXT).await?;
    let done = tenant.complete(&upload).await?.json_if(200)?;
    assert_eq!(text(&done, "/attachments/0/name")?, name);

    let reply = tenant
        .api
        .download(text(&done, "/attachments/0/id")?)
        .await?;
    let disposition = disposition_of(&reply)?;
    let encoded = "filename*=UTF-8''%C3%9Cbersicht%20%E6%9D%B1%E4%BA%AC%20%F0%9F%97%9D.txt";
    assert!(disposition.contains(encoded), "{disposition}");
    Ok(())
}

#[tokio::test]
async fn an_attachment_answers_conditionally() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(TEXT).await?;
    let path = attachment_path(&attachment)?;
    let first = tenant.api.get(&path).await?;
    let etag = first.header("etag").context("no ETag")?.to_owned();
    assert_eq!(first.json_if(200)?, attachment);
    let again = tenant
        .api
        .get_with(&path, &[("if-none-match", &etag)])
        .await?;
    again.expect(304)?;
    Ok(())
}
