//! A token as it arrives: a JWS in compact form, RFC 7515 §7.1.

use super::{AuthError, sound_json};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

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
    /// Ed25519 by a key of the JWKS: RFC 8037, and RFC 9864 under its newer name.
    EdDsa,
}

impl Algorithm {
    /// Reads an `alg`, which is case-sensitive.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
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
    /// The key it says it is signed by, if it says so.
    pub(super) kid: Option<String>,
    /// What the signature is over.
    pub(super) signed: &'a str,
    /// The signature.
    pub(super) signature: Vec<u8>,
    /// The claims as JSON text.
    pub(super) payload: String,
}

/// The kinds of token that are taken: an access token (RFC 9068 §2.1), or one of no particular kind (RFC 7519 §5.1). An
/// ID token, a logout token, a DPoP proof and whatever else an issuer signs with the same key is for somebody else. It is
/// a media type, of which `application/` may be left out, in any case (RFC 7515 §4.1.9).
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    let kind = typ.strip_prefix("application/").unwrap_or(&typ);
    matches!(kind, "jwt" | "at+jwt")
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `Invalid`: not a compact JWS, an `alg` not accepted here, a `crit`, or a `typ` of something else than an access token.
    pub(super) fn parse(token: &'a str) -> Result<Self, AuthError> {
        let malformed = AuthError::Invalid("it is not a JWT");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid("it is too long"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let text = |part| String::from_utf8(decode(part)?).map_err(|_| malformed);
        let header = sound_json::read(&text(header)?).ok_or(malformed)?;
        let algorithm = header["alg"].as_str().ok_or(malformed)?;
        let algorithm =
            Algorithm::parse(algorithm).ok_or(AuthError::Invalid("its alg is not accepted"))?;
        // Extensions that must be understood (RFC 7515 §4.1.11). None is, so the mere presence refuses the token.
        if header.get("crit").is_some() {
            return Err(AuthError::Invalid("its crit header is not supported"));
        }
        // Many issuers do not say what kind of token it is.
        let typ = header.get("typ").map_or(Some("JWT"), Value::as_str);
        if !typ.is_some_and(is_access_token) {
            return Err(AuthError::Invalid("its typ is not that of an access token"));
        }
        let kid = match &header["kid"] {
            Value::Null => None,
            Value::String(kid) => Some(kid.clone()),
            _ => return Err(malformed),
        };
        Ok(Self {
            algorithm,
            kid,
            signed,
            signature: decode(signature)?,
            payload: text(payload)?,
        })
    }
}
