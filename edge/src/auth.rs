//! Bearer tokens: who calls, for which tenant, and what they may do.
//!
//! A token is a JWT (RFC 7519) signed with HS256 by a key of the ring, or with RS256 or ES256 by a
//! public key of the issuer's JWKS, named by `kid`. The kind of key decides the algorithm: what the
//! header says only chooses among keys of that kind, so that no public key ever serves as a secret.
//! The tenant and the scopes come from the token alone.

mod claims;
mod jwks;
mod key_cache;
mod token;
mod webcrypto;

use crate::{app::App, clock, config::TokenSettings, problem::ApiError};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION, request::Parts},
};
use claims::Claims;
use keepsake_shared::{ErrorCode, TenantId};
use time::OffsetDateTime;
use token::{Algorithm, Token};
use worker::send::SendFuture;

/// A caller whose token was verified.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The tenant all work is done for.
    pub(crate) tenant: TenantId,
    /// Who it is within the tenant.
    pub(crate) subject: String,
    /// The verified claims as JSON text, for `request.jwt.claims` in the database.
    pub(crate) claims: String,
}

/// What a token may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// List, look at and download.
    Read,
    /// Upload, delete and restore.
    Write,
    /// Read the numbers that an operator watches, of all tenants.
    Metrics,
    /// See what waits and what failed, of all tenants, and mend it; read the numbers, too.
    Operator,
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "attachments:read",
            Self::Write => "attachments:write",
            Self::Metrics => "metrics",
            Self::Operator => "operator",
        }
    }
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthError {
    /// No `Authorization: Bearer` header.
    Missing,
    /// A token that is not ours, with the reason.
    Invalid(&'static str),
    /// A token whose time is over.
    Expired,
    /// A good token that names no tenant.
    NoTenant,
    /// A good token that does not allow this.
    Scope(Scope),
    /// The issuer's keys cannot be had, so that nothing is known of the token.
    NoKeys,
}

/// A token that is genuine, of this time, and from the right issuer.
struct Verified {
    claims: Claims,
    text: String,
}

/// Verifies the token of a request.
///
/// 1. Exactly one `Authorization: Bearer` header; else `Missing`.
/// 2. A compact JWS with a known `kid` for its `alg`, no `crit` and a matching signature; else
///    `Invalid`, or `NoKeys` when the issuer's keys cannot be had.
/// 3. `exp` is there and not over, `nbf` (if there) has come, both give or take the leeway; else
///    `Expired` or `Invalid`.
/// 4. `iss` and `aud` as the settings ask; else `Invalid`.
async fn verify(
    headers: &HeaderMap,
    settings: &TokenSettings,
    now: OffsetDateTime,
) -> Result<Verified, AuthError> {
    let token = Token::parse(bearer(headers)?)?;
    if !is_genuine(&token, settings).await? {
        return Err(AuthError::Invalid("its signature does not match"));
    }
    let claims = Claims::read(&token.payload)?;
    claims.check_time(settings, now)?;
    claims.check_source(settings)?;
    Ok(Verified {
        claims,
        text: token.payload,
    })
}

fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Invalid("more than one Authorization header"));
    }
    let text = value
        .to_str()
        .map_err(|_| AuthError::Invalid("the Authorization header is not plain text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(AuthError::Missing),
    }
}

/// Checks the signature (RFC 7515 §5.2): HS256 by the ring, the others by the JWKS, and neither ever
/// by a key of the other.
async fn is_genuine(token: &Token<'_>, settings: &TokenSettings) -> Result<bool, AuthError> {
    let not_accepted = AuthError::Invalid("its alg is not accepted here");
    let (signed, signature) = (token.signed.as_bytes(), token.signature.as_slice());
    match token.algorithm {
        Algorithm::Hs256 => settings
            .keys
            .as_ref()
            .ok_or(not_accepted)?
            .key(&token.kid)
            .map(|key| key.verify(&[signed], signature))
            .ok_or(AuthError::Invalid("its kid is not known here")),
        Algorithm::Rs256 | Algorithm::Es256 => {
            let jwks = settings.jwks.as_ref().ok_or(not_accepted)?;
            let key = key_cache::find(token, jwks).await?;
            webcrypto::verify(&key, signed, signature)
                .await
                .map_err(|_| AuthError::Invalid("the key of its kid is not usable"))
        }
    }
}

