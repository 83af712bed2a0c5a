//! Access tokens in the form that well-known issuers give them, with the settings of their guides in `docs/guides/issuers.md`.

use anyhow::{Context as _, Result};
use keepsake_tests::api::Api;
use keepsake_tests::fixtures::PNG;
use keepsake_tests::stack::Stack;
use keepsake_tests::token::unix_now;
use serde_json::{Map, Value, json};

use crate::issuer::{Issuer, Signer};
use crate::world::{Tenant, own_stack};

/// An issuer's tokens.
struct Shape {
    /// As in the guides' file.
    name: &'static str,
    signer: Signer,
    settings: &'static [(&'static str, &'static str)],
    /// More members of the header.
    header: Value,
    /// The claims beside `iat` and `exp`; of somebody who may write.
    claims: Value,
    /// What of them makes it a token of somebody who may do nothing.
    powerless: Value,
    /// What makes it another token of the same issuer, which is not for access.
    other: Value,
}

/// A token of these claims, some of which are replaced.
fn token(shape: &Shape, changes: &Value) -> Result<String> {
    let now = unix_now();
    let mut header = json!({ "alg": shape.signer.alg(), "kid": "2026-11", "typ": "JWT" });
    let mut claims = json!({ "iat": now, "exp": now + 3600 });
    extend(&mut header, &shape.header);
    extend(&mut claims, &shape.claims);
    extend(&mut claims, changes);
    shape.signer.token_of(&header, &claims)
}

/// Members of an object, added or replaced.
fn extend(target: &mut Value, given: &Value) {
    let given: Map<_, _> = given.as_object().cloned().unwrap_or_default();
    if let Some(target) = target.as_object_mut() {
        target.extend(given);
    }
}

async fn opens(stack: &Stack, tenant: &Tenant<'_>, issuer: &Issuer, shape: &Shape) -> Result<()> {
    issuer.publishes(&[shape.signer.jwk("2026-11")]);
    let url = issuer.url();
    let jwks = [("JWKS_URL", url.as_str())];
    let vars: Vec<_> = jwks.iter().chain(shape.settings).copied().collect();
    let worker = stack.another_worker(shape.name, &vars, None).await?;
    let api = |token: String| Api::new(&worker.url(), Some(token));

    let good = api(token(shape, &json!({}))?)?;
    let attachments = good.upload(tenant.entity(), &[PNG]).await?;
    let attachment = attachments.first().context("no attachment")?;
    let path = format!(
        "/v1/attachments/{}",
        attachment["id"].as_str().unwrap_or_default()
    );
    good.get(&path).await?.expect(200)?;
    good.delete(&path).await?.expect(204)?;

    let powerless = api(token(shape, &shape.powerless)?)?;
    let refused = powerless.get("/v1/attachments").await?;
    refused.expect_problem(403, "insufficient_scope")?;
    let other = api(token(shape, &shape.other)?)?;
    let refused = other.get("/v1/attachments").await?;
    refused.expect_problem(401, "invalid_token")?;
    Ok(())
}

#[tokio::test]
async fn tokens_of_well_known_issuers_open() -> Result<()> {
    let stack = own_stack().await?;
    let tenant = Tenant::new(&stack).await?;
    let issuer = Issuer::start()?;
    for shape in shapes(&tenant.name)? {
        opens(&stack, &tenant, &issuer, &shape)
            .await
            .context(shape.name)?;
    }
    Ok(())
}

fn shapes(tenant: &str) -> Result<Vec<Shape>> {
    Ok(vec![
        auth0(tenant)?,
        clerk(tenant)?,
        cognito(tenant)?,
        entra(tenant)?,
        keycloak(tenant)?,
        supabase(tenant)?,
    ])
}

