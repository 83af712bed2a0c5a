//! What whoever runs it relies on: health, numbers, limits, the description, the ways to the database.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{PNG, TEXT};
use keepsake_tests::token::{claims, mint, unix_now};
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::world::{Tenant, own_stack, run_schedule, shared_stack, tenant, until};

/// The numbers by name and labels.
async fn metrics(api: &Api) -> Result<BTreeMap<String, f64>> {
    let page = api.get("/metrics").await?;
    page.expect(200)?;
    let text = String::from_utf8(page.body)?;
    let samples = text.lines().filter(|line| !line.starts_with("# TYPE "));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').context("no sample")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

#[tokio::test]
async fn an_operator_reads_the_numbers_of_all_tenants_and_nobody_else_does() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let operator = json!({ "sub": "prometheus", "scope": "metrics", "exp": unix_now() + 60 });
    let operator = mint(&operator, &stack.secrets.jwt_key);
    let operator = tenant.api.with_bearer(Some(&operator));
    let number = async |name: &str| -> Result<f64> {
        let all = metrics(&operator).await?;
        Ok(*all
            .get(name)
            .with_context(|| format!("no {name} in {all:?}"))?)
    };

    let attachments = tenant.upload(&[PNG, TEXT]).await?;
    tenant
        .declare(&[PNG])
        .await
        .err()
        .context("a name was taken twice")?;
    let available = "keepsake_attachments{state=\"available\"}";
    let bytes = u32::try_from(PNG.bytes.len() + TEXT.bytes.len())?;
    assert_eq!(number(available).await?, 2.0);
    assert_eq!(
        number("keepsake_attachment_bytes{state=\"available\"}").await?,
        f64::from(bytes)
    );
    assert_eq!(number("keepsake_uploads_pending").await?, 0.0);
    assert_eq!(
        number("keepsake_outbox_objects{state=\"waiting\"}").await?,
        0.0
    );

    tenant
        .delete_attachment(&attachments[0])
        .await?
        .expect(204)?;
    assert_eq!(number(available).await?, 1.0);
    assert_eq!(
        number("keepsake_attachments{state=\"deleted\"}").await?,
        1.0
    );
    tenant.let_retention_run_out().await?;
    let expired = "keepsake_expired_rows{table=\"attachments.attachment\"}";
    assert_eq!(number(expired).await?, 1.0);
    run_schedule(&stack).await?;
    assert!(
        !metrics(&operator).await?.contains_key(expired),
        "still there after the purge"
    );
    assert_eq!(
        number("keepsake_attachments{state=\"deleted\"}").await?,
        0.0
    );

    // Every tenant's user may do all else, and an operator nothing else.
    let refused = tenant.api.get("/metrics").await?;
    refused.expect_problem(403, "insufficient_scope")?;
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert!(challenge.ends_with("scope=\"metrics\""), "{challenge}");
    let nobody = tenant.api.with_bearer(None).get("/metrics").await?;
    nobody.expect_problem(401, "missing_token")?;
    let listing = operator.get("/v1/attachments").await?;
    listing.expect_problem(403, "missing_tenant")?;
    Ok(())
}

#[tokio::test]
async fn the_description_is_the_one_that_the_tests_hold_it_to() -> Result<()> {
    let api = tenant().await?.api.with_bearer(None);
    let served: Value = api.get("/openapi.json").await?.json_if(200)?;
    let written: Value = serde_json::from_str(include_str!("../../../docs/openapi.json"))?;
    assert_eq!(served, written);
    Ok(())
}

#[tokio::test]
async fn anybody_may_know_what_an_upload_may_hold() -> Result<()> {
    let stack = own_stack().await?;
    let small = [("MAX_FILES", "2"), ("MAX_FILE_BYTES", "1000")];
    let worker = stack.another_worker("small", &small, None).await?;
    let limits = Api::new(&worker.url(), None)?.get("/v1/limits").await?;
    assert_eq!(
        limits.json_if(200)?,
        json!({
            "max_files": 2,
            "max_file_bytes": 1000,
            "max_set_bytes": 26_214_400,
            "inline_max_bytes": 5_242_880,
            "file_types": "",
            "number_duplicates": false,
            "max_image_pixels": 268_435_456,
            "multipart_threshold_bytes": 67_108_864,
        })
    );
    Ok(())
}

#[tokio::test]
async fn health_with_and_without_what_stands_behind() -> Result<()> {
    let api = tenant().await?.api.with_bearer(None);
    let shallow = api.get("/healthz").await?.json_if(200)?;
    assert_eq!(shallow, json!({ "status": "ok" }));
    let deep = api.get("/healthz?deep=1").await?.json_if(200)?;
    assert_eq!(
        deep,
        json!({
            "status": "ok",
            "database": "ok",
            "storage": "ok",
            "schema": { "version": 1, "required": 1 },
        })
    );
    Ok(())
}

/// As `wrangler.toml` has it.
const REQUESTS_A_MINUTE: usize = 1000;

