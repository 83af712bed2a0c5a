//! Tokens that must open nothing.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keepsake_tests::fixtures::PNG;
use keepsake_tests::secrets::KEY_ID;
use keepsake_tests::token::{claims, mint, mint_with_header, unix_now, unsigned};
use serde_json::{Value, json};
use sha2::Sha256;

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
        json!(-7),
        json!(7.5),
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

#[tokio::test]
async fn a_token_that_is_for_something_else() -> Result<()> {
    let tenant = tenant().await?;
    let key = &tenant.stack.secrets.jwt_key;
    let good = claims(&tenant.name, "ada");
    for typ in [
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "application/dpop+jwt",
        "JOSE",
    ] {
        let header = json!({ "alg": "HS256", "kid": KEY_ID, "typ": typ });
        let bearer = mint_with_header(&header, &good, key);
        opens_nothing(&tenant, Some(&bearer), 401, "invalid_token").await?;
    }
    for (name, value) in [
        ("at_hash", json!("x")),
        ("events", json!({})),
        ("htu", json!("x")),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        opens_nothing(&tenant, Some(&mint(&claims, key)), 401, "invalid_token").await?;
    }
    for typ in ["at+jwt", "application/at+JWT"] {
        let header = json!({ "alg": "HS256", "kid": KEY_ID, "typ": typ });
        let api = tenant
            .api
            .with_bearer(Some(&mint_with_header(&header, &good, key)));
        api.get("/v1/attachments").await?.expect(200)?;
    }
    Ok(())
}

/// A token with these claims as they stand, signed well.
fn written(claims: &str, key: &[u8]) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": "HS256", "kid": KEY_ID }).to_string();
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(&signed).finalize().into_bytes());
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(mac.unwrap_or_default())
    )
}

#[tokio::test]
async fn odd_claims_are_refused_or_reach_the_database_whole() -> Result<()> {
    let tenant = tenant().await?;
    let key = &tenant.stack.secrets.jwt_key;
    let good = claims(&tenant.name, "ada").to_string();
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let now = unix_now();
    let milliseconds = format!("{now}000");
    let fraction = format!("{}.5", now + 60);
    let past = format!("{}.5", now - 600);
    // A claim as it is written, and what it comes to.
    let cases = [
        ("number", "1e-200000", Some("invalid_token")),
        ("number", "1E+400000", Some("invalid_token")),
        (
            "number",
            "-0.0e-99999999999999999999",
            Some("invalid_token"),
        ),
        ("number", "1e308", None),
        ("number", "5e-324", None),
        ("number", "-0.0", None),
        ("number", "123456789012345678901234567890.123456789", None),
        ("text", r#""\u0000""#, Some("invalid_token")),
        ("text", r#""\ud800""#, Some("invalid_token")),
        ("text", r#""\\u0000""#, None),
        ("text", r#""C:\\u0000\\""#, None),
        ("text", r#"{"\u0000":1}"#, Some("invalid_token")),
        ("twice", r#"1,"twice":1"#, Some("invalid_token")),
        ("twice", r#"{"a":1,"a":1}"#, Some("invalid_token")),
        ("tenant", "\"other\"", Some("invalid_token")),
        ("deep", deep.as_str(), Some("invalid_token")),
        ("exp", "1e300", Some("invalid_token")),
        ("exp", milliseconds.as_str(), Some("invalid_token")),
        ("exp", "\"9999999999\"", Some("invalid_token")),
        ("exp", "null", Some("invalid_token")),
        ("exp", "true", Some("invalid_token")),
        ("exp", "-1", Some("token_expired")),
        ("exp", "-1e300", Some("token_expired")),
        ("exp", "0", Some("token_expired")),
        ("exp", past.as_str(), Some("token_expired")),
        ("exp", fraction.as_str(), None),
        ("nbf", "1e300", Some("invalid_token")),
        ("nbf", "\"1\"", Some("invalid_token")),
        ("nbf", "1.5", None),
        ("iat", "[]", Some("invalid_token")),
        ("scope", "[\"attachments:read\"]", None),
        ("scope", "[7]", Some("invalid_token")),
        ("sub", "7", Some("invalid_token")),
    ];
    for (name, value, refused) in cases {
        let mut others: Value = serde_json::from_str(&good)?;
        if name != "tenant" {
            others.as_object_mut().map(|claims| claims.remove(name));
        }
        let text = others
            .to_string()
            .replacen('{', &format!("{{\"{name}\":{value},"), 1);
        let api = tenant.api.with_bearer(Some(&written(&text, key)));
        let reply = api.get("/v1/attachments").await?;
        match refused {
            Some(code) => drop(reply.expect_problem(401, code).context(text)?),
            None => reply.expect(200).context(text)?,
        }
    }
    Ok(())
}
