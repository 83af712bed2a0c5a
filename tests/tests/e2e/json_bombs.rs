//! Bodies made to hurt whoever parses them, at every route that takes JSON: refused as what they are, at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keepsake_tests::api::{Api, Reply, declaration};
use keepsake_tests::fixtures::PNG;
use keepsake_tests::stack::StackSettings;
use keepsake_tests::token::{mint, unix_now};
use serde_json::{Value, json};

use crate::routes::{Operation, Things};
use crate::world::{Tenant, start_stack};

/// Most bytes of a JSON body.
const LIMIT: usize = 64 << 10;

/// Longer than any of them needs, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What the body is, and its bytes; none longer than [`LIMIT`].
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let within = |text: String| text.into_bytes()[..].iter().copied().take(LIMIT).collect();
    let many = |one: &dyn Fn(usize) -> String| -> String {
        let members: Vec<String> = (0..3000).map(one).collect();
        format!("{{{}}}", members.join(","))
    };
    vec![
        ("lists, deep", within("[".repeat(LIMIT))),
        (
            "lists, deep and closed",
            within("[".repeat(LIMIT / 2) + &"]".repeat(LIMIT / 2)),
        ),
        ("objects, deep", within("{\"a\":".repeat(LIMIT))),
        (
            "objects, deep and closed",
            within(format!(
                "{}1{}",
                "{\"a\":".repeat(10_000),
                "}".repeat(10_000)
            )),
        ),
        (
            "a known field, deep",
            within(format!("{{\"files\":{}", "[{\"name\":".repeat(7000))),
        ),
        (
            "a number of many digits",
            within(format!("{{\"id\":{}}}", "9".repeat(60_000))),
        ),
        (
            "a number beyond all",
            within("{\"id\":1e999999999}".to_owned()),
        ),
        (
            "a fraction of many digits",
            within(format!("{{\"id\":0.{}1}}", "0".repeat(60_000))),
        ),
        ("no number", within("{\"id\":NaN}".to_owned())),
        ("many keys", within(many(&|n| format!("\"key-{n}\":{n}")))),
        (
            "one key many times",
            within(many(&|_| "\"reason\":\"x\"".to_owned())),
        ),
        (
            "a long key",
            within(format!("{{\"{}\":1}}", "k".repeat(60_000))),
        ),
        (
            "a long string",
            within(format!(
                "{{\"reason\":\"{}\",\"name\":1}}",
                "s".repeat(60_000)
            )),
        ),
        (
            "escapes",
            within(format!(
                "{{\"reason\":\"{}\",\"name\":1}}",
                "\\u0041".repeat(10_000)
            )),
        ),
        (
            "half of a pair",
            within(r#"{"reason":"\ud800","name":"\ud800","label":"\ud800"}"#.to_owned()),
        ),
        (
            "no text",
            [b"{\"reason\":\"".as_slice(), &[0xff; 1000], b"\"}"].concat(),
        ),
        (
            "UTF-16",
            "{\"reason\":\"x\"}"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        ("two values", within("{}{}".to_owned())),
        ("a comment", within("{/* */}".to_owned())),
        ("a trailing comma", within("{\"reason\":\"x\",}".to_owned())),
        ("space", vec![b' '; LIMIT]),
    ]
}

/// A good body with each of its values in turn made enormous.
fn swollen(good: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    leaves(good, String::new(), &mut places);
    let long = json!("s".repeat(60_000));
    let of_one = |place: &String| {
        let mut body = good.clone();
        if let Some(value) = body.pointer_mut(place) {
            *value = long.clone();
        }
        body
    };
    places.iter().map(of_one).collect()
}

/// A good body in which the values of each object in turn stand as a list, in either order.
fn listed(good: &Value) -> Vec<Value> {
    let mut places = vec![String::new()];
    objects(good, String::new(), &mut places);
    let mut bodies = Vec::new();
    for place in &places {
        for turned in [false, true] {
            let mut body = good.clone();
            if let Some(object) = body.pointer_mut(place) {
                let mut values: Vec<Value> = object
                    .as_object()
                    .into_iter()
                    .flat_map(|members| members.values().cloned())
                    .collect();
                if turned {
                    values.reverse();
                }
                *object = Value::Array(values);
            }
            bodies.push(body);
        }
    }
    bodies
}

/// Where objects stand in others.
fn objects(value: &Value, place: String, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, one)| (name.clone(), one))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, one)| (at.to_string(), one))
            .collect(),
        _ => Vec::new(),
    };
    for (name, one) in inner {
        let place = format!("{place}/{name}");
        if one.is_object() {
            found.push(place.clone());
        }
        objects(one, place, found);
    }
}

