//! Bearer tokens: who calls, for which tenant, and what they may do.
//!
//! A token is a JWT (RFC 7519) signed with HS256 by a key of the ring, named by `kid`. The
//! algorithm is pinned: what the header says is compared with it and never obeyed. The tenant and
//! the scopes come from the token alone.

use crate::{app::App, clock, config::TokenSettings, problem::ApiError};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header::AUTHORIZATION, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use keepsake_shared::{ErrorCode, TenantId};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;
use time::OffsetDateTime;

/// Seconds by which the issuer's clock may differ from ours.
const LEEWAY_SECONDS: f64 = 30.0;

/// Longest `sub`, in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// Longest token, in bytes: more than any sensible one, less than what would cost time to refuse.
const MAX_TOKEN_BYTES: usize = 8192;

/// A caller whose token was verified.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The tenant all work is done for.
    pub(crate) tenant: TenantId,
    scopes: Vec<Scope>,
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
    /// See how the service does, across tenants.
    Operate,
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "attachments:read",
            Self::Write => "attachments:write",
            Self::Operate => "attachments:operate",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Operate]
            .into_iter()
            .find(|scope| scope.name() == name)
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
}

/// The protected header, RFC 7515 §4.1.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None is, so its mere presence refuses the token.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// True for a field that is there, whatever it holds.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The claims the worker itself looks at. Times are seconds since the epoch, with or without a
/// fraction.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    scope: String,
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
}

/// `aud` is one string or a list of them (RFC 7519 §4.1.3).
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn includes(&self, wanted: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|one| one == wanted),
        }
    }
}

/// Finds the caller of a request.
///
/// 1. Exactly one `Authorization: Bearer` header; else `Missing`.
/// 2. A compact JWS whose `alg` is HS256, with a known `kid`, no `crit` and a matching signature;
///    else `Invalid`.
/// 3. `exp` is there and not over, `nbf` (if there) has come, both give or take [`LEEWAY_SECONDS`];
///    else `Expired` or `Invalid`.
/// 4. `iss` and `aud` as the settings ask; else `Invalid`.
/// 5. `sub` and `tenant` are there and well formed; else `Invalid` or `NoTenant`.
pub(crate) fn authenticate(
    headers: &HeaderMap,
    settings: &TokenSettings,
    now: OffsetDateTime,
) -> Result<Caller, AuthError> {
    let text = verify(bearer(headers)?, settings)?;
    let claims = read_claims(&text)?;
    check_time(&claims, now)?;
    check_source(&claims, settings)?;
    let subject = claims.sub.unwrap_or_default();
    if subject.is_empty()
        || subject.len() > MAX_SUBJECT_BYTES
        || subject.chars().any(char::is_control)
    {
        return Err(AuthError::Invalid("its sub is missing or not usable"));
    }
    let tenant = claims.tenant.ok_or(AuthError::NoTenant)?;
    Ok(Caller {
        tenant: tenant
            .parse()
            .map_err(|_| AuthError::Invalid("its tenant is not well formed"))?,
        scopes: claims.scope.split(' ').filter_map(Scope::parse).collect(),
        claims: text,
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

/// Checks the signature and answers with the payload's text (RFC 7515 §5.2).
fn verify(token: &str, settings: &TokenSettings) -> Result<String, AuthError> {
    let malformed = AuthError::Invalid("it is not a JWT");
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthError::Invalid("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(malformed)?;
    let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
    if header.alg != "HS256" {
        return Err(AuthError::Invalid("its alg is not HS256"));
    }
    if header.crit {
        return Err(AuthError::Invalid(
            "it has a crit header, and none is understood",
        ));
    }
    let kid = header
        .kid
        .ok_or(AuthError::Invalid("its header names no kid"))?;
    let key = settings
        .keys
        .key(&kid)
        .ok_or(AuthError::Invalid("its kid is not known here"))?;
    if !key.verify(&[signed.as_bytes()], &decode(signature)?) {
        return Err(AuthError::Invalid("its signature does not match"));
    }
    String::from_utf8(decode(payload)?).map_err(|_| malformed)
}

/// Reads the claims, and makes sure that the database can read all of them too: PostgreSQL's jsonb
/// takes no NUL character, no half of a surrogate pair and no number without end, and of a claim that
/// stands twice it takes the last.
fn read_claims(text: &str) -> Result<Claims, AuthError> {
    let unreadable = AuthError::Invalid("one of its claims cannot be read");
    if text.contains("\\u0000") {
        return Err(unreadable);
    }
    serde_json::from_str::<Value>(text).map_err(|_| unreadable)?;
    serde_json::from_str(text).map_err(|_| unreadable)
}

fn check_time(claims: &Claims, now: OffsetDateTime) -> Result<(), AuthError> {
    // A f64 holds every second until the year 285 million exactly.
    let now = now.unix_timestamp() as f64;
    let expires = claims.exp.ok_or(AuthError::Invalid("it has no exp"))?;
    if now >= expires + LEEWAY_SECONDS {
        return Err(AuthError::Expired);
    }
    match claims.nbf {
        Some(begins) if now < begins - LEEWAY_SECONDS => {
            Err(AuthError::Invalid("it is not valid yet"))
        }
        _ => Ok(()),
    }
}

fn check_source(claims: &Claims, settings: &TokenSettings) -> Result<(), AuthError> {
    if settings.issuer.is_some() && claims.iss != settings.issuer {
        return Err(AuthError::Invalid("its iss is not the expected one"));
    }
    match &settings.audience {
        Some(audience) if !claims.aud.includes(audience) => {
            Err(AuthError::Invalid("it was issued for another audience"))
        }
        _ => Ok(()),
    }
}

impl Caller {
    fn require(self, scope: Scope) -> Result<Self, AuthError> {
        if self.scopes.contains(&scope) {
            Ok(self)
        } else {
            Err(AuthError::Scope(scope))
        }
    }
}

/// A caller who may read.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Caller);

/// A caller who may write.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Caller);

/// Somebody who runs the service.
#[derive(Debug)]
pub(crate) struct Operator(pub(crate) Caller);

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(allowed(parts, app, Scope::Read)?))
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(allowed(parts, app, Scope::Write)?))
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self(allowed(parts, app, Scope::Operate)?))
    }
}

