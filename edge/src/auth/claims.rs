//! What a verified token says: RFC 7519 §4.1, and the tenant and the scopes.

use super::AuthError;
use crate::config::TokenSettings;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use time::OffsetDateTime;

/// Longest `sub`, in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// The claims the worker itself looks at. Times are seconds since the epoch, with or without a
/// fraction.
#[derive(Deserialize)]
pub(super) struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
    pub(super) tenant: Option<String>,
    #[serde(default)]
    pub(super) scope: String,
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
}

/// `aud` is one string or a list of them (RFC 7519 §4.1.3).
#[derive(Default)]
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
    /// Reads the claims, and makes sure that the database can read all of them too: PostgreSQL's
    /// jsonb takes no NUL character, no half of a surrogate pair and no number without end, and of a
    /// claim that stands twice it takes the last.
    pub(super) fn read(text: &str) -> Result<Self, AuthError> {
        let unreadable = AuthError::Invalid("one of its claims cannot be read");
        if text.contains("\\u0000") {
            return Err(unreadable);
        }
        serde_json::from_str::<Value>(text).map_err(|_| unreadable)?;
        serde_json::from_str(text).map_err(|_| unreadable)
    }

    /// `exp` is there and not over, `nbf` has come if it is there; both give or take the leeway.
    pub(super) fn check_time(
        &self,
        settings: &TokenSettings,
        now: OffsetDateTime,
    ) -> Result<(), AuthError> {
        // A f64 holds every second until the year 285 million exactly.
        let (now, leeway) = (now.unix_timestamp() as f64, settings.leeway as f64);
        let expires = self.exp.ok_or(AuthError::Invalid("it has no exp"))?;
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
            return Err(AuthError::Invalid("its iss is not the expected one"));
        }
        match &settings.audience {
            Some(audience) if !self.aud.includes(audience) => {
                Err(AuthError::Invalid("it was issued for another audience"))
            }
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
            return Err(AuthError::Invalid("its sub is missing or not usable"));
        }
        Ok(())
    }

    /// The subject, after [`Self::check_subject`].
    pub(super) fn into_subject(self) -> String {
        self.sub.unwrap_or_default()
    }
}
