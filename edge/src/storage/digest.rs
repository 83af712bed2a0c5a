//! Digests that the runtime makes: of a stream, which it moves by itself without a byte passing
//! through the worker's memory, and by algorithms that the worker has no code for.

use super::StorageError;
use keepsake_shared::Sha256Digest;
use worker::{
    crypto::{DigestStream, DigestStreamAlgorithm},
    js_sys::{Function, Object, Promise, Reflect, Uint8Array, global},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::ReadableStream,
};

/// How much of an object is read by one request while it is hashed. What a store sends faster than
/// it is hashed waits in memory: so that is no more than this.
pub(super) const WINDOW_BYTES: u64 = 32 << 20;

/// The SHA-256 of a stream, which is read to its end.
///
/// # Errors
/// The stream broke off.
pub(super) async fn sha256(stream: &ReadableStream) -> Result<Sha256Digest, StorageError> {
    let hasher = Sha256Hasher::new();
    hasher.add(stream).await?;
    hasher.finish().await
}

/// The SHA-256 of several streams, one after the other.
#[derive(Debug)]
pub(super) struct Sha256Hasher(DigestStream);

impl Sha256Hasher {
    pub(super) fn new() -> Self {
        Self(DigestStream::new(DigestStreamAlgorithm::Sha256))
    }

    /// Reads a stream to its end.
    ///
    /// # Errors
    /// The stream broke off.
    pub(super) async fn add(&self, stream: &ReadableStream) -> Result<(), StorageError> {
        let broke_off = |_| StorageError("the object broke off while it was read".to_owned());
        let piped = pipe_and_leave_open(stream, self.0.raw()).map_err(broke_off)?;
        JsFuture::from(piped).await.map(|_| ()).map_err(broke_off)
    }

    /// The digest of all that was added.
    ///
    /// # Errors
    /// The runtime's.
    pub(super) async fn finish(self) -> Result<Sha256Digest, StorageError> {
        let failed = || StorageError("the runtime made no digest".to_owned());
        let writer = self.0.raw().get_writer().map_err(|_| failed())?;
        JsFuture::from(writer.close()).await.map_err(|_| failed())?;
        let digest = self.0.digest().await.map_err(|_| failed())?;
        let bytes: Option<[u8; 32]> = digest.to_vec().try_into().ok();
        bytes.map(Sha256Digest::from_bytes).ok_or_else(failed)
    }
}

/// `stream.pipeTo(sink, { preventClose: true })`.
fn pipe_and_leave_open(stream: &ReadableStream, sink: &JsValue) -> Result<Promise, JsValue> {
    let options = Object::new();
    Reflect::set(&options, &"preventClose".into(), &JsValue::TRUE)?;
    let pipe_to: Function = Reflect::get(stream, &"pipeTo".into())?.dyn_into()?;
    pipe_to.call2(stream, sink, &options)?.dyn_into()
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
