//! Every request is counted, whatever comes of it, and under a name that nobody can choose.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use keepsake_tests::api::{Api, Reply};
use keepsake_tests::fixtures::PNG;
use keepsake_tests::requires;
use keepsake_tests::secrets::KEY_ID;
use keepsake_tests::token::{claims, mint, mint_with_header, unix_now};
use keepsake_tests::worker::Worker;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    scans,
    world::{Tenant, id, shared_stack},
};

/// Few, so that they are soon used up.
const REQUESTS_A_MINUTE: u32 = 25;

/// `wrangler dev` lets a client say where it is; Cloudflare does not.
const ADDRESS: &str = "cf-connecting-ip";

/// An address that no other test uses.
fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("192.0.2.{next}")
}

/// Asks until there were too many requests. A minute of the counter may end in between, but not twice. The first is not yet one
/// too many.
async fn asks_until_stopped(ask: impl AsyncFn(u32) -> Result<Reply>) -> Result<()> {
    for number in 0..=2 * REQUESTS_A_MINUTE {
        let reply = ask(number).await?;
        if reply.status == 429 && number > 0 {
            reply.expect_problem(429, "too_many_requests")?;
            return Ok(());
        }
        if reply.status == 429 {
            bail!("the first request was one too many");
        }
    }
    bail!("nobody stopped it")
}

async fn limited(name: &str, vars: &[(&str, &str)]) -> Result<Worker> {
    let stack = shared_stack().await?;
    stack.limited_worker(name, vars, REQUESTS_A_MINUTE).await
}

