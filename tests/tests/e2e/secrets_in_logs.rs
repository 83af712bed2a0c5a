//! Whatever goes right or wrong, the worker's output holds no token, no signature, no key and no password, and no answer
//! holds a key or a password.

use std::fs;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keepsake_tests::api::{Api, Reply, text};
use keepsake_tests::fixtures::{PDF, PNG, TEXT};
use keepsake_tests::migrate::WORKER;
use keepsake_tests::requires;
use keepsake_tests::secrets::hex;
use keepsake_tests::stack::{Stack, StackSettings};
use keepsake_tests::token::{claims, mint, mint_with_header, unix_now, unsigned};
use keepsake_tests::worker::Host;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::object_store::{Fault, ObjectStore};
use crate::world::{Tenant, id, run_schedule, s3_stack, start_stack, upload_path};

const SCAN_KEY: &[u8] = b"scanscanscanscanscanscanscanscan";

/// What must not be found.
#[derive(Default)]
struct Never(Vec<String>);

impl Never {
    /// The keys and passwords of a stack, as they are and as they are set.
    fn of(stack: &Stack) -> Self {
        let secrets = &stack.secrets;
        let keys = [&secrets.jwt_key, &secrets.url_key];
        let mut all = vec![
            secrets.worker_password.clone(),
            secrets.superuser_password.clone(),
        ];
        for key in keys.into_iter().map(Vec::as_slice).chain([SCAN_KEY]) {
            all.extend([hex(key), STANDARD.encode(key)]);
        }
        Self(all)
    }

    fn say(&mut self, secret: &str) {
        self.0.push(secret.to_owned());
    }

    /// A bearer token: whole, and each part of it.
    fn say_token(&mut self, token: &str) {
        self.say(token);
        token
            .split('.')
            .skip(1)
            .filter(|part| part.len() > 8)
            .for_each(|part| self.say(part));
    }

    /// A signed URL: its token, or the values of its query that are secret.
    fn say_url(&mut self, url: &str) {
        match url.split_once('?') {
            None => self.say(url.rsplit('/').next().unwrap_or_default()),
            Some((_, query)) => query
                .split('&')
                .filter_map(|pair| pair.strip_prefix("X-Amz-Signature="))
                .for_each(|signature| self.say(signature)),
        }
    }

    fn are_not_in(&self, place: &str, text: &str) -> Result<()> {
        for secret in &self.0 {
            ensure!(secret.len() > 8, "{secret:?} is no secret");
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            ensure!(
                line.is_none(),
                "{place} holds {secret}: {}",
                line.unwrap_or_default()
            );
        }
        Ok(())
    }
}

/// All that the worker has written. The lines of `wrangler dev` about each request, with its URL, are its own: a
/// deployed worker has none.
fn output(stack: &Stack) -> Result<String> {
    let log = fs::read_to_string(stack.folder().join("worker.log"))?;
    let of_the_worker = |line: &&str| !line.contains("[wrangler:info]");
    let lines: Vec<&str> = log.lines().filter(of_the_worker).collect();
    ensure!(
        lines.iter().filter(|line| line.starts_with('{')).count() > 20,
        "it writes nothing: {log}"
    );
    Ok(lines.join("\n"))
}

