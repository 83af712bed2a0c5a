//! A token as it arrives: a JWS in compact form, RFC 7515 §7.1.

use super::{AuthError, sound_json};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// Longest token, in bytes: more than any sensible one, less than what would cost time to refuse.
pub(super) const MAX_TOKEN_BYTES: usize = 8192;

/// How a token may be signed, RFC 7518 §3.1. Every other `alg` is refused, `none` among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// HMAC-SHA-256 by a key of the ring.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 by a key of the JWKS.
    Rs256,
    /// ECDSA on P-256 with SHA-256 by a key of the JWKS.
    Es256,
}

impl Algorithm {
    /// Reads an `alg`, which is case-sensitive.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// A token in its parts; nothing of it is verified yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    /// How it says it is signed. It chooses among keys of that kind and never makes a key of one
    /// kind serve as another.
    pub(super) algorithm: Algorithm,
    /// The key it says it is signed by.
    pub(super) kid: String,
    /// What the signature is over.
    pub(super) signed: &'a str,
    /// The signature.
    pub(super) signature: Vec<u8>,
    /// The claims as JSON text.
    pub(super) payload: String,
}

/// The protected header, RFC 7515 §4.1.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// What kind of token it is. Many issuers do not say.
    #[serde(default = "unnamed")]
    typ: String,
    /// Extensions that must be understood. None is, so its mere presence refuses the token.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn unnamed() -> String {
    "JWT".to_owned()
}

/// The kinds of token that are taken: an access token (RFC 9068 §2.1), or one of no particular kind (RFC 7519 §5.1). An
/// ID token, a logout token, a DPoP proof and whatever else an issuer signs with the same key is for somebody else. It is
/// a media type, of which `application/` may be left out, in any case (RFC 7515 §4.1.9).
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    let kind = typ.strip_prefix("application/").unwrap_or(&typ);
    matches!(kind, "jwt" | "at+jwt")
}

/// True for a field that is there, whatever it holds.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `Invalid`: not a compact JWS, an `alg` not accepted here, no `kid`, a `crit`, or a `typ` of something else than an
    /// access token.
    pub(super) fn parse(token: &'a str) -> Result<Self, AuthError> {
        let malformed = AuthError::Invalid("it is not a JWT");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid("it is too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let text = |part| String::from_utf8(decode(part)?).map_err(|_| malformed);
        let header: Header = sound_json::read(&text(header)?).ok_or(malformed)?;
        let algorithm =
            Algorithm::parse(&header.alg).ok_or(AuthError::Invalid("its alg is not accepted"))?;
        if header.crit {
            return Err(AuthError::Invalid("its crit header is not supported"));
        }
        if !is_access_token(&header.typ) {
            return Err(AuthError::Invalid("its typ is not that of an access token"));
        }
        Ok(Self {
            algorithm,
            kid: header
                .kid
                .ok_or(AuthError::Invalid("its header has no kid"))?,
            signed,
            signature: decode(signature)?,
            payload: text(payload)?,
        })
    }
}
