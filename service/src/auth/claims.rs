//! What a verified token says: RFC 7519 §4.1, and the tenant and the scopes.

use super::{AuthError, sound_json};
use crate::{
    config::{Claim, TokenSettings},
    model::Scope,
};
use serde_json::Value;
use time::OffsetDateTime;

/// Longest `sub`, in bytes.
const MAX_SUBJECT_BYTES: usize = 255;

/// The last second of the year 9999. An `exp` behind it is no time: milliseconds, say, by mistake.
const LAST_MOMENT: f64 = 253_402_300_799.0;

/// The claims the worker itself looks at. Times are seconds since the epoch, with or without a
/// fraction.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
    iss: Option<String>,
    /// Whom the token is for, if it says so. A single one may stand alone (RFC 7519 §4.1.3).
    aud: Option<Vec<String>>,
    /// To whom it was issued: `client_id` (RFC 9068 §2.2), or `azp`.
    client: Option<String>,
    /// Of the claim that the settings name.
    pub(super) tenant: Option<String>,
    /// What the token allows, in the issuer's words or by the map of the settings.
    scopes: Vec<String>,
}

/// Why a token is refused of which a claim has another form than it has everywhere.
const FORM: AuthError = AuthError::Invalid("one of its claims has an unexpected form");

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
        || (is_there("nonce") && !is_there("scope") && !is_there("scp"))
        || OTHER_NAMES.into_iter().any(|(claim, name)| {
            let told = claims[claim].as_str().unwrap_or_default();
            told.eq_ignore_ascii_case(name)
        })
}

impl Claims {
    /// Reads the claims, and makes sure that the database reads the same in all of them: see [`sound_json`]. Returns them
    /// with the text that the database is given, which names the tenant where its functions look for it.
    ///
    /// # Errors
    /// `Invalid`: claims of another form, or of a token that is for something else.
    pub(super) fn read(
        text: String,
        settings: &TokenSettings,
    ) -> Result<(Self, String), AuthError> {
        let all = sound_json::read(&text).ok_or(FORM)?;
        if !all.is_object() {
            return Err(FORM);
        }
        if is_for_something_else(&all) {
            return Err(AuthError::Invalid("it is not an access token"));
        }
        // Not looked at, but a time if it is there.
        moment(&all["iat"])?;
        let claims = Self {
            exp: moment(&all["exp"])?,
            nbf: moment(&all["nbf"])?,
            sub: word(&all["sub"])?,
            iss: word(&all["iss"])?,
            aud: audience(&all["aud"])?,
            client: client(&all)?,
            tenant: tenant(settings.tenant_claim.of(&all))?,
            scopes: scopes(&all, settings)?,
        };
        if settings.tenant_claim == Claim::default() {
            return Ok((claims, text));
        }
        let text = with_tenant(&text, &all, claims.tenant.as_deref())?;
        Ok((claims, text))
    }

    /// Whether the token has this scope.
    pub(super) fn allows(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|one| one == scope.name())
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
        let is_for_us = match (&self.aud, &settings.audience, &settings.client) {
            (_, None, None) => true,
            (Some(aud), Some(expected), _) => aud.contains(expected),
            (None, _, Some(expected)) => self.client.as_ref() == Some(expected),
            (Some(_), None, Some(_)) | (None, Some(_), None) => false,
        };
        if is_for_us {
            Ok(())
        } else {
            Err(AuthError::Invalid(
                "its aud claim does not include the expected audience, nor was it issued to the expected client",
            ))
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

/// The same claims, with the tenant where the database's functions look for it. Whatever else they say stays as it is
/// written: a number may be longer than a JSON reader of ours would keep it. Of two members of one name PostgreSQL takes the
/// last, in json and in jsonb.
fn with_tenant(text: &str, all: &Value, tenant: Option<&str>) -> Result<String, AuthError> {
    let open = text.trim_end().strip_suffix('}').ok_or(FORM)?;
    let is_empty = all.as_object().is_none_or(serde_json::Map::is_empty);
    let comma = if is_empty { "" } else { "," };
    let tenant = Value::from(tenant);
    Ok(format!("{open}{comma}\"tenant\":{tenant}}}"))
}

/// A tenant's name. Some issuers number theirs; 0 is none.
fn tenant(claim: Option<&Value>) -> Result<Option<String>, AuthError> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(None),
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(FORM),
    }
}

/// What a token allows: by `scope` (RFC 8693 §4.2), by `scp`, as Entra and Okta call it, and by the claim of the settings that
/// has the caller's roles. A role grants what the map says. One that is not in it grants what it is called, if that concerns
/// its tenant alone: what all tenants have, nobody gets by a name that somebody may have chosen.
fn scopes(all: &Value, settings: &TokenSettings) -> Result<Vec<String>, AuthError> {
    let mut scopes = words(all.get("scope"))?;
    scopes.extend(words(all.get("scp"))?);
    let Some(claim) = &settings.roles_claim else {
        return Ok(scopes);
    };
    let roles = match claim.of(all) {
        Some(Value::String(role)) if !claim.has_words() => vec![role.clone()],
        roles => words(roles)?,
    };
    for role in roles {
        let allowed = settings.roles.iter().find(|(name, _)| *name == role);
        let allowed = match allowed {
            Some((_, allowed)) => allowed.as_slice(),
            None => match Scope::parse(&role) {
                Some(Scope::Read) => &[Scope::Read][..],
                Some(Scope::Write) => &[Scope::Write],
                _ => &[],
            },
        };
        scopes.extend(allowed.iter().map(|one| one.name().to_owned()));
    }
    Ok(scopes)
}

/// A list of words, or a text of words between spaces.
fn words(claim: Option<&Value>) -> Result<Vec<String>, AuthError> {
    match claim {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(' ').map(ToOwned::to_owned).collect()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(ToOwned::to_owned).ok_or(FORM))
            .collect(),
        Some(_) => Err(FORM),
    }
}

/// Whom a token is for.
fn audience(claim: &Value) -> Result<Option<Vec<String>>, AuthError> {
    match claim {
        Value::Null => Ok(None),
        Value::String(one) => Ok(Some(vec![one.clone()])),
        many => words(Some(many)).map(Some),
    }
}

/// To whom a token was issued. Cognito says `client_id`, and Clerk `azp`; neither names an audience.
fn client(all: &Value) -> Result<Option<String>, AuthError> {
    match &all["client_id"] {
        Value::Null => Ok(all["azp"].as_str().map(ToOwned::to_owned)),
        client => word(client),
    }
}

fn moment(claim: &Value) -> Result<Option<f64>, AuthError> {
    match claim {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        _ => Err(FORM),
    }
}

fn word(claim: &Value) -> Result<Option<String>, AuthError> {
    match claim {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(FORM),
    }
}
