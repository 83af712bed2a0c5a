//! Requests that make no sense: each a 4xx problem with its own code, and nothing written.

use anyhow::Result;
use keepsake_tests::api::declaration;
use keepsake_tests::fixtures::PNG;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Tenant, attachment_path, errors, own_stack, tenant};

/// A good declaration to spoil.
fn good(tenant: &Tenant<'_>) -> Value {
    tenant.request(json!([declaration(&PNG)]))
}

async fn refused(tenant: &Tenant<'_>, body: Vec<u8>, status: u16, code: &str) -> Result<()> {
    tenant
        .api
        .post_bytes("/v1/uploads", body)
        .await?
        .expect_problem(status, code)?;
    assert_eq!(
        tenant.upload_sets().await?,
        0,
        "a refused request left a set"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_json() -> Result<()> {
    let tenant = tenant().await?;
    let good = good(&tenant).to_string();
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"{\"entity_type\":\"\xc3\x28\"}",
        &good.as_bytes()[..good.len() - 1],
        &[good.as_bytes(), b"x"].concat(),
        b"{'entity_type': 'post'}",
    ];
    for body in bodies {
        refused(&tenant, body.to_vec(), 400, "malformed_json").await?;
    }
    Ok(())
}

#[tokio::test]
async fn fields_that_do_not_exist() -> Result<()> {
    let tenant = tenant().await?;
    let mut outer = good(&tenant);
    outer["tenant"] = json!("another");
    refused(
        &tenant,
        outer.to_string().into_bytes(),
        400,
        "unknown_field",
    )
    .await?;
    let mut inner = good(&tenant);
    inner["files"][0]["state"] = json!("available");
    refused(
        &tenant,
        inner.to_string().into_bytes(),
        400,
        "unknown_field",
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn fields_of_a_wrong_type_or_missing() -> Result<()> {
    let tenant = tenant().await?;
    let spoiled = [
        ("/entity_type", json!(7)),
        ("/entity_id", json!(7)),
        ("/entity_id", Value::Null),
        ("/files", json!("many")),
        ("/files", json!({ "0": {} })),
        ("/files/0", json!("a file")),
        ("/files/0/name", json!(["a.png"])),
        ("/files/0/size", json!("12")),
        ("/files/0/size", json!(1.5)),
        ("/files/0/size", json!(1e30)),
        ("/files/0/sha256", json!(7)),
    ];
    for (pointer, value) in spoiled {
        let mut body = good(&tenant);
        if let Some(place) = body.pointer_mut(pointer) {
            *place = value;
        }
        refused(&tenant, body.to_string().into_bytes(), 400, "invalid_field").await?;
    }
    for member in ["entity_type", "entity_id", "files"] {
        let mut body = good(&tenant);
        body.as_object_mut().map(|body| body.remove(member));
        refused(&tenant, body.to_string().into_bytes(), 400, "invalid_field").await?;
    }
    let deep = "[".repeat(60_000);
    for body in ["null", "7", "[]", "\"post\"", &deep] {
        refused(&tenant, body.as_bytes().to_vec(), 400, "invalid_field").await?;
    }
    Ok(())
}

#[tokio::test]
async fn ids_in_the_body_that_are_none() -> Result<()> {
    let tenant = tenant().await?;
    for (member, value) in [
        ("entity_type", "Post"),
        ("entity_type", ""),
        ("entity_type", "attachments"),
        ("entity_type", "../post"),
        ("entity_id", ""),
        ("entity_id", "a/b"),
        ("entity_id", "1'; DROP TABLE post; --"),
        ("entity_id", "\u{0}"),
    ] {
        let mut body = good(&tenant);
        body[member] = json!(value);
        let reply = tenant.api.post("/v1/uploads", &body).await?;
        let problem = reply.expect_problem(422, "invalid_upload")?;
        let pointer = format!("/{member}");
        assert_eq!(
            errors(&problem),
            [(pointer.as_str(), "invalid_id")],
            "{value:?}"
        );
    }
    assert_eq!(tenant.upload_sets().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_body_too_large_for_what_it_could_say() -> Result<()> {
    let tenant = tenant().await?;
    let mut body = good(&tenant);
    body["files"][0]["name"] = json!("x".repeat(2 * 1024 * 1024));
    refused(
        &tenant,
        body.to_string().into_bytes(),
        413,
        "body_too_large",
    )
    .await?;
    refused(&tenant, vec![b' '; 20 * 1024 * 1024], 413, "body_too_large").await?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_json() -> Result<()> {
    let tenant = tenant().await?;
    let body = good(&tenant).to_string().into_bytes();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ] {
        let reply = tenant
            .api
            .send(
                Method::POST,
                "/v1/uploads",
                &[("content-type", kind)],
                Some(body.clone()),
            )
            .await?;
        reply.expect_problem(415, "unsupported_content_type")?;
    }
    assert_eq!(tenant.upload_sets().await?, 0);
    Ok(())
}

#[tokio::test]
async fn ids_in_the_path_that_are_none() -> Result<()> {
    let tenant = tenant().await?;
    for id in [
        "1",
        "not-a-uuid",
        "%00",
        "%F0%9F%97%9D",
        "' OR 1=1 --",
        "%2e%2e%2f",
        "0189000000007000800000000000000g",
    ] {
        for path in [
            format!("/v1/attachments/{id}"),
            format!("/v1/uploads/{id}"),
            format!("/v1/attachments/{id}/content"),
        ] {
            tenant
                .api
                .get(&path)
                .await?
                .expect_problem(400, "invalid_id")?;
        }
    }
    for entity in ["Post/1", "post/a%20b", "post/%00", "p%C3%B6st/1"] {
        tenant
            .api
            .get(&format!("/v1/{entity}/attachments"))
            .await?
            .expect_problem(400, "invalid_id")?;
        tenant
            .api
            .delete(&format!("/v1/{entity}"))
            .await?
            .expect_problem(400, "invalid_id")?;
    }
    Ok(())
}

#[tokio::test]
async fn queries_that_make_no_sense() -> Result<()> {
    let tenant = tenant().await?;
    for query in [
        "limit=0",
        "limit=-1",
        "limit=ten",
        "limit=100000",
        "cursor=x",
        "state=purged",
        "colour=red",
        "limit=1&limit=2",
    ] {
        let reply = tenant.api.get(&format!("/v1/attachments?{query}")).await?;
        assert_eq!(reply.status, 400, "{query}");
        let code = reply.code().unwrap_or_default();
        reply.expect_problem(400, &code)?;
    }
    Ok(())
}

#[tokio::test]
async fn places_that_do_not_exist() -> Result<()> {
    let tenant = tenant().await?;
    for path in [
        "/assets/nothing.js",
        "/v1",
        "/v2/attachments",
        "/v1/attachments/x/y/z",
        "/favicon.ico",
        "/v1/%2e%2e/%2e%2e/etc",
    ] {
        tenant
            .api
            .get(path)
            .await?
            .expect_problem(404, "not_found")?;
    }
    Ok(())
}

#[tokio::test]
async fn methods_that_do_not_exist() -> Result<()> {
    let tenant = tenant().await?;
    for (method, path) in [
        (Method::PUT, "/v1/uploads".to_owned()),
        (Method::PATCH, "/v1/attachments".to_owned()),
        (Method::POST, "/healthz".to_owned()),
        (Method::PUT, tenant.post_path()),
    ] {
        let reply = tenant.api.send(method, &path, &[], None).await?;
        reply.expect_problem(405, "method_not_allowed")?;
        assert!(
            reply.header("allow").is_some(),
            "{path} does not say what is allowed"
        );
    }
    Ok(())
}

#[tokio::test]
async fn headers_that_would_bend_the_request_change_nothing() -> Result<()> {
    let tenant = tenant().await?;
    let attachment = tenant.upload_one(PNG).await?;
    let path = attachment_path(&attachment)?;
    let content = format!("{path}/content");
    let good = tenant.api.get(&path).await?;
    for (name, value) in [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-host", "evil.example"),
        ("x-original-url", "/metrics"),
        ("x-rewrite-url", "/metrics"),
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-tenant", "another"),
        ("x-user", "another"),
    ] {
        let bent = tenant.api.get_with(&path, &[(name, value)]).await?;
        assert_eq!(bent.json_if(200)?, good.json()?, "{name}");
        let redirect = tenant.api.get_with(&content, &[(name, value)]).await?;
        redirect.expect(302)?;
        let place = redirect.header("location").unwrap_or_default();
        assert!(
            place.starts_with(&tenant.stack.worker.url()),
            "{name} leads to {place}"
        );
    }
    assert_eq!(tenant.visible().await?, [PNG.name]);
    Ok(())
}

/// Whoever asks has to be known, and what is asked to make sense, before the database has any work.
#[tokio::test]
async fn what_is_refused_asks_no_database() -> Result<()> {
    let mut stack = own_stack().await?;
    let (api, post, good) = {
        let tenant = Tenant::new(&stack).await?;
        let good = good(&tenant);
        (tenant.api, tenant.post, good)
    };
    stack.postgres.kill();
    let down = api.post("/v1/uploads", &good).await?;
    down.expect_problem(503, "database_unavailable")?;
    for bearer in [None, Some("x.y.z")] {
        let anonymous = api.with_bearer(bearer);
        for path in ["/v1/attachments", "/v1/usage", "/metrics"] {
            anonymous.get(path).await?.expect(401)?;
        }
        anonymous.post("/v1/uploads", &good).await?.expect(401)?;
        anonymous
            .delete(&format!("/v1/post/{post}"))
            .await?
            .expect(401)?;
    }
    let mut wrong = good.clone();
    wrong["files"][0]["size"] = json!(0);
    api.post("/v1/uploads", &wrong).await?.expect(422)?;
    api.get("/v1/attachments?limit=0").await?.expect(400)?;
    api.get("/v1/attachments/x").await?.expect(400)
}

#[tokio::test]
async fn every_answer_carries_a_request_id() -> Result<()> {
    let tenant = tenant().await?;
    let good = tenant.api.get("/v1/attachments").await?;
    let bad = tenant.api.get("/v1/attachments/x").await?;
    for reply in [&good, &bad] {
        assert!(
            reply
                .header("x-request-id")
                .is_some_and(|id| !id.is_empty())
        );
    }
    assert_eq!(
        bad.json()?["request_id"].as_str(),
        bad.header("x-request-id")
    );
    Ok(())
}
