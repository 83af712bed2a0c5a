//! Bearer tokens as an application would make them (RFC 7519, HS256), and some it never should.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::secrets::KEY_ID;

/// Every right the worker knows.
pub const ALL_SCOPES: &str = "attachments:read attachments:write";

/// The claims of an ordinary user of `tenant`, good for an hour.
#[must_use]
pub fn claims(tenant: &str, user: &str) -> Value {
    json!({
        "sub": user,
        "tenant": tenant,
        "scope": ALL_SCOPES,
        "exp": unix_now() + 3600,
    })
}

/// A token with these claims, signed by `key` under the stack's key id.
#[must_use]
pub fn mint(claims: &Value, key: &[u8]) -> String {
    mint_with_header(
        &json!({ "alg": "HS256", "typ": "JWT", "kid": KEY_ID }),
        claims,
        key,
    )
}

/// A token with any header, right or wrong, signed by `key` with HMAC-SHA-256.
#[must_use]
pub fn mint_with_header(header: &Value, claims: &Value, key: &[u8]) -> String {
    let sign = |signed: &[u8]| -> Result<Vec<u8>, Infallible> {
        let mac =
            Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(signed).finalize());
        Ok(mac.map(|mac| mac.into_bytes().to_vec()).unwrap_or_default())
    };
    match jws(header, claims, sign) {
        Ok(token) => token,
        Err(never) => match never {},
    }
}

/// A token with any header, signed by anything (RFC 7515 §7.1).
///
/// # Errors
/// It cannot be signed.
pub fn jws<E>(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A token that says it needs no signature and has none.
#[must_use]
pub fn unsigned(claims: &Value) -> String {
    format!(
        "{}.{}.",
        encode(&json!({ "alg": "none", "typ": "JWT" })),
        encode(claims)
    )
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}