/// Requests with credentials that are wrong in every way.
async fn wrong_credentials(tenant: &Tenant<'_>, never: &mut Never) -> Result<()> {
    let good = {
        let mut claims = claims(&tenant.name, "ada");
        claims["email"] = json!("ada-in-a-claim@example.com");
        claims
    };
    never.say("ada-in-a-claim@example.com");
    let key = &tenant.stack.secrets.jwt_key;
    let mut old = good.clone();
    old["exp"] = json!(unix_now() - 4000);
    let mut nowhere = good.clone();
    nowhere["tenant"] = json!("a tenant/that is none");
    let header = json!({ "alg": "HS256", "kid": "a-kid-that-is-none" });
    for bearer in [
        mint(&good, key),
        mint(&old, key),
        mint(&nowhere, key),
        mint(&good, b"another key that is long enough to be one"),
        mint_with_header(&header, &good, key),
        unsigned(&good),
        "opaque-token-to-look-for".to_owned(),
        format!("{}=", mint(&good, key)),
    ] {
        never.say_token(&bearer);
        let api = tenant.api.with_bearer(Some(&bearer));
        for path in [
            "/v1/attachments",
            "/v1/nowhere/x/y",
            "/metrics",
            "/v1/operator/holds",
        ] {
            api.get(path).await?;
        }
        api.post("/v1/uploads", &json!({ "secret": bearer }))
            .await?;
        // In places where it does not belong.
        for path in [
            format!("/v1/attachments/{bearer}"),
            format!("/v1/attachments?q={bearer}"),
            format!("/v1/attachments?{bearer}=1"),
            format!("/v1/objects/{bearer}"),
            format!("/v1/objects/{bearer}/x"),
            format!("/v1/{bearer}/1/attachments"),
        ] {
            tenant.api.get(&path).await?;
        }
        let basic = [("authorization", format!("Basic {bearer}"))];
        let basic = basic
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        tenant
            .api
            .with_bearer(None)
            .get_with("/v1/attachments", &basic)
            .await?;
        let idempotent = [
            ("idempotency-key", bearer.as_str()),
            ("x-request-id", "x y"),
        ];
        let path = format!("/v1/uploads/{bearer}/complete");
        tenant
            .api
            .send(Method::POST, &path, &idempotent, None)
            .await?;
    }
    Ok(())
}

/// Messages that say they are a scanner's.
async fn wrong_scans(api: &Api, never: &mut Never) -> Result<()> {
    for (key, timestamp) in [
        ("scanner", unix_now()),
        ("other", unix_now()),
        ("scanner", 1),
    ] {
        let signature = format!("{key}.{}", hex(b"a-signature-to-look-for-in-a-log"));
        never.say(&signature);
        let headers = [
            ("content-type", "application/json"),
            ("keepsake-timestamp", &timestamp.to_string()),
            ("keepsake-signature", &signature),
        ];
        let body = json!({ "object_key": "t/a/b/c/d", "verdict": "clean" }).to_string();
        let reply = api
            .send(
                Method::POST,
                "/v1/scan-results",
                &headers,
                Some(body.into_bytes()),
            )
            .await?;
        reply.expect_problem(401, "signature_invalid")?;
    }
    Ok(())
}

/// A file's whole way, with its URLs used rightly and wrongly.
async fn whole_way(tenant: &Tenant<'_>, never: &mut Never) -> Result<Value> {
    let upload = tenant.declare(&[PNG]).await?;
    let url = text(&upload, "/files/0/url")?;
    never.say_url(url);
    tenant.api.put(&upload["files"][0], PDF.bytes).await?;
    tenant.api.get(url).await?;
    let altered = url.replace(['A', 'b'], "x");
    never.say_url(&altered);
    tenant.api.get(&altered).await?;
    tenant.put(&upload["files"][0], PNG).await?;
    let done = tenant.complete(&upload).await?.json_if(200)?;
    let attachment = done["attachments"][0].clone();
    let download = tenant.api.content_url(id(&attachment)?).await?;
    never.say_url(&download);
    tenant.api.get(&download).await?.expect(200)?;
    tenant
        .api
        .get_with(&download, &[("range", "bytes=99999-")])
        .await?;
    let liar = tenant.declare(&[TEXT]).await?;
    never.say_url(text(&liar, "/files/0/url")?);
    tenant.api.delete(&upload_path(&liar)?).await?;
    Ok(attachment)
}

/// What an answer may hold of secrets: nothing.
fn is_clean(never: &Never, reply: &Reply) -> Result<()> {
    let body = String::from_utf8_lossy(&reply.body);
    never.are_not_in("an answer", &format!("{body}\n{:?}", reply.headers))
}