/// Where the values stand that hold no others.
fn leaves(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| leaves(member, format!("{place}/{name}"), found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, item)| leaves(item, format!("{place}/{at}"), found)),
        _ => found.push(place),
    }
}

/// Who may do anything there is.
fn almighty(tenant: &Tenant<'_>) -> Api {
    let claims = json!({
        "sub": "ada", "tenant": tenant.name, "exp": unix_now() + 600,
        "scope": "attachments:read attachments:write operator",
    });
    let token = mint(&claims, &tenant.stack.secrets.jwt_key);
    tenant.api.with_bearer(Some(&token))
}

/// What is wrong is told, and not all of what was sent.
fn is_short(reply: &Reply) -> Result<()> {
    let length = reply.body.len();
    ensure!(length < 4096, "it is answered by {length} bytes");
    Ok(())
}

#[tokio::test]
async fn each_is_refused_at_once_everywhere() -> Result<()> {
    let settings = StackSettings::default();
    let stack = start_stack(settings).await?;
    let tenant = Tenant::new(&stack).await?;
    let api = almighty(&tenant);
    let things = Things::make(&api, &tenant.post).await?;
    let mut places = 0;
    for operation in Operation::with_bearer()? {
        if !operation.takes_json() {
            continue;
        }
        let request = operation.about(&things)?;
        for (what, body) in bombs() {
            let started = Instant::now();
            let reply = request.send_with(&api, body).await?;
            let at = format!("{what} at {} {}", operation.method, operation.template);
            reply.expect(400).with_context(|| at.clone())?;
            ensure!(
                started.elapsed() < AT_ONCE,
                "{at} took {:?}",
                started.elapsed()
            );
            is_short(&reply).context(at)?;
        }
        for body in swollen(request.body.as_ref().context("no body")?) {
            let reply = request
                .send_with(&api, body.to_string().into_bytes())
                .await?;
            let at = format!("{} {}", operation.method, operation.template);
            ensure!((400..500).contains(&reply.status), "{at}: {}", reply.status);
            is_short(&reply).context(at)?;
        }
        for body in listed(request.body.as_ref().context("no body")?) {
            let reply = request
                .send_with(&api, body.to_string().into_bytes())
                .await?;
            reply
                .expect_problem(400, "invalid_field")
                .with_context(|| {
                    format!("{body} at {} {}", operation.method, operation.template)
                })?;
        }
        let too_large = request.send_with(&api, vec![b'['; LIMIT + 1]).await?;
        too_large.expect_problem(413, "body_too_large")?;
        places += 1;
    }
    ensure!(places > 5, "only {places} routes were asked");
    assert_eq!(tenant.upload_sets().await?, 2, "one of them was taken");
    Ok(())
}

#[tokio::test]
async fn the_longest_body_is_taken_and_none_longer() -> Result<()> {
    let tenant = crate::world::tenant().await?;
    let body = tenant.request(json!([declaration(&PNG)])).to_string();
    let padded = |length: usize| [body.as_bytes(), &vec![b' '; length - body.len()]].concat();
    let one_more = tenant
        .api
        .post_bytes("/v1/uploads", padded(LIMIT + 1))
        .await?;
    one_more.expect_problem(413, "body_too_large")?;
    assert_eq!(tenant.upload_sets().await?, 0);
    let longest = tenant.api.post_bytes("/v1/uploads", padded(LIMIT)).await?;
    longest.expect(201)
}
