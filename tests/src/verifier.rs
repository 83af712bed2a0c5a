//! What PostgreSQL keeps of a password.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// What PostgreSQL keeps of a password, with one round of hashing instead of 4096: those take the
/// client, built without optimisation, longer than a case. RFC 5802.
///
/// # Errors
/// None: HMAC takes a key of any length.
pub fn quick_verifier(password: &str) -> Result<String> {
    let salt = [7; 16];
    let sign = |key: &[u8], message: &[u8]| -> Result<Vec<u8>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    };
    let salted = sign(
        password.as_bytes(),
        &[&salt[..], &1_u32.to_be_bytes()].concat(),
    )?;
    let stored = Sha256::digest(sign(&salted, b"Client Key")?);
    let server = sign(&salted, b"Server Key")?;
    let [salt, stored, server] =
        [&salt[..], &stored[..], &server[..]].map(|bytes| STANDARD.encode(bytes));
    Ok(format!("SCRAM-SHA-256$1:{salt}${stored}:{server}"))
}
