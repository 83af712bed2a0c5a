//! Digests that the runtime makes: of a stream, which it moves by itself without a byte passing
//! through the worker's memory, and by algorithms that the worker has no code for.

use super::StorageError;
use keepsake_shared::Sha256Digest;
use worker::{
    crypto::{DigestStream, DigestStreamAlgorithm},
    js_sys::{Function, Promise, Reflect, Uint8Array, global},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::ReadableStream,
};

/// The SHA-256 of a stream, which is read to its end.
///
/// # Errors
/// The stream broke off.
pub(super) async fn sha256(stream: &ReadableStream) -> Result<Sha256Digest, StorageError> {
    let sink = DigestStream::new(DigestStreamAlgorithm::Sha256);
    JsFuture::from(stream.pipe_to(sink.raw()))
        .await
        .map_err(|_| StorageError("the object broke off while it was read".to_owned()))?;
    let digest = sink
        .digest()
        .await
        .map_err(|error| StorageError(format!("no digest: {error}")))?;
    let bytes: Option<[u8; 32]> = digest.to_vec().try_into().ok();
    bytes
        .map(Sha256Digest::from_bytes)
        .ok_or_else(|| StorageError("the digest has another length".to_owned()))
}

/// The MD5 of a text, as `Content-MD5` wants it for the deletion of many objects, and for nothing
/// that has to be safe from an attacker.
///
/// # Errors
/// The runtime has no MD5.
pub(super) async fn md5(text: &str) -> Result<Vec<u8>, StorageError> {
    md5_promise(text)
        .map(JsFuture::from)
        .map_err(|_| no_md5())?
        .await
        .map(|buffer| Uint8Array::new(&buffer).to_vec())
        .map_err(|_| no_md5())
}

/// `crypto.subtle.digest("MD5", …)`
/// (<https://developers.cloudflare.com/workers/runtime-apis/web-crypto/>).
fn md5_promise(text: &str) -> Result<Promise, JsValue> {
    let subtle = Reflect::get(
        &Reflect::get(&global(), &"crypto".into())?,
        &"subtle".into(),
    )?;
    let digest: Function = Reflect::get(&subtle, &"digest".into())?.dyn_into()?;
    let bytes = Uint8Array::from(text.as_bytes());
    digest.call2(&subtle, &"MD5".into(), &bytes)?.dyn_into()
}

fn no_md5() -> StorageError {
    StorageError("the runtime has no MD5".to_owned())
}
