//! What `keepsake serve` tells a receiver of traces: what took how long and what it was a part of, and no secret. A receiver
//! that is gone or hangs is nobody's trouble.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::api::{Api, text};
use keepsake_tests::fixtures::{PNG, TEXT};
use keepsake_tests::requires;
use keepsake_tests::secrets::{hex, random};
use keepsake_tests::token;
use keepsake_tests::worker::Worker;
use reqwest::Method;

use crate::otlp::{Otlp, Span};
use crate::world::{Tenant, id, s3_stack, shared_stack, until};

/// A tenant of the stack that is served by a server of its own with these settings.
async fn served<'a>(
    tenant: Tenant<'a>,
    name: &str,
    vars: &[(&str, &str)],
) -> Result<(Tenant<'a>, Worker)> {
    let stack = tenant.stack;
    let server = stack.another_worker(name, vars, None).await?;
    let claims = token::claims(&tenant.name, "ada");
    let bearer = token::mint(&claims, &stack.secrets.jwt_key);
    let api = Api::new(&server.url(), Some(bearer))?;
    Ok((Tenant { api, ..tenant }, server))
}

/// [`served`], traced to this receiver.
async fn traced(
    otlp: &Otlp,
    name: &str,
    vars: &[(&str, &str)],
) -> Result<(Tenant<'static>, Worker)> {
    let tenant = Tenant::new(shared_stack().await?).await?;
    let url = otlp.url();
    let mut all = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    all.extend(vars);
    served(tenant, name, &all).await
}

/// What a caller traces.
struct Caller {
    trace: [u8; 16],
    span: [u8; 8],
}

impl Caller {
    fn new() -> Result<Self> {
        Ok(Self {
            trace: random()?,
            span: random()?,
        })
    }

    fn header(&self, flags: &str) -> String {
        format!("00-{}-{}-{flags}", hex(&self.trace), hex(&self.span))
    }

    /// Asks with this trace, sampled or not.
    async fn ask(&self, api: &Api, method: Method, path: &str, flags: &str) -> Result<()> {
        let header = self.header(flags);
        api.send(method, path, &[("traceparent", &header)], None)
            .await?;
        Ok(())
    }
}

fn has(span: &Span, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        assert_eq!(span.attribute(name), *value, "{name} of {span:#?}");
    }
}

