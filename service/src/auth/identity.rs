//! Who a request comes from, by its bearer token.

use super::{
    AuthError,
    claims::Claims,
    key_cache,
    token::{Algorithm, Token},
};
use crate::{
    clock,
    config::TokenSettings,
    model::{Caller, Scope},
    runtime,
};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use keepsake_shared::TenantId;
use time::OffsetDateTime;

/// A token that is genuine, of this time, and from the right issuer.
#[derive(Debug, Clone)]
struct Verified {
    claims: Claims,
    text: String,
}

/// Who asks, as far as it is known before anything is asked for. It rides along with the request.
#[derive(Debug, Clone)]
pub(crate) struct Identity(Result<Verified, AuthError>);

impl Identity {
    /// Looks at the token of a request, if it has one.
    pub(crate) async fn of(headers: &HeaderMap, settings: &TokenSettings) -> Self {
        Self(verify(headers, settings, clock::now()).await)
    }

    /// Looks at a token that came in another place than a header.
    pub(crate) async fn of_token(token: &str, settings: &TokenSettings) -> Self {
        Self(verify_token(token, settings, clock::now()).await)
    }

    /// Whether no token came with the request.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.0, Err(AuthError::Missing))
    }

    /// The one name under which all requests of a caller are counted, whatever they may do; `None` for who has no good
    /// token.
    pub(crate) fn name(&self) -> Option<String> {
        let claims = &self.0.as_ref().ok()?.claims;
        claims.check_subject().ok()?;
        let tenant = match &claims.tenant {
            Some(name) => Some(name.parse::<TenantId>().ok()?),
            None => None,
        };
        // No tenant has an empty name.
        let tenant = tenant.as_ref().map_or("", TenantId::as_str);
        Some(format!("{tenant}/{}", claims.subject()))
    }

    /// The caller, if the token allows this. A token without a tenant is refused as such before its scopes are checked.
    ///
    /// # Errors
    /// Why nobody may do this with it.
    pub(crate) fn caller(self, scope: Scope) -> Result<Caller, AuthError> {
        let verified = self.0?;
        if verified.claims.tenant.is_none() {
            return Err(AuthError::NoTenant);
        }
        verified.require(scope)?.caller()
    }

    /// Checks that the token allows this, whatever tenant it names.
    ///
    /// # Errors
    /// Why nobody may do this with it.
    pub(crate) fn require(self, scope: Scope) -> Result<(), AuthError> {
        self.0?.require(scope).map(|_| ())
    }

    /// The token's subject, if it allows this, whatever tenant it names.
    ///
    /// # Errors
    /// Why nobody may do this with it.
    pub(crate) fn subject(self, scope: Scope) -> Result<String, AuthError> {
        let verified = self.0?.require(scope)?;
        verified.claims.check_subject()?;
        Ok(verified.claims.subject().to_owned())
    }

    /// Whether this caller has anything to ask the database for.
    pub(crate) fn may_ask(&self) -> bool {
        self.0.as_ref().is_ok_and(|verified| {
            verified.claims.tenant.is_some()
                && [Scope::Read, Scope::Write].map(|scope| verified.claims.allows(scope))
                    != [false; 2]
        })
    }
}

/// Verifies the token of a request.
///
/// 1. Exactly one `Authorization: Bearer` header; else `Missing`.
/// 2. A compact JWS with a known key for its `alg`, no `crit` and a matching signature; else
///    `Invalid`, or `NoKeys` or `UnusableKeys` when the issuer's keys cannot be had.
/// 3. `exp` is there and not over, `nbf` (if there) has come, both give or take the leeway; else
///    `Expired` or `Invalid`.
/// 4. `iss` and `aud` as the settings ask; else `Invalid`.
async fn verify(
    headers: &HeaderMap,
    settings: &TokenSettings,
    now: OffsetDateTime,
) -> Result<Verified, AuthError> {
    verify_token(bearer(headers)?, settings, now).await
}

/// The steps of [`verify`] behind the first.
async fn verify_token(
    token: &str,
    settings: &TokenSettings,
    now: OffsetDateTime,
) -> Result<Verified, AuthError> {
    let token = Token::parse(token)?;
    if !is_genuine(&token, settings).await? {
        return Err(AuthError::Invalid("its signature does not match"));
    }
    let (claims, text) = Claims::read(token.payload, settings)?;
    claims.check_time(settings, now)?;
    claims.check_source(settings)?;
    Ok(Verified { claims, text })
}

fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Invalid("more than one Authorization header"));
    }
    let text = value
        .to_str()
        .map_err(|_| AuthError::Invalid("the Authorization header is not ASCII text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(AuthError::Missing),
    }
}

