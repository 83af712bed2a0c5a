//! Public-key signatures, checked by the runtime's own WebCrypto
//! (<https://www.w3.org/TR/WebCryptoAPI/>): an RSA library would be half as large as the worker.

use keepsake_service::runtime::{KeyKind, Signed};
use web_sys::{CryptoKey, WorkerGlobalScope};
use worker::{
    js_sys::{Array, Object, Reflect, global},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
};

/// Whether the signature is the key's. The algorithm is the key's own.
///
/// # Errors
/// The runtime cannot make a key of these numbers: a point that is not on the curve, say.
pub(crate) async fn verify(signed: &Signed<'_>) -> Result<bool, JsValue> {
    let scope: WorkerGlobalScope = global().unchecked_into();
    let subtle = scope.crypto()?.subtle();
    let algorithm = algorithm(signed.kind)?;
    let usages = Array::of1(&"verify".into());
    let imported =
        subtle.import_key_with_object("jwk", &jwk(signed)?, &algorithm, false, &usages)?;
    let imported: CryptoKey = JsFuture::from(imported).await?.unchecked_into();
    let verdict = subtle.verify_with_object_and_u8_array_and_u8_array(
        &algorithm,
        &imported,
        signed.signature,
        signed.text,
    )?;
    Ok(JsFuture::from(verdict).await?.is_truthy())
}

fn algorithm(kind: KeyKind) -> Result<Object, JsValue> {
    match kind {
        KeyKind::P256 => object(&[
            ("name", "ECDSA"),
            ("namedCurve", "P-256"),
            ("hash", "SHA-256"),
        ]),
        KeyKind::Ed25519 => object(&[("name", "Ed25519")]),
        KeyKind::Rsa => object(&[("name", "RSASSA-PKCS1-v1_5"), ("hash", "SHA-256")]),
    }
}

fn jwk(signed: &Signed<'_>) -> Result<Object, JsValue> {
    let kind: &[_] = match signed.kind {
        KeyKind::P256 => &[("kty", "EC"), ("crv", "P-256")],
        KeyKind::Ed25519 => &[("kty", "OKP"), ("crv", "Ed25519")],
        KeyKind::Rsa => &[("kty", "RSA"), ("alg", "RS256")],
    };
    let numbers = signed
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