fn auth0(tenant: &str) -> Result<Shape> {
    Ok(Shape {
        name: "auth0",
        signer: Signer::rsa()?,
        settings: &[
            ("JWT_ISSUER", "https://example.eu.auth0.com/"),
            ("JWT_AUDIENCE", "https://keepsake.example.com"),
            ("JWT_TENANT_CLAIM", "https://example.com/tenant"),
            ("JWT_ROLES_CLAIM", "permissions"),
        ],
        header: json!({}),
        claims: json!({
            "iss": "https://example.eu.auth0.com/",
            "sub": "auth0|65f1c2d3e4a5b60718293a4b",
            "aud": ["https://keepsake.example.com", "https://example.eu.auth0.com/userinfo"],
            "azp": "k3x9QvYh2LmN4pRsT6uVwXyZ0aBcDeFg",
            "scope": "openid profile email",
            "permissions": ["attachments:read", "attachments:write"],
            "https://example.com/tenant": tenant,
        }),
        powerless: json!({ "permissions": [] }),
        other: json!({ "aud": "k3x9QvYh2LmN4pRsT6uVwXyZ0aBcDeFg", "nonce": "n-0S6_WzA2Mj" }),
    })
}

/// A session token, version 2.
fn clerk(tenant: &str) -> Result<Shape> {
    let organization =
        |role: &str| json!({ "id": tenant, "slg": "acme", "rol": role, "per": "read", "fpm": "1" });
    Ok(Shape {
        name: "clerk",
        signer: Signer::rsa()?,
        settings: &[
            ("JWT_ISSUER", "https://clerk.example.com"),
            ("JWT_CLIENT", "https://app.example.com"),
            ("JWT_TENANT_CLAIM", "/o/id"),
            ("JWT_ROLES_CLAIM", "/o/rol"),
            (
                "JWT_ROLES",
                "admin=attachments:read attachments:write, member=attachments:read",
            ),
        ],
        header: json!({ "cat": "cl_B7d4PD111AAA" }),
        claims: json!({
            "iss": "https://clerk.example.com",
            "sub": "user_2abcDEFghiJKLmnoPQRstuVWxyz",
            "azp": "https://app.example.com",
            "nbf": unix_now() - 10,
            "sid": "sess_2abcDEFghiJKLmnoPQRstuVWxyz",
            "sts": "active",
            "fva": [0, -1],
            "v": 2,
            "o": organization("admin"),
        }),
        powerless: json!({ "o": organization("guest") }),
        other: json!({ "azp": "https://evil.example.com" }),
    })
}

/// An access token, to which a pre-token-generation trigger adds the tenant.
fn cognito(tenant: &str) -> Result<Shape> {
    Ok(Shape {
        name: "cognito",
        signer: Signer::rsa()?,
        settings: &[
            (
                "JWT_ISSUER",
                "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_aBcDeFgHi",
            ),
            ("JWT_CLIENT", "1h57kf5cpq17m0eml12EXAMPLE"),
            ("JWT_TENANT_CLAIM", "custom:tenant"),
            ("JWT_ROLES_CLAIM", "cognito:groups"),
            ("JWT_ROLES", "editors=attachments:read attachments:write"),
        ],
        header: json!({}),
        claims: json!({
            "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_aBcDeFgHi",
            "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            "client_id": "1h57kf5cpq17m0eml12EXAMPLE",
            "cognito:groups": ["editors"],
            "version": 2,
            "origin_jti": "b9d50770-bcdf-4d1a-8ad2-1b7d4f5c2e11",
            "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
            "token_use": "access",
            "scope": "aws.cognito.signin.user.admin openid",
            "auth_time": unix_now() - 60,
            "username": "ada",
            "custom:tenant": tenant,
        }),
        powerless: json!({ "cognito:groups": ["readers"] }),
        other: json!({ "token_use": "id", "aud": "1h57kf5cpq17m0eml12EXAMPLE" }),
    })
}

