//! Public-key signatures, checked by the runtime's own WebCrypto
//! (<https://www.w3.org/TR/WebCryptoAPI/>): an RSA library would be half as large as the worker.

use super::{jwks::PublicKey, token::Algorithm};
use web_sys::{CryptoKey, WorkerGlobalScope};
use worker::{
    js_sys::{Array, Object, Reflect, global},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
};

/// Whether `signature` is the key's over `signed`. The algorithm is the key's own.
///
/// # Errors
/// The runtime cannot make a key of these numbers: a point that is not on the curve, say.
pub(super) async fn verify(
    key: &PublicKey,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, JsValue> {
    let scope: WorkerGlobalScope = global().unchecked_into();
    let subtle = scope.crypto()?.subtle();
    let algorithm = algorithm(key.algorithm)?;
    let usages = Array::of1(&"verify".into());
    let imported = subtle.import_key_with_object("jwk", &jwk(key)?, &algorithm, false, &usages)?;
    let imported: CryptoKey = JsFuture::from(imported).await?.unchecked_into();
    let verdict = subtle
        .verify_with_object_and_u8_array_and_u8_array(&algorithm, &imported, signature, signed)?;
    Ok(JsFuture::from(verdict).await?.is_truthy())
}

fn algorithm(algorithm: Algorithm) -> Result<Object, JsValue> {
    match algorithm {
        Algorithm::Es256 => object(&[
            ("name", "ECDSA"),
            ("namedCurve", "P-256"),
            ("hash", "SHA-256"),
        ]),
        Algorithm::EdDsa => object(&[("name", "Ed25519")]),
        Algorithm::Rs256 => object(&[("name", "RSASSA-PKCS1-v1_5"), ("hash", "SHA-256")]),
        // No public key has it, and a secret is never brought here.
        Algorithm::Hs256 => Err(JsValue::NULL),
    }
}

fn jwk(key: &PublicKey) -> Result<Object, JsValue> {
    let kind: &[_] = match key.algorithm {
        Algorithm::Es256 => &[("kty", "EC"), ("crv", "P-256")],
        Algorithm::EdDsa => &[("kty", "OKP"), ("crv", "Ed25519")],
        Algorithm::Rs256 | Algorithm::Hs256 => &[("kty", "RSA"), ("alg", "RS256")],
    };
    let numbers = key
        .numbers
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    object(&kind.iter().copied().chain(numbers).collect::<Vec<_>>())
}

fn object(members: &[(&str, &str)]) -> Result<Object, JsValue> {
    let object = Object::new();
    for (name, value) in members {
        Reflect::set(&object, &(*name).into(), &(*value).into())?;
    }
    Ok(object)
}
