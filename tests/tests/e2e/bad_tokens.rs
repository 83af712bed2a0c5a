//! Tokens that must open nothing.

use anyhow::Result;
use keepsake_tests::fixtures::PNG;
use keepsake_tests::secrets::KEY_ID;
use keepsake_tests::token::{claims, mint, mint_with_header, unix_now, unsigned};
use serde_json::{Value, json};

use crate::world::{Tenant, tenant};

/// Everything that asks for a token, refused with this status and code.
async fn opens_nothing(
    tenant: &Tenant<'_>,
    bearer: Option<&str>,
    status: u16,
    code: &str,
) -> Result<()> {
    let api = tenant.api.with_bearer(bearer);
    let post = tenant.post_path();
    api.get("/v1/attachments")
        .await?
        .expect_problem(status, code)?;
    api.get(&format!("{post}/attachments"))
        .await?
        .expect_problem(status, code)?;
    api.delete(&post).await?.expect_problem(status, code)?;
    let declared = api.declare(tenant.entity(), &[PNG]).await?;
    declared.expect_problem(status, code)?;
    if status == 401 {
        let challenge = declared.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Bearer"),
            "no challenge: {challenge:?}"
        );
    }
    assert_eq!(
        tenant.upload_sets().await?,
        0,
        "a refused request left a set"
    );
    Ok(())
}

#[tokio::test]
async fn no_token_or_no_token_at_all() -> Result<()> {
    let tenant = tenant().await?;
    opens_nothing(&tenant, None, 401, "missing_token").await?;
    for bearer in ["x", "a.b", "a.b.c", "a.b.c.d", "...", "\u{fffd}"] {
        opens_nothing(&tenant, Some(bearer), 401, "invalid_token").await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_expired_token() -> Result<()> {
    let tenant = tenant().await?;
    let mut claims = claims(&tenant.name, "ada");
    claims["exp"] = json!(unix_now() - 3600);
    let bearer = mint(&claims, &tenant.stack.secrets.jwt_key);
    opens_nothing(&tenant, Some(&bearer), 401, "token_expired").await
}

#[tokio::test]
async fn a_token_without_an_end_or_a_subject() -> Result<()> {
    let tenant = tenant().await?;
    for member in ["exp", "sub"] {
        let mut claims = claims(&tenant.name, "ada");
        claims.as_object_mut().map(|claims| claims.remove(member));
        let bearer = mint(&claims, &tenant.stack.secrets.jwt_key);
        opens_nothing(&tenant, Some(&bearer), 401, "invalid_token").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_of_another_key_or_algorithm() -> Result<()> {
    let tenant = tenant().await?;
    let claims = claims(&tenant.name, "ada");
    let key = &tenant.stack.secrets.jwt_key;
    let bearers = [
        mint(&claims, b"another key that is long enough to be one"),
        mint(&claims, &tenant.stack.secrets.url_key),
        unsigned(&claims),
        mint_with_header(&json!({ "alg": "none", "kid": KEY_ID }), &claims, key),
        mint_with_header(&json!({ "alg": "HS512", "kid": KEY_ID }), &claims, key),
        mint_with_header(&json!({ "alg": "RS256", "kid": KEY_ID }), &claims, key),
        mint_with_header(&json!({ "alg": "HS256", "kid": "other" }), &claims, key),
        mint_with_header(
            &json!({ "alg": "HS256", "kid": KEY_ID, "crit": ["exp"] }),
            &claims,
            key,
        ),
    ];
    for bearer in bearers {
        opens_nothing(&tenant, Some(&bearer), 401, "invalid_token").await?;
    }
    Ok(())
}

#[tokio::test]
async fn claims_changed_after_signing() -> Result<()> {
    let victim = tenant().await?;
    let thief = tenant().await?;
    let key = &thief.stack.secrets.jwt_key;
    let (own, wanted) = (
        mint(&claims(&thief.name, "eve"), key),
        mint(&claims(&victim.name, "eve"), b"x"),
    );
    let own: Vec<&str> = own.split('.').collect();
    let wanted: Vec<&str> = wanted.split('.').collect();
    let forged = format!("{}.{}.{}", own[0], wanted[1], own[2]);
    opens_nothing(&victim, Some(&forged), 401, "invalid_token").await
}

#[tokio::test]
async fn a_token_without_a_tenant() -> Result<()> {
    let tenant = tenant().await?;
    let mut claims = claims(&tenant.name, "ada");
    claims.as_object_mut().map(|claims| claims.remove("tenant"));
    let bearer = mint(&claims, &tenant.stack.secrets.jwt_key);
    opens_nothing(&tenant, Some(&bearer), 403, "missing_tenant").await
}

#[tokio::test]
async fn a_tenant_that_is_none() -> Result<()> {
    let tenant = tenant().await?;
    for name in [
        json!(""),
        json!("a/b"),
        json!("a' OR true --"),
        json!(["acme"]),
        json!(7),
    ] {
        let mut claims = claims(&tenant.name, "ada");
        claims["tenant"] = name.clone();
        let bearer = mint(&claims, &tenant.stack.secrets.jwt_key);
        let reply = tenant
            .api
            .with_bearer(Some(&bearer))
            .get("/v1/attachments")
            .await?;
        assert!(
            matches!(reply.status, 401 | 403),
            "{name} got {}",
            reply.status
        );
        reply.expect_problem(reply.status, &reply.code().unwrap_or_default())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_may_not_write_and_a_writer_may_not_read() -> Result<()> {
    let tenant = tenant().await?;
    let with_scope = |scope: Value| {
        let mut claims = claims(&tenant.name, "ada");
        claims["scope"] = scope;
        mint(&claims, &tenant.stack.secrets.jwt_key)
    };
    let reader = tenant
        .api
        .with_bearer(Some(&with_scope(json!("attachments:read"))));
    reader.get("/v1/attachments").await?.expect(200)?;
    reader
        .declare(tenant.entity(), &[PNG])
        .await?
        .expect_problem(403, "insufficient_scope")?;
    reader
        .delete(&tenant.post_path())
        .await?
        .expect_problem(403, "insufficient_scope")?;

    let writer = tenant
        .api
        .with_bearer(Some(&with_scope(json!("attachments:write"))));
    writer
        .get("/v1/attachments")
        .await?
        .expect_problem(403, "insufficient_scope")?;
    writer.declare(tenant.entity(), &[PNG]).await?.expect(201)?;

    let neither = tenant
        .api
        .with_bearer(Some(&with_scope(json!("openid attachments:readonly"))));
    neither
        .get("/v1/attachments")
        .await?
        .expect_problem(403, "insufficient_scope")?;
    Ok(())
}
