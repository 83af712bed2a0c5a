//! What pages of other origins may do, and what the log keeps to itself.

use std::fs;

use anyhow::{Context, Result};
use keepsake_tests::api::text;
use keepsake_tests::fixtures::PNG;
use keepsake_tests::stack::StackSettings;
use reqwest::Method;

use crate::world::{Tenant, start_stack, tenant};

const OURS: &str = "https://app.example.com";

#[tokio::test]
async fn only_listed_origins_may_read_answers() -> Result<()> {
    let vars = vec![("ALLOWED_ORIGINS".to_owned(), OURS.to_owned())];
    let stack = start_stack(StackSettings {
        vars,
        ..StackSettings::default()
    })
    .await?;
    let tenant = Tenant::new(&stack).await?;

    for (origin, allowed) in [
        (OURS, Some(OURS)),
        ("https://evil.example.com", None),
        ("null", None),
    ] {
        let get = tenant
            .api
            .get_with("/v1/attachments", &[("origin", origin)])
            .await?;
        get.expect(200)?;
        assert_eq!(
            get.header("access-control-allow-origin"),
            allowed,
            "{origin}"
        );
        assert!(
            get.header("access-control-allow-credentials").is_none(),
            "a bearer is not a cookie"
        );

        let wants = [("origin", origin), ("access-control-request-method", "PUT")];
        let preflight = tenant
            .api
            .with_bearer(None)
            .send(Method::OPTIONS, "/v1/uploads", &wants, None)
            .await?;
        preflight.expect(204)?;
        assert_eq!(
            preflight.header("access-control-allow-origin"),
            allowed,
            "{origin}"
        );
    }

    // A page must be able to read why it was refused, and to upload and download.
    let refused = tenant
        .api
        .with_bearer(None)
        .get_with("/v1/attachments", &[("origin", OURS)])
        .await?;
    refused.expect_problem(401, "missing_token")?;
    assert_eq!(refused.header("access-control-allow-origin"), Some(OURS));
    let upload = tenant.declare(&[PNG]).await?;
    let url = text(&upload, "/files/0/url")?;
    let wants = [
        ("origin", OURS),
        ("access-control-request-method", "PUT"),
        (
            "access-control-request-headers",
            "content-type,if-none-match,x-amz-checksum-sha256",
        ),
    ];
    let preflight = tenant.api.send(Method::OPTIONS, url, &wants, None).await?;
    let headers = preflight
        .header("access-control-allow-headers")
        .context("no headers allowed")?;
    for name in [
        "content-type",
        "idempotency-key",
        "if-none-match",
        "x-amz-checksum-sha256",
        "authorization",
    ] {
        assert!(headers.contains(name), "{name} is not in {headers}");
    }
    Ok(())
}