/// One caller's crowd is that caller's own: another is served meanwhile.
#[tokio::test]
async fn a_caller_who_asks_too_often_waits_and_others_do_not() -> Result<()> {
    let (crowd, other) = (tenant().await?, tenant().await?);
    let mut crowds = JoinSet::new();
    // Whole lots of requests: a minute of the counter may end in between.
    for _ in 0..20 {
        let api = crowd.api.clone();
        crowds.spawn(async move {
            let mut refused = None;
            for _ in 0..REQUESTS_A_MINUTE / 20 * 2 + 20 {
                let reply = api.get("/v1/attachments?limit=none").await?;
                if reply.status == 429 {
                    refused = Some(reply);
                    break;
                }
                reply.expect_problem(400, "invalid_field")?;
            }
            anyhow::Ok(refused)
        });
    }
    let mut refused = None;
    while let Some(one) = crowds.join_next().await {
        refused = one??.or(refused);
    }
    let refused = refused.context("nobody was refused")?;
    refused.expect_problem(429, "too_many_requests")?;
    assert_eq!(refused.header("retry-after"), Some("60"));
    other.api.get("/v1/attachments").await?.expect(200)?;

    // Another user of the same tenant is another caller.
    let colleague = mint(&claims(&crowd.name, "grace"), &crowd.stack.secrets.jwt_key);
    let colleague = crowd.api.with_bearer(Some(&colleague));
    colleague.get("/v1/attachments").await?.expect(200)
}

#[tokio::test]
async fn the_database_is_reached_directly_and_a_window_has_one_url() -> Result<()> {
    let stack = shared_stack().await?;
    let tenant = tenant().await?;
    let url = format!("{}?sslmode=disable", stack.worker_url());
    let vars = [
        ("DATABASE_URL", url.as_str()),
        ("DOWNLOAD_WINDOW_SECONDS", "3600"),
    ];
    let worker = stack.another_worker("direct", &vars, None).await?;
    let bearer = mint(&claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    let api = Api::new(&worker.url(), Some(bearer))?;
    api.get("/healthz?deep=1").await?.expect(200)?;
    let entity = ("post", tenant.post.as_str());
    let attachments = api.upload(entity, &[PNG]).await?;
    let id = text(&attachments[0], "/id")?;

    let colleague = mint(&claims(&tenant.name, "grace"), &stack.secrets.jwt_key);
    let colleague = api.with_bearer(Some(&colleague));
    let mut same = false;
    // A window may end between two requests, but not twice in a row.
    for _ in 0..2 {
        let first = api.content_url(id).await?;
        // A URL of another second would be another one, but for the window.
        let second = unix_now();
        until("the second ends", async || Ok(unix_now() > second)).await?;
        same |= first == colleague.content_url(id).await?;
    }
    assert!(same, "two callers were given two URLs");
    assert_eq!(api.download(id).await?.body, PNG.bytes);
    Ok(())
}

#[tokio::test]
async fn the_database_is_reached_over_tls_and_no_stranger_is() -> Result<()> {
    let stack = own_stack().await?;
    let mut database = stack.postgres.connect().await?;
    // PostgreSQL's own user makes the certificate, in its data folder.
    database
        .execute(
            "COPY (SELECT) TO PROGRAM 'umask 077; openssl req -x509 -nodes -days 2 -newkey ec \
             -pkeyopt ec_paramgen_curve:P-256 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
             -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.crt 2>/dev/null'",
        )
        .await?;
    for sql in [
        "ALTER SYSTEM SET ssl = on",
        "ALTER SYSTEM SET log_connections = on",
        "SELECT pg_reload_conf()",
    ] {
        database.execute(sql).await?;
    }
    let certificate: String = sqlx::query_scalar("SELECT pg_read_file('server.crt')")
        .fetch_one(&mut database)
        .await?;
    let file = stack.folder().join("authority.pem");
    fs::write(&file, certificate)?;
    let health = async |name: &str, url: &str, authority: Option<PathBuf>| -> Result<_> {
        let vars = [("DATABASE_URL", url)];
        let worker = stack.another_worker(name, &vars, authority).await?;
        Api::new(&worker.url(), None)?.get("/healthz?deep=1").await
    };

    let url = stack.worker_url().replace("@127.0.0.1:", "@localhost:");
    health("trusted", &url, Some(file.clone()))
        .await?
        .expect(200)?;
    let log = fs::read_to_string(stack.folder().join("postgres.log"))?;
    let encrypted = log
        .lines()
        .any(|line| line.contains("user=keepsake_worker") && line.contains("SSL enabled"));
    assert!(encrypted, "the connection was not encrypted");

    // Nobody vouches for it; or it is another's.
    let stranger = health("stranger", &format!("{url}?sslmode=require"), None).await?;
    stranger.expect_problem(503, "database_unavailable")?;
    let other = health("other", &stack.worker_url(), Some(file)).await?;
    other.expect_problem(503, "database_unavailable")?;
    Ok(())
}