fn allowed(parts: &Parts, app: &App, scope: Scope) -> Result<Caller, AuthError> {
    authenticate(&parts.headers, &app.config.tokens, clock::now())?.require(scope)
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let refused = |code, detail: &str, challenge: &'static str| {
            Self::new(code, detail)
                .with_header("www-authenticate", HeaderValue::from_static(challenge))
        };
        match error {
            AuthError::Missing => refused(
                ErrorCode::MissingToken,
                "This needs a token: send it as `Authorization: Bearer <token>`.",
                "Bearer realm=\"keepsake\"",
            ),
            AuthError::Invalid(reason) => refused(
                ErrorCode::InvalidToken,
                &format!("The token was refused: {reason}."),
                "Bearer realm=\"keepsake\", error=\"invalid_token\"",
            ),
            AuthError::Expired => refused(
                ErrorCode::TokenExpired,
                "The token has expired: get a new one and try again.",
                "Bearer realm=\"keepsake\", error=\"invalid_token\"",
            ),
            AuthError::NoTenant => Self::new(
                ErrorCode::MissingTenant,
                "The token names no tenant: its issuer has to put one into the `tenant` claim.",
            ),
            AuthError::Scope(Scope::Read) => refused(
                ErrorCode::InsufficientScope,
                "The token does not allow this: it needs the scope attachments:read.",
                "Bearer realm=\"keepsake\", error=\"insufficient_scope\", scope=\"attachments:read\"",
            ),
            AuthError::Scope(Scope::Write) => refused(
                ErrorCode::InsufficientScope,
                "The token does not allow this: it needs the scope attachments:write.",
                "Bearer realm=\"keepsake\", error=\"insufficient_scope\", scope=\"attachments:write\"",
            ),
            AuthError::Scope(Scope::Operate) => refused(
                ErrorCode::InsufficientScope,
                "The token does not allow this: it needs the scope attachments:operate.",
                "Bearer realm=\"keepsake\", error=\"insufficient_scope\", scope=\"attachments:operate\"",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepsake_shared::KeyRing;
    use serde_json::json;

    const KEYS: &str = "new:bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=,old:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";

    fn settings() -> TokenSettings {
        TokenSettings {
            keys: KEYS.parse().unwrap(),
            issuer: None,
            audience: None,
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
        authenticate(&headers, settings, clock::now())
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
        assert_eq!(caller.claims, good().to_string());
        assert_eq!(caller.scopes, [Scope::Read]);
        assert_eq!(
            caller.require(Scope::Write).unwrap_err(),
            AuthError::Scope(Scope::Write)
        );
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
        let settings = TokenSettings { keys, ..settings() };
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
            authenticate(&headers, &settings(), clock::now()).map(drop)
        };
        let bearer = format!("bearer {}", token(&good()));
        assert_eq!(with(&[&bearer]), Ok(()));
        assert_eq!(with(&[]), Err(AuthError::Missing));
        assert_eq!(with(&["Basic YTpi"]), Err(AuthError::Missing));
        assert_eq!(with(&["Bearer"]), Err(AuthError::Missing));
        assert!(is_invalid(with(&[&bearer, &bearer]).unwrap_err()));
    }
}