/// An access token of version 2.0, with app roles.
fn entra(tenant: &str) -> Result<Shape> {
    Ok(Shape {
        name: "entra",
        signer: Signer::rsa()?,
        settings: &[
            (
                "JWT_ISSUER",
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
            ),
            ("JWT_AUDIENCE", "6e74172b-be56-4843-9ff4-e66a39bb12e3"),
            ("JWT_TENANT_CLAIM", "extn.tenant"),
            ("JWT_ROLES_CLAIM", "roles"),
            ("JWT_ROLES", "Files.Operator=operator"),
        ],
        header: json!({}),
        claims: json!({
            "iss": "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
            "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
            "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
            "azp": "11112222-bbbb-3333-cccc-4444dddd5555",
            "azpacr": "0",
            "nbf": unix_now() - 10,
            "oid": "aaaabbbb-0000-cccc-1111-dddd2222eeee",
            "preferred_username": "ada@example.com",
            "rh": "0.AYEAspqgJdc",
            "scp": "attachments:read attachments:write",
            "roles": [],
            "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47",
            "extn.tenant": tenant,
            "uti": "dWlH1pX9uEq0",
            "ver": "2.0",
        }),
        powerless: json!({ "scp": "User.Read" }),
        other: json!({ "aud": "11112222-bbbb-3333-cccc-4444dddd5555" }),
    })
}

fn keycloak(tenant: &str) -> Result<Shape> {
    Ok(Shape {
        name: "keycloak",
        signer: Signer::edwards()?,
        settings: &[
            ("JWT_ISSUER", "https://id.example.com/realms/main"),
            ("JWT_AUDIENCE", "keepsake"),
            ("JWT_ROLES_CLAIM", "/realm_access/roles"),
            ("JWT_ROLES", "editor=attachments:read attachments:write"),
        ],
        header: json!({}),
        claims: json!({
            "iss": "https://id.example.com/realms/main",
            "sub": "f1eb1e3a-0b3f-4a0f-8a43-5d1f0c6c7f10",
            "aud": ["keepsake", "account"],
            "typ": "Bearer",
            "azp": "web",
            "sid": "5b3c1f7e-92a7-4a57-9b6d-3f0a5e7b8c9d",
            "acr": "1",
            "realm_access": { "roles": ["offline_access", "editor"] },
            "resource_access": { "account": { "roles": ["view-profile"] } },
            "scope": "openid profile email",
            "email_verified": true,
            "tenant": tenant,
        }),
        powerless: json!({ "realm_access": { "roles": ["offline_access"] } }),
        other: json!({ "typ": "ID", "aud": "keepsake", "at_hash": "MTIzNDU2Nzg5MDEyMzQ1Ng" }),
    })
}

fn supabase(tenant: &str) -> Result<Shape> {
    Ok(Shape {
        name: "supabase",
        signer: Signer::curve()?,
        settings: &[
            (
                "JWT_ISSUER",
                "https://abcdefghijklmnopqrst.supabase.co/auth/v1",
            ),
            ("JWT_AUDIENCE", "authenticated"),
            ("JWT_TENANT_CLAIM", "/app_metadata/tenant_id"),
            ("JWT_ROLES_CLAIM", "role"),
            (
                "JWT_ROLES",
                "authenticated=attachments:read attachments:write",
            ),
        ],
        header: json!({}),
        claims: json!({
            "iss": "https://abcdefghijklmnopqrst.supabase.co/auth/v1",
            "sub": "0b9c1f4e-5d6a-4b7c-8d9e-0f1a2b3c4d5e",
            "aud": "authenticated",
            "email": "ada@example.com",
            "phone": "",
            "app_metadata": { "provider": "email", "providers": ["email"], "tenant_id": tenant },
            "user_metadata": { "tenant_id": "another" },
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{ "method": "password", "timestamp": unix_now() - 60 }],
            "session_id": "7c8d9e0f-1a2b-4c3d-8e4f-5a6b7c8d9e0f",
            "is_anonymous": false,
        }),
        powerless: json!({ "role": "anon" }),
        other: json!({ "iss": "https://other.supabase.co/auth/v1" }),
    })
}