#[tokio::test]
async fn with_the_bucket_and_a_database_that_fails() -> Result<()> {
    let keys = format!("scanner:{}", STANDARD.encode(SCAN_KEY));
    let settings = StackSettings {
        vars: vec![("SCAN_KEYS".to_owned(), keys)],
        ..StackSettings::default()
    };
    let mut stack = start_stack(settings).await?;
    let mut never = Never::of(&stack);
    let api = {
        let tenant = Tenant::new(&stack).await?;
        whole_way(&tenant, &mut never).await?;
        wrong_credentials(&tenant, &mut never).await?;
        wrong_scans(&tenant.api, &mut never).await?;
        run_schedule(&stack).await?;

        // The worker's login is refused; then there is no database at all.
        let mut database = tenant.database().await?;
        sqlx::query("ALTER ROLE keepsake_worker PASSWORD 'another-password'")
            .execute(&mut database)
            .await?;
        // Who is logged in would stay so.
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1")
            .bind(WORKER)
            .execute(&mut database)
            .await?;
        let refused = tenant.api.get("/v1/attachments").await?;
        ensure!(refused.status == 503, "{refused:?}");
        is_clean(&never, &refused)?;
        database.close().await?;
        tenant.api
    };
    stack.postgres.kill();
    let down = api.get("/v1/attachments").await?;
    down.expect_problem(503, "database_unavailable")?;
    is_clean(&never, &down)?;
    is_clean(&never, &api.get("/healthz?deep=1").await?)?;
    match run_schedule(&stack).await {
        // The command says that it could not do the work.
        Err(error) if Host::chosen() == Host::Native => {
            never.are_not_in("the error", &format!("{error:?}"))?;
        }
        ran => ran?,
    }
    never.are_not_in("the log", &output(&stack)?)
}

#[tokio::test]
async fn with_a_store_that_fails() -> Result<()> {
    requires!(S3);
    let (stack, store) = s3_stack(&[]).await?;
    let mut never = Never::of(&stack);
    let settings = store.settings();
    let of = |name: &str| {
        settings
            .iter()
            .find(|(one, _)| one == name)
            .map(|(_, value)| value.as_str())
    };
    never.say(of("S3_SECRET_ACCESS_KEY").context("no key")?);
    for always in ["X-Amz-Signature", "AWS4-HMAC-SHA256", "Signature="] {
        never.say(always);
    }
    let tenant = Tenant::new(&stack).await?;
    whole_way(&tenant, &mut never).await?;
    for fault in [
        Fault::Refused(500),
        Fault::ReplyLost,
        Fault::Refused(403),
        Fault::Refused(418),
    ] {
        let upload = tenant.store(&[PDF]).await?;
        never.say_url(text(&upload, "/files/0/url")?);
        for method in ["HEAD", "GET", "POST", "DELETE"] {
            store.trap(method, "", fault, 8);
        }
        is_clean(&never, &tenant.complete(&upload).await?)?;
        tenant.api.delete(&upload_path(&upload)?).await?;
        is_clean(&never, &tenant.api.get("/healthz?deep=1").await?)?;
        run_schedule(&stack).await?;
        store.disarm();
    }
    never.are_not_in("the log", &output(&stack)?)?;
    wrong_secret(&stack, &store, &tenant, &mut never).await
}

/// A worker whose secret is not the store's: what the store answers to that quotes the signature and what was signed.
async fn wrong_secret(
    stack: &Stack,
    store: &ObjectStore,
    tenant: &Tenant<'_>,
    never: &mut Never,
) -> Result<()> {
    let wrong = "a-wrong-secret-to-look-for";
    never.say(wrong);
    let mut settings = store.settings();
    settings.retain(|(name, _)| name != "S3_SECRET_ACCESS_KEY");
    let mut settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    settings.push(("S3_SECRET_ACCESS_KEY", wrong));
    let worker = stack.another_worker("wrong", &settings, None).await?;
    let bearer = mint(&claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    let api = Api::new(&worker.url(), Some(bearer))?;
    let upload = api.declare(tenant.entity(), &[TEXT]).await?.json_if(201)?;
    never.say_url(text(&upload, "/files/0/url")?);
    api.put(&upload["files"][0], TEXT.bytes)
        .await?
        .expect(403)?;
    let refused = api.complete(&upload).await?;
    ensure!(refused.status == 503, "{refused:?}");
    is_clean(never, &refused)?;
    worker.run_schedule().await?;
    is_clean(never, &api.get("/healthz?deep=1").await?)?;
    let log = fs::read_to_string(stack.folder().join("wrong/worker.log"))?;
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with('{')).collect();
    ensure!(lines.len() > 4, "it writes nothing: {log}");
    never.are_not_in("the log", &lines.join("\n"))
}