impl Verified {
    fn require(self, scope: Scope) -> Result<Self, AuthError> {
        let allows = |name: &str| {
            name == scope.name() || (scope == Scope::Metrics && name == Scope::Operator.name())
        };
        if self.claims.scope.split(' ').any(allows) {
            Ok(self)
        } else {
            Err(AuthError::Scope(scope))
        }
    }

    /// Who calls: `sub` and `tenant` are there and well formed; else `Invalid` or `NoTenant`.
    fn caller(self) -> Result<Caller, AuthError> {
        self.claims.check_subject()?;
        let tenant = self.claims.tenant.as_deref().ok_or(AuthError::NoTenant)?;
        Ok(Caller {
            tenant: tenant
                .parse()
                .map_err(|_| AuthError::Invalid("its tenant is not well formed"))?,
            subject: self.claims.into_subject(),
            claims: self.text,
        })
    }
}

/// A caller who may read.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Caller);

/// A caller who may write.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Caller);

/// Somebody who may read the metrics. No tenant's business, so the token needs to name none.
#[derive(Debug)]
pub(crate) struct Watcher;

/// Somebody who keeps the whole deployment running: who it is, for the record. The token needs to
/// name no tenant.
#[derive(Debug)]
pub(crate) struct Operator(pub(crate) String);

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(caller(parts, app, Scope::Read).await?))
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(caller(parts, app, Scope::Write).await?))
    }
}

impl FromRequestParts<App> for Watcher {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        verified(parts, app).await?.require(Scope::Metrics)?;
        Ok(Self)
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let operator = verified(parts, app).await?.require(Scope::Operator)?;
        operator.claims.check_subject()?;
        Ok(Self(operator.claims.into_subject()))
    }
}

/// Counts the caller's requests once it is known who calls. A token without a tenant is refused as
/// such before what it may do is looked at.
async fn caller(parts: &Parts, app: &App, scope: Scope) -> Result<Caller, ApiError> {
    let verified = verified(parts, app).await?;
    if verified.claims.tenant.is_none() {
        return Err(AuthError::NoTenant.into());
    }
    let caller = verified.require(scope)?.caller()?;
    app.expect_database();
    app.limits().caller(&caller).await?;
    Ok(caller)
}