/// Checks the signature (RFC 7515 §5.2): HS256 by the ring, the others by the JWKS, and neither ever
/// by a key of the other.
async fn is_genuine(token: &Token<'_>, settings: &TokenSettings) -> Result<bool, AuthError> {
    let not_accepted = AuthError::Invalid("its alg is not accepted");
    let (signed, signature) = (token.signed.as_bytes(), token.signature.as_slice());
    match token.algorithm {
        Algorithm::Hs256 => {
            let keys = settings.keys.as_ref().ok_or(not_accepted)?;
            let kid = token.kid.as_deref().ok_or(key_cache::UNNAMED)?;
            keys.key(kid)
                .map(|key| key.verify(&[signed], signature))
                .ok_or(key_cache::UNKNOWN)
        }
        Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => {
            let jwks = settings.jwks.as_ref().ok_or(not_accepted)?;
            let key = key_cache::find(token, jwks).await?;
            runtime::current()
                .verify(key.signed(signed, signature))
                .await
                .map_err(|_| AuthError::Invalid("the key with its kid is unusable"))
        }
    }
}

impl Verified {
    fn require(self, scope: Scope) -> Result<Self, AuthError> {
        let operates = scope == Scope::Metrics && self.claims.allows(Scope::Operator);
        if operates || self.claims.allows(scope) {
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
                .map_err(|_| AuthError::Invalid("its tenant claim is malformed"))?,
            claims: self.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::token::MAX_TOKEN_BYTES, config::Claim};
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use futures_util::FutureExt;
    use keepsake_shared::KeyRing;
    use serde_json::{Value, json};

    const KEYS: &str = "new:bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=,old:b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2w=";

    fn settings() -> TokenSettings {
        TokenSettings {
            keys: Some(KEYS.parse().unwrap()),
            jwks: None,
            issuer: None,
            audience: None,
            client: None,
            tenant_claim: Claim::default(),
            roles_claim: None,
            roles: Vec::new(),
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
        assert_eq!(caller.claims, good().to_string());
        let allows = |scope| {
            let text = good().to_string();
            let (claims, text) = Claims::read(text, &settings()).unwrap();
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
            AuthError::Invalid("its header has no kid")
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
    fn takes_access_tokens_by_their_kind() {
        let claims = good().to_string();
        let with_typ = |typ: Value| {
            let header = json!({ "alg": "HS256", "kid": "new", "typ": typ });
            check(&signed(&header, &claims), &settings())
        };
        for typ in [
            "JWT",
            "jwt",
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "Application/AT+jwt",
            "application/jwt",
        ] {
            assert!(with_typ(json!(typ)).is_ok(), "{typ}");
        }
        for typ in [
            json!("logout+jwt"),
            json!("dpop+jwt"),
            json!("DPoP+JWT"),
            json!("secevent+jwt"),
            json!("application/secevent+jwt"),
            json!("id_token+jwt"),
            json!("client-authentication+jwt"),
            json!("oauth-authz-req+jwt"),
            json!("token-introspection+jwt"),
            json!("JOSE"),
            json!("JWE"),
            json!("text/jwt"),
            json!("application/application/jwt"),
            json!("at+jwt; charset=utf-8"),
            json!(" JWT"),
            json!(""),
            json!(null),
            json!(7),
            json!(["JWT"]),
        ] {
            assert!(is_invalid(with_typ(typ.clone()).unwrap_err()), "{typ}");
        }
    }

    /// Claims of tokens that an issuer signs with the same key, and whose header need not say what they are.
    #[test]
    fn takes_no_token_that_is_for_something_else() {
        let event = "http://schemas.openid.net/event/backchannel-logout";
        for (name, value) in [
            ("at_hash", json!("MTIzNDU2Nzg5MDEyMzQ1Ng")),
            ("c_hash", json!("LDktKdoQak3Pk0cnXxCltA")),
            ("s_hash", json!("LDktKdoQak3Pk0cnXxCltA")),
            ("events", json!({ event: {} })),
            ("htm", json!("GET")),
            ("htu", json!("https://keepsake.example.com/v1/usage")),
            ("typ", json!("ID")),
            ("typ", json!("Refresh")),
            ("typ", json!("offline")),
            ("typ", json!("Logout")),
            ("token_use", json!("id")),
        ] {
            assert!(is_invalid(refusal(with(name, value))), "{name}");
        }
        for (name, value) in [
            // Some issuers put it into access tokens, too.
            ("nonce", json!("n-0S6_WzA2Mj")),
            ("typ", json!("Bearer")),
            ("token_use", json!("access")),
            ("auth_time", json!(now())),
            ("azp", json!("app")),
            ("events", Value::Null),
        ] {
            assert!(
                check(&token(&with(name, value)), &settings()).is_ok(),
                "{name}"
            );
        }
        let mut id_token = with("nonce", json!("n-0S6_WzA2Mj"));
        id_token.as_object_mut().unwrap().remove("scope");
        assert!(is_invalid(refusal(id_token)));
    }

    #[test]
    fn odd_claims_are_refused_as_what_they_are() {
        for (name, value) in [
            ("exp", json!(1e300)),
            ("exp", json!(now() * 1000)),
            ("exp", json!(253_402_300_800_i64)),
            ("exp", json!(true)),
            ("exp", json!({})),
            ("exp", json!("")),
            ("exp", json!("9999999999")),
            ("nbf", json!(1e300)),
            ("nbf", json!("1")),
            ("nbf", json!([1])),
            ("iat", json!("2026-01-01")),
            ("iat", json!({})),
            ("sub", json!("a\u{0}b")),
            ("sub", json!(["ann"])),
            ("scope", json!(["attachments:read", 7])),
            ("scope", json!(7)),
            ("scp", json!({})),
            ("iss", json!({})),
            ("aud", json!(7)),
            ("aud", json!([7])),
            ("role", json!("a\u{0}b")),
            ("deep", json!([[[["\u{0}"]]]])),
        ] {
            assert!(
                is_invalid(refusal(with(name, value.clone()))),
                "{name} {value}"
            );
        }
        for exp in [
            json!(-1),
            json!(0),
            json!(-1e300),
            json!(-0.5),
            json!(i64::MIN),
        ] {
            assert_eq!(
                refusal(with("exp", exp.clone())),
                AuthError::Expired,
                "{exp}"
            );
        }
        for (name, value) in [
            ("exp", json!(253_402_300_799_i64)),
            ("exp", json!(now() as f64 + 0.25)),
            ("nbf", json!(now() as f64 - 0.25)),
            ("nbf", json!(-1)),
            ("iat", json!(now() as f64 + 0.5)),
            // Six characters, and no NUL.
            ("role", json!("a\\u0000b")),
            ("role", json!("C:\\new\\u0000")),
            ("big", json!(u64::MAX)),
            ("small", json!(5e-324)),
        ] {
            let claims = with(name, value);
            assert!(check(&token(&claims), &settings()).is_ok(), "{claims}");
        }
    }

    #[test]
    fn counts_each_caller_under_one_name() {
        let name = |claims: &Value| {
            let headers = HeaderMap::from_iter([(
                AUTHORIZATION,
                format!("Bearer {}", token(claims)).parse().unwrap(),
            )]);
            let verified = verify(&headers, &settings(), clock::now()).now_or_never();
            Identity(verified.unwrap()).name()
        };
        assert_eq!(name(&good()).as_deref(), Some("acme/ann"));
        assert_eq!(
            name(&with("scope", json!("none"))).as_deref(),
            Some("acme/ann")
        );
        assert_eq!(name(&with("tenant", Value::Null)).as_deref(), Some("/ann"));
        for claims in [
            with("exp", json!(1)),
            with("sub", Value::Null),
            with("sub", json!("a\nb")),
            with("tenant", json!("a/b")),
            with("tenant", json!("")),
        ] {
            assert_eq!(name(&claims), None, "{claims}");
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
            json!(-1),
            json!(1.5),
            json!(["acme"]),
            json!({ "id": "acme" }),
        ] {
            assert!(is_invalid(refusal(with("tenant", tenant))));
        }
    }

    /// What a token allows, and the tenant and the claims that the database is given.
    fn read(claims: Value, settings: &TokenSettings) -> (Vec<Scope>, String, Value) {
        let headers = HeaderMap::from_iter([(
            AUTHORIZATION,
            format!("Bearer {}", token(&claims)).parse().unwrap(),
        )]);
        let verified = verify(&headers, settings, clock::now())
            .now_or_never()
            .unwrap();
        let verified = verified.unwrap();
        let scopes = [Scope::Read, Scope::Write, Scope::Metrics, Scope::Operator];
        let allowed = scopes
            .into_iter()
            .filter(|scope| verified.claims.allows(*scope));
        let allowed = allowed.collect();
        let caller = verified.caller().unwrap();
        let text = serde_json::from_str(&caller.claims).unwrap();
        (allowed, caller.tenant.as_str().to_owned(), text)
    }

    #[test]
    fn reads_scopes_as_issuers_write_them() {
        let both = vec![Scope::Read, Scope::Write];
        for (name, value) in [
            ("scope", json!("openid attachments:read attachments:write")),
            ("scope", json!(["attachments:write", "attachments:read"])),
            ("scp", json!("attachments:read attachments:write")),
            (
                "scp",
                json!(["attachments:read", "attachments:write", "openid"]),
            ),
        ] {
            let mut claims = with("scope", Value::Null);
            claims[name] = value;
            assert_eq!(read(claims.clone(), &settings()).0, both, "{claims}");
        }
        let mut id_token = with("scope", Value::Null);
        id_token["nonce"] = json!("n");
        assert!(is_invalid(refusal(id_token.clone())));
        id_token["scp"] = json!(["attachments:read"]);
        assert_eq!(read(id_token, &settings()).0, [Scope::Read]);
    }

    #[test]
    fn makes_scopes_of_roles() {
        let settings = |claim: &str| TokenSettings {
            roles_claim: Some(claim.parse().unwrap()),
            roles: vec![
                ("org:editor".to_owned(), vec![Scope::Read, Scope::Write]),
                ("staff".to_owned(), vec![Scope::Read]),
            ],
            ..settings()
        };
        for (claim, value, want) in [
            (
                "roles",
                json!({ "roles": ["staff", "other"] }),
                vec![Scope::Read],
            ),
            (
                "org_role",
                json!({ "org_role": "org:editor" }),
                vec![Scope::Read, Scope::Write],
            ),
            (
                "cognito:groups",
                json!({ "cognito:groups": ["org:editor"] }),
                vec![Scope::Read, Scope::Write],
            ),
            (
                "/realm_access/roles",
                json!({ "realm_access": { "roles": ["staff"] } }),
                vec![Scope::Read],
            ),
            (
                "permissions",
                json!({ "permissions": ["attachments:write"] }),
                vec![Scope::Write],
            ),
            ("roles", json!({}), vec![]),
            // What all tenants have is granted by the settings alone.
            (
                "roles",
                json!({ "roles": ["operator", "metrics", "attachments:read"] }),
                vec![Scope::Read],
            ),
            // A text is one role, except where texts are lists by their definition.
            ("role", json!({ "role": "machine staff" }), vec![]),
            ("role", json!({ "role": "staff" }), vec![Scope::Read]),
            (
                "scope",
                json!({ "scope": "openid staff" }),
                vec![Scope::Read],
            ),
            ("roles", json!({ "roles": [], "scope": "staff" }), vec![]),
        ] {
            let mut claims = with("scope", Value::Null);
            claims
                .as_object_mut()
                .unwrap()
                .extend(value.as_object().unwrap().clone());
            assert_eq!(read(claims.clone(), &settings(claim)).0, want, "{claims}");
        }
        let odd = token(&with("roles", json!({ "staff": true })));
        assert!(is_invalid(check(&odd, &settings("roles")).unwrap_err()));
    }

    #[test]
    fn finds_the_tenant_where_the_settings_say() {
        let settings = |claim: &str| TokenSettings {
            tenant_claim: claim.parse().unwrap(),
            ..settings()
        };
        for (claim, value, want) in [
            ("tenant", json!({ "tenant": 42 }), "42"),
            (
                "tid",
                json!({ "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47" }),
                "72f988bf-86f1-41af-91ab-2d7cd011db47",
            ),
            ("org_id", json!({ "org_id": 7 }), "7"),
            (
                "org_id",
                json!({ "org_id": 18_446_744_073_709_551_615_u64 }),
                "18446744073709551615",
            ),
            (
                "https://example.com/tenant",
                json!({ "https://example.com/tenant": "globex" }),
                "globex",
            ),
            (
                "/app_metadata/tenant_id",
                json!({ "app_metadata": { "tenant_id": "globex" } }),
                "globex",
            ),
            (
                "/https:~1~1a.b/org",
                json!({ "https://a.b": { "org": "globex" } }),
                "globex",
            ),
        ] {
            // A claim that is called as ours, and is not the one.
            let mut claims = with("tenant", json!("initech"));
            claims
                .as_object_mut()
                .unwrap()
                .extend(value.as_object().unwrap().clone());
            let (_, tenant, given) = read(claims, &settings(claim));
            assert_eq!(tenant, want, "{claim}");
            let found = &given["tenant"];
            assert_eq!(
                found
                    .as_str()
                    .map_or_else(|| found.to_string(), ToOwned::to_owned),
                want
            );
            assert_eq!(given["sub"], "ann");
        }
        let elsewhere = check(&token(&good()), &settings("org_id")).unwrap_err();
        assert_eq!(elsewhere, AuthError::NoTenant);
        let none = check(&token(&with("org_id", json!(0))), &settings("org_id")).unwrap_err();
        assert_eq!(none, AuthError::NoTenant);
    }

    #[test]
    fn the_database_gets_the_claims_as_they_are_written() {
        let settings = TokenSettings {
            tenant_claim: "org".parse().unwrap(),
            ..settings()
        };
        let text = good().to_string();
        let text = text.replacen(
            '{',
            "{\"org\":\"globex\",\"uid\":100000000000000000001,\"rate\":1.10,",
            1,
        );
        let (_, given) = Claims::read(text, &settings).unwrap();
        assert!(given.contains("\"uid\":100000000000000000001"), "{given}");
        assert!(given.contains("\"rate\":1.10"), "{given}");
        assert!(given.contains("\"tenant\":\"globex\""), "{given}");
    }

    #[test]
    fn a_token_without_an_audience_is_its_client_s() {
        let strict = TokenSettings {
            client: Some("app".to_owned()),
            ..settings()
        };
        let of_both = TokenSettings {
            audience: Some("account".to_owned()),
            client: Some("app".to_owned()),
            ..settings()
        };
        let of_audience = TokenSettings {
            audience: Some("app".to_owned()),
            ..settings()
        };
        for (name, value, is_good) in [
            ("client_id", json!("app"), true),
            ("azp", json!("app"), true),
            ("client_id", json!("other"), false),
            ("azp", json!(["app"]), false),
        ] {
            let mut claims = with(name, value);
            assert_eq!(check(&token(&claims), &strict).is_ok(), is_good, "{claims}");
            assert_eq!(
                check(&token(&claims), &of_both).is_ok(),
                is_good,
                "{claims}"
            );
            assert!(check(&token(&claims), &of_audience).is_err(), "{claims}");
            claims["aud"] = json!("account");
            assert!(
                is_invalid(check(&token(&claims), &strict).unwrap_err()),
                "{claims}"
            );
            // For whom it is counts more than to whom it was issued.
            assert!(check(&token(&claims), &of_both).is_ok(), "{claims}");
        }
    }

    #[test]
    fn refuses_claims_the_database_could_misread() {
        let good = good().to_string();
        for first in [
            "\"tenant\":\"other\"",
            "\"role\":\"a\\u0000b\"",
            "\"role\":\"\\ud800\"",
            "\"role\":\"\\\\\\u0000\"",
            "\"role\":1e999",
            "\"role\":1e-200000",
            "\"role\":[{\"a\":-0.1E-16384}]",
            "\"role\":1,\"role\":1",
            "\"role\":{\"a\":1,\"\\u0061\":1}",
            "\"\\u0000\":1",
            "\"tenant\":\"acme\"",
        ] {
            let claims = good.replacen('{', &format!("{{{first},"), 1);
            let token = signed(&json!({ "alg": "HS256", "kid": "new" }), &claims);
            assert!(
                is_invalid(check(&token, &settings()).unwrap_err()),
                "{first}"
            );
        }
    }

    /// RFC 7515 §4: a name stands once in a header, too.
    #[test]
    fn a_header_says_one_thing() {
        let key: KeyRing = KEYS.parse().unwrap();
        for header in [
            r#"{"alg":"HS256","kid":"new","kid":"new"}"#,
            r#"{"alg":"none","alg":"HS256","kid":"new"}"#,
            r#"{"typ":"dpop+jwt","alg":"HS256","kid":"new","typ":"JWT"}"#,
            r#"{"alg":"HS256","kid":"new","x":{"y":1,"y":2}}"#,
            r#"{"alg":"HS256","kid":"new","x":"\u0000"}"#,
        ] {
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(good().to_string())
            );
            let mac = key.key("new").unwrap().sign(&[signed.as_bytes()]);
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac));
            assert!(
                is_invalid(check(&token, &settings()).unwrap_err()),
                "{header}"
            );
        }
    }

    proptest::proptest! {
        /// Whatever stands in a token that is signed well, it is let in or refused, and what is let in says what it
        /// says to every reader.
        #[test]
        fn no_claims_break_it(name in "[a-z]{1,4}|exp|nbf|iat|sub|tenant|scope|aud|iss|typ", value in "-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,7})?|\"[a-z\\\\u0]{0,8}\"|null|true|\\[\\]|\\{\\}") {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(&name);
            let text = claims.to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1);
            let token = signed(&json!({ "alg": "HS256", "kid": "new" }), &text);
            if let Ok(caller) = check(&token, &settings()) {
                proptest::prop_assert_eq!(&caller.claims, &text);
                proptest::prop_assert!(!text.contains("e-200000"));
                proptest::prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
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