#[tokio::test]
async fn what_is_refused_is_counted_as_well() -> Result<()> {
    let stack = shared_stack().await?;
    let tenant = Tenant::new(stack).await?;
    let worker = limited("refused", &[("SCAN_KEYS", scans::KEYS)]).await?;
    let api = Api::new(&worker.url(), None)?;
    let key = &stack.secrets.jwt_key;
    let token = |user: &str, changes: Value| {
        let mut claims = claims(&tenant.name, user);
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        mint(&claims, key)
    };
    let header = json!({ "alg": "HS256", "typ": "dpop+jwt", "kid": KEY_ID });
    let nobody = json!({ "scope": "metrics", "exp": unix_now() + 600 });
    let operator = json!({ "sub": "root", "scope": "operator", "exp": unix_now() + 600 });

    // Who: whether their token is good; where they ask; and what comes of it.
    let cases = [
        ("no token", None, Method::GET, "/v1/attachments", 401),
        (
            "a malformed token",
            Some("x.y.z".to_owned()),
            Method::GET,
            "/v1/usage",
            401,
        ),
        (
            "a token of another key",
            Some(mint(&claims(&tenant.name, "a"), b"other")),
            Method::GET,
            "/v1/usage",
            401,
        ),
        (
            "an expired token",
            Some(token("b", json!({ "exp": 1 }))),
            Method::DELETE,
            "/v1/post/1",
            401,
        ),
        (
            "another kind of token",
            Some(mint_with_header(&header, &claims(&tenant.name, "c"), key)),
            Method::GET,
            "/v1/usage",
            401,
        ),
        (
            "a token without the scope",
            Some(token("d", json!({ "scope": "none" }))),
            Method::GET,
            "/v1/attachments",
            403,
        ),
        (
            "a reader who writes",
            Some(token("e", json!({ "scope": "attachments:read" }))),
            Method::DELETE,
            "/v1/post/1",
            403,
        ),
        (
            "a token without a tenant",
            Some(token("f", json!({ "tenant": null }))),
            Method::GET,
            "/v1/attachments",
            403,
        ),
        (
            "a token without a subject",
            Some(mint(&nobody, key)),
            Method::GET,
            "/metrics",
            200,
        ),
        (
            "who watches",
            Some(token("g", json!({ "scope": "metrics", "tenant": null }))),
            Method::GET,
            "/metrics",
            200,
        ),
        (
            "an operator",
            Some(mint(&operator, key)),
            Method::GET,
            "/v1/operator/holds",
            200,
        ),
        (
            "an operator elsewhere",
            Some(token("h", json!({ "scope": "operator" }))),
            Method::GET,
            "/metrics",
            200,
        ),
        (
            "a user on the operator's paths",
            Some(token("i", json!({}))),
            Method::GET,
            "/v1/operator/outbox",
            403,
        ),
        (
            "a path that is not there",
            None,
            Method::GET,
            "/v2/nothing/at/all",
            404,
        ),
        (
            "a user on a path that is not there",
            Some(token("j", json!({}))),
            Method::GET,
            "/nothing",
            404,
        ),
        (
            "a method that is not there",
            None,
            Method::PUT,
            "/v1/attachments",
            405,
        ),
        (
            "a method that is not there, of an object",
            None,
            Method::DELETE,
            "/v1/objects/x",
            405,
        ),
        ("a preflight", None, Method::OPTIONS, "/v1/attachments", 204),
        (
            "a preflight of an object",
            None,
            Method::OPTIONS,
            "/v1/objects/x",
            204,
        ),
        ("a forged URL", None, Method::GET, "/v1/objects/k1.x.y", 403),
        (
            "a forged URL to store at",
            None,
            Method::PUT,
            "/v1/objects/k1.x.y",
            403,
        ),
        (
            "an unsigned verdict",
            None,
            Method::POST,
            "/v1/scan-results",
            401,
        ),
        ("the limits", None, Method::GET, "/v1/limits", 200),
    ];
    for (name, bearer, method, path, status) in cases {
        let api = api.with_bearer(bearer.as_deref());
        let address = address();
        let headers = [
            (ADDRESS, address.as_str()),
            ("content-type", "application/json"),
        ];
        let ask = async |number| {
            let body = (method == Method::POST).then(|| b"{}".to_vec());
            let reply = api.send(method.clone(), path, &headers, body).await?;
            if number == 0 {
                reply.expect(status)?;
            }
            Ok(reply)
        };
        asks_until_stopped(ask).await.context(name)?;

        // Others do not notice, though they come from the same place.
        let other = token(&format!("other of {path}"), json!({}));
        let other = api.with_bearer(Some(&other));
        let reply = other.get_with("/v1/attachments", &headers[..1]).await?;
        reply
            .expect(200)
            .with_context(|| format!("somebody else beside {name}"))?;
    }

    // Of health a load balancer may ask as often as it likes.
    let address = address();
    for _ in 0..3 * REQUESTS_A_MINUTE {
        let healthy = api
            .get_with("/healthz", &[(ADDRESS, address.as_str())])
            .await?;
        healthy.expect(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_is_counted_under_a_name_of_their_choice() -> Result<()> {
    let worker = limited("names", &[]).await?;
    let api = Api::new(&worker.url(), None)?;
    let ask = async |headers: &[(&str, &str)]| api.get_with("/v1/attachments", headers).await;

    // One subscriber has 2^64 addresses.
    asks_until_stopped(async |number| {
        ask(&[(ADDRESS, &format!("2001:db8:1:2:{number:x}::{number:x}"))]).await
    })
    .await
    .context("a network")?;
    ask(&[(ADDRESS, "2001:db8:1:3::1")])
        .await?
        .expect_problem(401, "missing_token")?;

    // An IPv4 address in both its forms.
    asks_until_stopped(async |number| match number % 2 {
        0 => ask(&[(ADDRESS, "198.51.100.7")]).await,
        _ => ask(&[(ADDRESS, "::ffff:198.51.100.7")]).await,
    })
    .await
    .context("a mapped address")?;

    // What is no address is one for all.
    asks_until_stopped(async |number| ask(&[(ADDRESS, &format!("no address {number}"))]).await)
        .await
        .context("no address")?;

    // Every other header is the client's own.
    let address = address();
    asks_until_stopped(async |number| {
        let other = format!("203.0.113.{number}");
        let mut headers = vec![(ADDRESS, address.as_str())];
        for name in [
            "x-forwarded-for",
            "x-real-ip",
            "true-client-ip",
            "forwarded",
            "cf-connecting-ipv6",
        ] {
            headers.push((name, &other));
        }
        ask(&headers).await
    })
    .await
    .context("forged headers")?;

    // A token is nobody's before it is verified: another each time makes nobody of its bearer.
    let address = self::address();
    asks_until_stopped(async |number| {
        let forged = mint(
            &claims(&format!("tenant-{number}"), "mallory"),
            b"a key of my own",
        );
        let api = api.with_bearer(Some(&forged));
        api.get_with("/v1/attachments", &[(ADDRESS, &address)])
            .await
    })
    .await
    .context("forged tokens")
}

#[tokio::test]
async fn a_signed_url_is_counted_by_what_it_opens() -> Result<()> {
    let stack = shared_stack().await?;
    let tenant = Tenant::new(stack).await?;
    let worker = limited("urls", &[]).await?;
    let bearer = mint(&claims(&tenant.name, "ada"), &stack.secrets.jwt_key);
    let api = Api::new(&worker.url(), Some(bearer))?;
    let mut urls = Vec::new();
    for _ in 0..2 {
        let post = Tenant::new(stack).await?;
        let bearer = mint(&claims(&post.name, "ada"), &stack.secrets.jwt_key);
        let owner = api.with_bearer(Some(&bearer));
        let attachments = owner.upload(post.entity(), &[PNG]).await?;
        urls.push(owner.content_url(id(&attachments[0])?).await?);
    }
    let address = address();
    let headers = [(ADDRESS, address.as_str())];
    asks_until_stopped(async |number| {
        let reply = api.get_with(&urls[0], &headers).await?;
        if number == 0 {
            reply.expect(200)?;
        }
        Ok(reply)
    })
    .await?;
    // All of an office come from one address.
    api.get_with(&urls[1], &headers).await?.expect(200)
}

#[tokio::test]
async fn a_scanner_is_heard_however_often_the_file_is_read() -> Result<()> {
    requires!(SERVED);
    let tenant = Tenant::new(shared_stack().await?).await?;
    let worker = limited("verdicts", &[("SCAN_KEYS", scans::KEYS)]).await?;
    let bearer = mint(&claims(&tenant.name, "ada"), &tenant.stack.secrets.jwt_key);
    let api = Api::new(&worker.url(), Some(bearer))?;
    let attachments = api.upload(tenant.entity(), &[PNG]).await?;
    let attachment = id(&attachments[0])?;
    let key = tenant.object_keys().await?.pop().context("no object")?;
    let url = api.content_url(attachment).await?;
    asks_until_stopped(async |_| api.get(&url).await).await?;

    let verdict = async |second| scans::tell_to(&api, &key, "infected", second).await;
    verdict(0).await?.expect(204)?;
    let shut = api
        .get(&format!("/v1/attachments/{attachment}/content"))
        .await?;
    shut.expect_problem(403, "file_quarantined")?;

    // A scanner that has lost its way is stopped, too.
    asks_until_stopped(async |number| verdict(u64::from(number)).await).await
}
