//! What a verified token says: RFC 7519 §4.1, and the tenant and the scopes.

use super::{AuthError, sound_json};
use crate::config::TokenSettings;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use time::OffsetDateTime;

/// Longest `sub`, in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// The last second of the year 9999. An `exp` behind it is no time: milliseconds, say, by mistake.
const LAST_MOMENT: f64 = 253_402_300_799.0;

/// The claims the worker itself looks at. Times are seconds since the epoch, with or without a
/// fraction.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    /// Not looked at, but a time if it is there.
    #[serde(rename = "iat")]
    _iat: Option<f64>,
    sub: Option<String>,
    pub(super) tenant: Option<String>,
    scope: Option<String>,
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
}

/// Claims of tokens that the same key signs and that are no access tokens, whose headers may well be silent, for `typ` is
/// optional in most of them: of an ID token (OpenID Connect Core §3.1.3.6, §3.3.2.11, and the financial-grade profile), of a
/// security event, a logout token among them (RFC 8417 §2.2), and of a DPoP proof (RFC 9449 §4.2).
const OTHER_PURPOSES: [&str; 6] = ["at_hash", "c_hash", "s_hash", "events", "htm", "htu"];

/// What Keycloak (`typ`) and Amazon Cognito (`token_use`) call their other tokens.
const OTHER_NAMES: [(&str, &str); 5] = [
    ("typ", "id"),
    ("typ", "refresh"),
    ("typ", "offline"),
    ("typ", "logout"),
    ("token_use", "id"),
];

/// Whether a token is for something else than access.
fn is_for_something_else(claims: &Value) -> bool {
    let is_there = |name: &str| !claims[name].is_null();
    OTHER_PURPOSES.into_iter().any(is_there)
        // Of an ID token, but some issuers put it into access tokens, too; those have a scope.
        || (is_there("nonce") && !is_there("scope"))
        || OTHER_NAMES.into_iter().any(|(claim, name)| {
            let told = claims[claim].as_str().unwrap_or_default();
            told.eq_ignore_ascii_case(name)
        })
}

/// `aud` is one string or a list of them (RFC 7519 §4.1.3).
#[derive(Debug, Clone, Default)]
struct Audience(Vec<String>);

impl Audience {
    fn includes(&self, wanted: &str) -> bool {
        self.0.iter().any(|one| one == wanted)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(one) => Ok(Self(vec![one])),
            many => serde_json::from_value(many)
                .map(Self)
                .map_err(D::Error::custom),
        }
    }
}

impl Claims {
    /// Reads the claims, and makes sure that the database reads the same in all of them: see [`sound_json`].
    ///
    /// # Errors
    /// `Invalid`: claims of another form, or of a token that is for something else.
    pub(super) fn read(text: &str) -> Result<Self, AuthError> {
        let claims: Self = sound_json::read(text).ok_or(AuthError::Invalid(
            "one of its claims has an unexpected form",
        ))?;
        match serde_json::from_str(text) {
            Ok(all) if !is_for_something_else(&all) => Ok(claims),
            _ => Err(AuthError::Invalid("it is not an access token")),
        }
    }

    /// Whether the token has this scope.
    pub(super) fn allows(&self, scope: &str) -> bool {
        let scopes = self.scope.as_deref().unwrap_or_default();
        scopes.split(' ').any(|one| one == scope)
    }

    /// `exp` is there and not over, `nbf` has come if it is there; both give or take the leeway.
    pub(super) fn check_time(
        &self,
        settings: &TokenSettings,
        now: OffsetDateTime,
    ) -> Result<(), AuthError> {
        // A f64 holds every second until the year 285 million exactly.
        let (now, leeway) = (now.unix_timestamp() as f64, settings.leeway as f64);
        let expires = self.exp.ok_or(AuthError::Invalid("it has no exp claim"))?;
        if expires > LAST_MOMENT {
            return Err(AuthError::Invalid("its exp claim is not a time in seconds"));
        }
        if now >= expires + leeway {
            return Err(AuthError::Expired);
        }
        match self.nbf {
            Some(begins) if now < begins - leeway => Err(AuthError::Invalid("it is not valid yet")),
            _ => Ok(()),
        }
    }

    /// `iss` and `aud` as the settings ask.
    pub(super) fn check_source(&self, settings: &TokenSettings) -> Result<(), AuthError> {
        if settings.issuer.is_some() && self.iss != settings.issuer {
            return Err(AuthError::Invalid(
                "its iss claim is not the expected issuer",
            ));
        }
        match &settings.audience {
            Some(audience) if !self.aud.includes(audience) => Err(AuthError::Invalid(
                "its aud claim does not include the expected audience",
            )),
            _ => Ok(()),
        }
    }

    /// `sub` is there and can be written down.
    pub(super) fn check_subject(&self) -> Result<(), AuthError> {
        let subject = self.sub.as_deref().unwrap_or_default();
        if subject.is_empty()
            || subject.len() > MAX_SUBJECT_BYTES
            || subject.chars().any(char::is_control)
        {
            return Err(AuthError::Invalid("its sub claim is missing or unusable"));
        }
        Ok(())
    }

    /// The subject, after [`Self::check_subject`].
    pub(super) fn subject(&self) -> &str {
        self.sub.as_deref().unwrap_or_default()
    }
}