#[tokio::test]
async fn any_origin_may_use_an_object_url() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG]).await?;
    let upload_url = text(&upload, "/files/0/url")?;
    tenant.put(&upload["files"][0], PNG).await?;
    let done = tenant.complete(&upload).await?.json_if(200)?;
    let download_url = tenant
        .api
        .content_url(text(&done, "/attachments/0/id")?)
        .await?;

    // What a browser sends after a redirect to another origin, and what other pages send.
    for origin in ["null", OURS] {
        let from = [("origin", origin)];
        for (method, url, status) in [
            (Method::OPTIONS, upload_url, 204),
            (Method::OPTIONS, download_url.as_str(), 204),
            (Method::GET, &download_url, 200),
            (Method::HEAD, &download_url, 200),
            (Method::GET, upload_url, 403),
            (Method::PUT, upload_url, 422),
        ] {
            let reply = tenant.api.send(method.clone(), url, &from, None).await?;
            reply.expect(status)?;
            let allowed = reply.header("access-control-allow-origin");
            assert_eq!(allowed, Some("*"), "{method} from {origin}");
            assert!(reply.header("access-control-allow-credentials").is_none());
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_list_no_origin_may() -> Result<()> {
    let tenant = tenant().await?;
    let get = tenant
        .api
        .get_with("/v1/attachments", &[("origin", OURS)])
        .await?;
    get.expect(200)?;
    assert!(get.header("access-control-allow-origin").is_none());
    Ok(())
}

#[tokio::test]
async fn the_log_holds_no_credential() -> Result<()> {
    let tenant = tenant().await?;
    let upload = tenant.declare(&[PNG]).await?;
    let upload_url = text(&upload, "/files/0/url")?.to_owned();
    tenant.put(&upload["files"][0], PNG).await?;
    let done = tenant.complete(&upload).await?.json_if(200)?;
    let attachment = text(&done, "/attachments/0/id")?;
    let download_url = tenant.api.content_url(attachment).await?;
    tenant.api.get(&download_url).await?.expect(200)?;
    tenant
        .api
        .with_bearer(Some("a.forged.token-to-look-for"))
        .get("/v1/attachments")
        .await?
        .expect(401)?;
    let marked = tenant
        .api
        .get("/v1/attachments?limit=secret-in-a-query")
        .await?;
    marked.expect(400)?;

    // The worker's own lines are JSON; the others are wrangler's, which runs on this machine only.
    let log = fs::read_to_string(tenant.stack.folder().join("worker.log"))?;
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.len() >= 6, "the worker logs nothing");
    let secrets = &tenant.stack.secrets;
    let last_part = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
    let never = [
        last_part(&upload_url),
        last_part(&download_url),
        "token-to-look-for".to_owned(),
        "secret-in-a-query".to_owned(),
        secrets.worker_password.clone(),
        secrets.url_key_ring(),
        "Bearer".to_owned(),
    ];
    for line in lines {
        for secret in &never {
            assert!(
                !line.contains(secret.as_str()),
                "a credential is in the log: {line}"
            );
        }
    }
    Ok(())
}

/// Apps and extensions have origins of their own, and tracing libraries add headers to every request.
#[tokio::test]
async fn apps_and_their_tracing_headers_get_in() -> Result<()> {
    let app = "capacitor://localhost";
    let vars = [
        (
            "ALLOWED_ORIGINS",
            format!("{app}, tauri://localhost, {OURS}"),
        ),
        ("ALLOWED_HEADERS", "traceparent, x-of-ours".to_owned()),
    ];
    let vars = vars.map(|(name, value)| (name.to_owned(), value));
    let settings = StackSettings {
        vars: vars.into(),
        ..StackSettings::default()
    };
    let stack = start_stack(settings).await?;
    let tenant = Tenant::new(&stack).await?;
    let ordinary = crate::world::tenant().await?;
    for (tenant, origin, further) in [
        (&tenant, app, &["traceparent", "x-of-ours"][..]),
        (
            &ordinary,
            "https://app.example.com",
            &["sentry-trace", "baggage", "traceparent", "x-requested-with"],
        ),
    ] {
        let url = tenant.upload_one(PNG).await?;
        let url = format!("/v1/attachments/{}/content", text(&url, "/id")?);
        let redirect = tenant.api.get(&url).await?;
        let object = redirect.header("location").context("no Location")?;
        for path in [url.as_str(), object] {
            let wants = [("origin", origin), ("access-control-request-method", "GET")];
            let preflight = tenant
                .api
                .with_bearer(None)
                .send(Method::OPTIONS, path, &wants, None)
                .await?;
            preflight.expect(204)?;
            // The shared stack lists no origin: there only the objects are for any page.
            if path == url && origin != app {
                continue;
            }
            let allowed = preflight
                .header("access-control-allow-headers")
                .context("no headers are allowed")?;
            let allowed: Vec<_> = allowed.split(", ").collect();
            for name in further
                .iter()
                .chain(&["authorization", "if-unmodified-since"])
            {
                assert!(allowed.contains(name), "{path}: {name}");
            }
        }
    }
    Ok(())
}

/// RFC 9110 §15.5.16.
#[tokio::test]
async fn a_compressed_body_is_refused_as_such() -> Result<()> {
    let tenant = tenant().await?;
    // What gzip makes of `{}`.
    let body = [
        31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0,
    ];
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let reply = tenant
        .api
        .send(Method::POST, "/v1/uploads", &headers, Some(body.to_vec()))
        .await?;
    reply.expect_problem(415, "unsupported_content_type")?;
    assert_eq!(reply.header("accept-encoding"), Some("identity"));
    Ok(())
}