#[tokio::test]
async fn a_request_and_its_calls_are_parts_of_what_its_caller_traces() -> Result<()> {
    requires!(NATIVE);
    let otlp = Otlp::start()?;
    let vars = [
        ("OTEL_SERVICE_NAME", "files"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=hunter%202"),
    ];
    let (tenant, _server) = traced(&otlp, "traced", &vars).await?;
    let caller = Caller::new()?;
    let path = format!("{}/attachments?limit=3", tenant.post_path());
    caller.ask(&tenant.api, Method::GET, &path, "01").await?;

    let request = otlp
        .span(&caller.trace, "GET /v1/{entity}/{id}/attachments")
        .await?;
    assert_eq!(request.parent, caller.span);
    let shown = format!("/v1/{{entity}}/{}/attachments", tenant.post);
    has(
        &request,
        &[
            ("http.request.method", "GET"),
            ("http.route", "/v1/{entity}/{id}/attachments"),
            ("http.response.status_code", "200"),
            ("url.path", &shown),
            ("url.query", ""),
            ("error.type", ""),
        ],
    );
    ensure!(!request.is_error && !request.attribute("keepsake.request_id").is_empty());
    assert_eq!(request.resource["service.name"], "files");
    assert_eq!(request.resource["deployment.environment.name"], "test");
    assert_eq!(otlp.header("x-api-key").as_deref(), Some("hunter 2"));

    let call = otlp
        .span(&caller.trace, "SELECT attachments_api.list_attachments")
        .await?;
    assert_eq!(call.parent, request.id);
    has(
        &call,
        &[
            ("db.system.name", "postgresql"),
            (
                "db.stored_procedure.name",
                "attachments_api.list_attachments",
            ),
            ("server.address", "127.0.0.1"),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn what_a_store_is_asked_is_traced() -> Result<()> {
    requires!(NATIVE);
    let otlp = Otlp::start()?;
    let (tenant, server) = traced(&otlp, "with-files", &[("STORAGE", "file")]).await?;
    let attachment = tenant.upload_one(PNG).await?;
    tenant.api.download(id(&attachment)?).await?;
    server.run_schedule().await?;
    let parts = async |parent: &str, names: &[&str]| -> Result<Span> {
        let found = || otlp.spans().into_iter().find(|span| span.name == parent);
        until(parent, async || Ok(found().is_some())).await?;
        let whole = found().context("it was there")?;
        for name in names {
            let part = otlp.span(&whole.trace, name).await?;
            assert_eq!(part.parent, whole.id, "{part:#?}");
        }
        Ok(whole)
    };
    let put = parts("PUT /v1/objects/{token}", &["bucket put"]).await?;
    has(
        &put,
        &[
            ("url.path", "/v1/objects/{token}"),
            ("http.response.status_code", "201"),
        ],
    );
    parts("GET /v1/objects/{token}", &["bucket get"]).await?;
    let schedule = [
        "SELECT attachments_api.sweep_uploads",
        "SELECT attachments_api.purge",
    ];
    let schedule = parts("schedule", &schedule).await?;
    has(&schedule, &[("keepsake.schedule.outcome", "done")]);
    ensure!(schedule.parent.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_caller_says_what_is_sampled() -> Result<()> {
    requires!(NATIVE);
    let otlp = Otlp::start()?;
    let vars = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    let (tenant, _server) = traced(&otlp, "sampled", &vars).await?;
    let (sampled, other) = (Caller::new()?, Caller::new()?);
    other
        .ask(&tenant.api, Method::GET, "/v1/attachments", "00")
        .await?;
    tenant.api.get("/v1/attachments").await?.expect(200)?;
    sampled
        .ask(&tenant.api, Method::GET, "/v1/attachments", "01")
        .await?;
    otlp.span(&sampled.trace, "GET /v1/attachments").await?;
    ensure!(otlp.spans().iter().all(|span| span.trace == sampled.trace));
    Ok(())
}

#[tokio::test]
async fn what_fails_is_marked_and_what_is_refused_is_not() -> Result<()> {
    requires!(NATIVE);
    let otlp = Otlp::start()?;
    let vars = [(
        "DATABASE_URL",
        "postgres://keepsake_worker:hunter2@127.0.0.1:1/app?sslmode=disable",
    )];
    let (tenant, _server) = traced(&otlp, "without-database", &vars).await?;
    let (failed, refused, lost) = (Caller::new()?, Caller::new()?, Caller::new()?);
    failed
        .ask(&tenant.api, Method::GET, "/v1/attachments", "01")
        .await?;
    refused
        .ask(&tenant.api, Method::GET, "/v1/attachments/x", "01")
        .await?;
    lost.ask(&tenant.api, Method::GET, "/hunter2/holiday.png", "01")
        .await?;
    let request = otlp.span(&failed.trace, "GET /v1/attachments").await?;
    has(
        &request,
        &[("error.type", "503"), ("http.response.status_code", "503")],
    );
    let call = otlp
        .span(&failed.trace, "SELECT attachments_api.list_attachments")
        .await?;
    has(&call, &[("error.type", "database_unavailable")]);
    ensure!(request.is_error && call.is_error);
    let request = otlp
        .span(&refused.trace, "GET /v1/attachments/{id}")
        .await?;
    ensure!(!request.is_error, "{request:#?}");
    has(
        &request,
        &[
            ("http.response.status_code", "400"),
            ("url.path", "/v1/attachments/{id}"),
        ],
    );
    let nowhere = otlp.span(&lost.trace, "GET").await?;
    has(
        &nowhere,
        &[("http.response.status_code", "404"), ("url.path", "")],
    );
    Ok(())
}

#[tokio::test]
async fn no_secret_and_no_name_is_told() -> Result<()> {
    requires!(NATIVE);
    requires!(S3);
    let otlp = Otlp::start()?;
    let (stack, store) = s3_stack(&[]).await?;
    let url = otlp.url();
    let settings = store.settings();
    let mut vars: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let events = format!("{url}/a-webhook-to-look-for");
    vars.extend([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("EVENTS_URL", &events),
        ("EVENTS_KEYS", crate::receiver::KEY),
    ]);
    let (tenant, server) = served(Tenant::new(&stack).await?, "secrets", &vars).await?;
    // From its first run on there are events.
    server.run_schedule().await?;
    let upload = tenant.store(&[PNG, TEXT]).await?;
    let done = tenant.complete(&upload).await?.json_if(200)?;
    let file = id(&done["attachments"][0])?.to_owned();
    tenant.api.content_url(&file).await?;
    let bearer = token::mint(&token::claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    for path in [
        format!("/v1/attachments/{bearer}"),
        format!("/v1/attachments?q={bearer}"),
        format!("/v1/objects/{bearer}"),
        format!("/v1/{bearer}/{}/restore", PNG.name),
        format!("/{bearer}"),
    ] {
        tenant.api.get(&path).await?;
    }
    let odd = Method::from_bytes(b"A-METHOD-TO-LOOK-FOR")?;
    let client = reqwest::Client::new();
    client.request(odd, server.url()).send().await?;
    tenant.delete_post().await?.expect(204)?;
    server.run_schedule().await?;
    for name in [
        "S3 HeadObject",
        "S3 ListObjectsV2",
        "webhook",
        "GET /v1/objects/{token}",
    ] {
        let came = || otlp.spans().iter().any(|span| span.name == name);
        until(name, async || Ok(came())).await?;
    }
    let told = otlp.text();
    let key = |wanted: &str| settings.iter().find(|(name, _)| name == wanted);
    let (_, secret) = key("S3_SECRET_ACCESS_KEY").context("no key")?;
    let signed = text(&upload, "/files/0/url")?
        .split_once('?')
        .context("no query")?
        .1;
    for never in [
        bearer.rsplit('.').next().context("no token")?,
        secret,
        &stack.secrets.worker_password,
        signed,
        "X-Amz-",
        "Signature",
        "a-webhook-to-look-for",
        "A-METHOD-TO-LOOK-FOR",
        PNG.name,
        TEXT.name,
        &tenant.name,
    ] {
        ensure!(never.len() > 5, "{never:?} is no secret");
        ensure!(
            !told.contains(never),
            "{never} is told: {:#?}",
            otlp.spans()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_hangs_keeps_nobody_waiting() -> Result<()> {
    requires!(NATIVE);
    let otlp = Otlp::start()?;
    otlp.hang();
    let vars = [("OTEL_BSP_MAX_QUEUE_SIZE", "20")];
    let (tenant, server) = traced(&otlp, "hanging", &vars).await?;
    tenant.api.get("/healthz").await?.expect(200)?;
    until("the receiver is asked", async || Ok(otlp.requests() > 0)).await?;
    let begun = Instant::now();
    for _ in 0..100 {
        tenant.api.get("/healthz").await?.expect(200)?;
    }
    // As long as one export would take to be given up.
    ensure!(
        begun.elapsed() < Duration::from_secs(10),
        "requests wait for the receiver"
    );
    let log = server_log(tenant.stack, "hanging")?;
    assert_eq!(log.matches("\"event\":\"traces\"").count(), 1, "{log}");
    ensure!(
        log.contains("too slow") && log.contains("\"lost_spans\":1"),
        "{log}"
    );
    stops_within(server, Duration::from_secs(20)).await
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_once() -> Result<()> {
    requires!(NATIVE);
    let stack = shared_stack().await?;
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let (tenant, server) = served(Tenant::new(stack).await?, "gone", &vars).await?;
    for _ in 0..20 {
        tenant.api.get("/healthz").await?.expect(200)?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = || server_log(stack, "gone").map(|log| log.matches("cannot be reached").count());
    until("the log says so", async || Ok(told()? > 0)).await?;
    assert_eq!(told()?, 1);
    stops_within(server, Duration::from_secs(20)).await
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_server_stops() -> Result<()> {
    requires!(NATIVE);
    let otlp = Otlp::start()?;
    let vars = [("OTEL_BSP_SCHEDULE_DELAY", "60000")];
    let (tenant, server) = traced(&otlp, "stopping", &vars).await?;
    let caller = Caller::new()?;
    caller
        .ask(&tenant.api, Method::GET, "/healthz", "01")
        .await?;
    ensure!(otlp.spans().is_empty(), "it did not wait for others");
    stops_within(server, Duration::from_secs(20)).await?;
    otlp.span(&caller.trace, "GET /healthz").await?;
    Ok(())
}

fn server_log(stack: &keepsake_tests::stack::Stack, name: &str) -> Result<String> {
    let file = stack.folder().join(name).join("worker.log");
    Ok(std::fs::read_to_string(file)?)
}

/// Asks a server to stop, and waits until it has.
async fn stops_within(mut server: Worker, time: Duration) -> Result<()> {
    server.ask_to_stop()?;
    let begun = Instant::now();
    until("the server stops", async || Ok(!server.is_running())).await?;
    ensure!(begun.elapsed() < time, "it took {:?}", begun.elapsed());
    Ok(())
}