/// Who sends tokens that are none is counted by address.
async fn verified(parts: &Parts, app: &App) -> Result<Verified, ApiError> {
    let verified = verify(&parts.headers, &app.config.tokens, clock::now());
    match SendFuture::new(verified).await {
        Ok(verified) => Ok(verified),
        Err(error) => {
            app.limits().anonymous(&parts.headers).await?;
            Err(error.into())
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let refused = |code, detail: &str, challenge: &str| {
            let refused = Self::new(code, detail);
            match HeaderValue::from_str(&format!("Bearer realm=\"keepsake\"{challenge}")) {
                Ok(challenge) => refused.with_header("www-authenticate", challenge),
                Err(_) => refused,
            }
        };
        match error {
            AuthError::Missing => refused(
                ErrorCode::MissingToken,
                "This needs a token: send it as `Authorization: Bearer <token>`.",
                "",
            ),
            AuthError::Invalid(reason) => refused(
                ErrorCode::InvalidToken,
                &format!("The token was refused: {reason}."),
                ", error=\"invalid_token\"",
            ),
            AuthError::Expired => refused(
                ErrorCode::TokenExpired,
                "The token has expired: get a new one and try again.",
                ", error=\"invalid_token\"",
            ),
            AuthError::NoTenant => Self::new(
                ErrorCode::MissingTenant,
                "The token names no tenant: its issuer has to put one into the `tenant` claim.",
            ),
            AuthError::Scope(scope) => refused(
                ErrorCode::InsufficientScope,
                &format!(
                    "The token does not allow this: it needs the scope {}.",
                    scope.name()
                ),
                &format!(", error=\"insufficient_scope\", scope=\"{}\"", scope.name()),
            ),
            AuthError::NoKeys => Self::new(
                ErrorCode::KeysUnavailable,
                "The keys that verify the token cannot be had just now: try again in a moment.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use futures_util::FutureExt;
    use keepsake_shared::KeyRing;
    use serde_json::{Value, json};
    use token::MAX_TOKEN_BYTES;

    const KEYS: &str = "new:bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=,old:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";

    fn settings() -> TokenSettings {
        TokenSettings {
            keys: Some(KEYS.parse().unwrap()),
            jwks: None,
            issuer: None,
            audience: None,
            leeway: 30,
        }
    }

    fn now() -> i64 {
        clock::now().unix_timestamp()
    }

    fn good() -> Value {
        json!({ "sub": "ann", "tenant": "acme", "exp": now() + 60, "scope": "attachments:read openid" })
    }

    /// `good()` with one claim replaced, or dropped by `null`.
    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        let object = claims.as_object_mut().unwrap();
        object.insert(name.to_owned(), value);
        object.retain(|_, value| !value.is_null());
        claims
    }

    fn signed(header: &Value, payload: &str) -> String {
        let keys: KeyRing = KEYS.parse().unwrap();
        let key = keys
            .key(header["kid"].as_str().unwrap_or("new"))
            .or(keys.key("new"))
            .unwrap();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let mac = URL_SAFE_NO_PAD.encode(key.sign(&[signed.as_bytes()]));
        format!("{signed}.{mac}")
    }

    fn token(claims: &Value) -> String {
        signed(
            &json!({ "alg": "HS256", "kid": "new" }),
            &claims.to_string(),
        )
    }

    fn check(token: &str, settings: &TokenSettings) -> Result<Caller, AuthError> {
        let headers =
            HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        authenticate(&headers, settings)
    }

    /// Whoever it is, whatever they may do.
    fn authenticate(headers: &HeaderMap, settings: &TokenSettings) -> Result<Caller, AuthError> {
        verify(headers, settings, clock::now())
            .now_or_never()
            .unwrap()?
            .caller()
    }

    fn refusal(claims: Value) -> AuthError {
        check(&token(&claims), &settings()).unwrap_err()
    }

    fn is_invalid(error: AuthError) -> bool {
        matches!(error, AuthError::Invalid(_))
    }

    #[test]
    fn lets_a_good_token_in_with_what_it_allows() {
        let caller = check(&token(&good()), &settings()).unwrap();
        assert_eq!(caller.tenant.as_str(), "acme");
        assert_eq!(caller.subject, "ann");
        assert_eq!(caller.claims, good().to_string());
        let allows = |scope| {
            let text = good().to_string();
            let claims = Claims::read(&text).unwrap();
            Verified { claims, text }.require(scope).map(drop)
        };
        assert_eq!(allows(Scope::Read), Ok(()));
        for scope in [Scope::Write, Scope::Metrics] {
            assert_eq!(allows(scope), Err(AuthError::Scope(scope)));
        }
    }

    #[test]
    fn takes_tokens_of_every_key_of_the_ring() {
        let old = signed(
            &json!({ "alg": "HS256", "kid": "old" }),
            &good().to_string(),
        );
        assert!(check(&old, &settings()).is_ok());
    }

    /// RFC 7515, appendix A.1: the header and payload are JSON with line breaks, and there is no
    /// `kid`.
    #[test]
    fn computes_the_mac_of_rfc_7515() {
        let key = "a:AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let mac = URL_SAFE_NO_PAD
            .decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
            .unwrap();
        let keys: KeyRing = key.parse().unwrap();
        assert!(keys.key("a").unwrap().verify(&[signed.as_bytes()], &mac));
        let settings = TokenSettings {
            keys: Some(keys),
            ..settings()
        };
        let token = format!("{signed}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(
            check(&token, &settings).unwrap_err(),
            AuthError::Invalid("its header names no kid")
        );
    }

    #[test]
    fn obeys_no_header_but_its_own_rule() {
        let claims = good().to_string();
        for header in [
            json!({ "alg": "none", "kid": "new" }),
            json!({ "alg": "None", "kid": "new" }),
            json!({ "alg": "hs256", "kid": "new" }),
            json!({ "alg": "HS512", "kid": "new" }),
            json!({ "alg": "RS256", "kid": "new" }),
            json!({ "alg": "ES256", "kid": "new" }),
            json!({ "alg": "PS256", "kid": "new" }),
            json!({ "alg": "EdDSA", "kid": "new" }),
            json!({ "kid": "new" }),
            json!({ "alg": "HS256" }),
            json!({ "alg": "HS256", "kid": "gone" }),
            json!({ "alg": "HS256", "kid": "old", "crit": ["exp"], "exp": 1 }),
            json!({ "alg": "HS256", "kid": "new", "crit": null }),
            json!({ "alg": "HS256", "kid": 1 }),
            json!([]),
        ] {
            let error = check(&signed(&header, &claims), &settings()).unwrap_err();
            assert!(is_invalid(error), "{header}");
        }
    }

    #[test]
    fn refuses_what_was_altered() {
        let good = token(&good());
        let (signed, mac) = good.rsplit_once('.').unwrap();
        let (header, payload) = signed.split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "kid": "new" }).to_string());
        for token in [
            String::new(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{signed}."),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{mac}"),
            format!("{header}.{payload}x.{mac}"),
            format!("{good}.x"),
            format!("{good}="),
            format!("{signed}.{}", &mac[..40]),
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
            "x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert!(
                is_invalid(check(&token, &settings()).unwrap_err()),
                "{token}"
            );
        }
    }

    #[test]
    fn keeps_the_time() {
        assert_eq!(refusal(with("exp", json!(now() - 30))), AuthError::Expired);
        assert_eq!(refusal(with("exp", json!(-1e300))), AuthError::Expired);
        assert!(check(&token(&with("exp", json!(now() - 29))), &settings()).is_ok());
        assert!(check(&token(&with("exp", json!(now() as f64 + 0.5))), &settings()).is_ok());
        assert!(check(&token(&with("nbf", json!(now() + 30))), &settings()).is_ok());
        let patient = TokenSettings {
            leeway: 300,
            ..settings()
        };
        for (name, seconds) in [("exp", -299), ("nbf", 300)] {
            let claims = with(name, json!(now() + seconds));
            assert!(
                check(&token(&claims), &patient).is_ok(),
                "minutes off: {name}"
            );
        }
        for (name, value) in [
            ("nbf", json!(now() + 31)),
            ("exp", Value::Null),
            ("exp", json!("2030")),
            ("exp", json!([])),
        ] {
            assert!(is_invalid(refusal(with(name, value))), "{name}");
        }
    }

    #[test]
    fn needs_a_usable_subject_and_tenant() {
        for subject in [
            Value::Null,
            json!(""),
            json!("a\nb"),
            json!("x".repeat(256)),
            json!(7),
        ] {
            assert!(is_invalid(refusal(with("sub", subject))));
        }
        assert_eq!(refusal(with("tenant", Value::Null)), AuthError::NoTenant);
        for tenant in [
            json!(""),
            json!("../x"),
            json!("a b"),
            json!("x".repeat(65)),
            json!(1),
        ] {
            assert!(is_invalid(refusal(with("tenant", tenant))));
        }
    }

    #[test]
    fn refuses_claims_the_database_could_misread() {
        let good = good().to_string();
        for first in [
            "\"tenant\":\"other\"",
            "\"role\":\"a\\u0000b\"",
            "\"role\":\"\\ud800\"",
            "\"role\":1e999",
        ] {
            let claims = good.replacen('{', &format!("{{{first},"), 1);
            let token = signed(&json!({ "alg": "HS256", "kid": "new" }), &claims);
            assert!(
                is_invalid(check(&token, &settings()).unwrap_err()),
                "{first}"
            );
        }
    }

    #[test]
    fn asks_for_issuer_and_audience_when_told_to() {
        let strict = TokenSettings {
            issuer: Some("https://id.example.com".to_owned()),
            audience: Some("keepsake".to_owned()),
            ..settings()
        };
        let claims = |iss: Value, aud: Value| {
            let mut claims = with("iss", iss);
            claims["aud"] = aud;
            token(&claims)
        };
        let issuer = json!("https://id.example.com");
        for audience in [json!("keepsake"), json!(["other", "keepsake"])] {
            assert!(check(&claims(issuer.clone(), audience), &strict).is_ok());
        }
        for (issuer, audience) in [
            (Value::Null, json!("keepsake")),
            (json!("https://evil.example.com"), json!("keepsake")),
            (issuer.clone(), json!("other")),
            (issuer.clone(), json!([])),
            (issuer, json!({})),
        ] {
            assert!(is_invalid(
                check(&claims(issuer, audience), &strict).unwrap_err()
            ));
        }
        assert!(is_invalid(check(&token(&good()), &strict).unwrap_err()));
    }

    #[test]
    fn wants_exactly_one_bearer_header() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            authenticate(&headers, &settings()).map(drop)
        };
        let bearer = format!("bearer {}", token(&good()));
        assert_eq!(with(&[&bearer]), Ok(()));
        assert_eq!(with(&[]), Err(AuthError::Missing));
        assert_eq!(with(&["Basic YTpi"]), Err(AuthError::Missing));
        assert_eq!(with(&["Bearer"]), Err(AuthError::Missing));
        assert!(is_invalid(with(&[&bearer, &bearer]).unwrap_err()));
    }
}
