//! Digests that the runtime makes: of a stream, which it moves by itself without a byte passing
//! through the worker's memory, and by algorithms that the worker has no code for.

use crate::bridge::RawBody;
use keepsake_service::runtime::{Content, Hasher, Task};
use keepsake_shared::Sha256Digest;
use worker::{
    crypto::{DigestStream, DigestStreamAlgorithm},
    js_sys::{Function, Object, Promise, Reflect, Uint8Array, global},
    send::{SendFuture, SendWrapper},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::ReadableStream,
};

/// The SHA-256 of a stream, which is read to its end.
///
/// # Errors
/// The stream broke off.
pub(crate) async fn sha256(stream: &ReadableStream) -> Result<Sha256Digest, String> {
    let hasher = Sha256Hasher::new();
    hasher.add_stream(stream).await?;
    hasher.digest().await.map(Sha256Digest::from_bytes)
}

/// The SHA-256 of several streams, one after the other.
#[derive(Debug)]
pub(crate) struct Sha256Hasher(SendWrapper<DigestStream>);

impl Sha256Hasher {
    pub(crate) fn new() -> Self {
        Self(SendWrapper::new(DigestStream::new(
            DigestStreamAlgorithm::Sha256,
        )))
    }

    /// Reads a stream to its end.
    ///
    /// # Errors
    /// The stream broke off.
    pub(crate) async fn add_stream(&self, stream: &ReadableStream) -> Result<(), String> {
        let broke_off = |_| "the object broke off while it was read".to_owned();
        let piped = pipe_and_leave_open(stream, self.0.raw()).map_err(broke_off)?;
        JsFuture::from(piped).await.map(|_| ()).map_err(broke_off)
    }

    /// The digest of all that was added.
    ///
    /// # Errors
    /// The runtime's.
    pub(crate) async fn digest(self) -> Result<[u8; 32], String> {
        let failed = || "the runtime made no digest".to_owned();
        let writer = self.0.raw().get_writer().map_err(|_| failed())?;
        JsFuture::from(writer.close()).await.map_err(|_| failed())?;
        let digest = self.0.0.digest().await.map_err(|_| failed())?;
        digest.to_vec().try_into().map_err(|_| failed())
    }
}

impl Hasher for Sha256Hasher {
    fn add(&mut self, content: Content) -> Task<'_, Result<(), String>> {
        Box::pin(SendFuture::new(async move {
            let Content { body, mut native } = content;
            let added = match RawBody::of(&mut native) {
                Some(stream) => self.add_stream(&stream.into_stream()).await,
                None => Ok(()),
            };
            // Not before: a body that is dropped unread cancels its stream.
            drop(body);
            added
        }))
    }

    fn finish(self: Box<Self>) -> Task<'static, Result<[u8; 32], String>> {
        Box::pin(SendFuture::new(self.digest()))
    }
}

/// `stream.pipeTo(sink, { preventClose: true })`.
fn pipe_and_leave_open(stream: &ReadableStream, sink: &JsValue) -> Result<Promise, JsValue> {
    let options = Object::new();
    Reflect::set(&options, &"preventClose".into(), &JsValue::TRUE)?;
    let pipe_to: Function = Reflect::get(stream, &"pipeTo".into())?.dyn_into()?;
    pipe_to.call2(stream, sink, &options)?.dyn_into()
}

/// A digest of what is in memory, which the runtime makes many times faster than the worker could.
///
/// # Errors
/// The runtime has no such algorithm.
pub(crate) async fn of_bytes(algorithm: &'static str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let missing = |_| format!("the runtime has no {algorithm}");
    let promise = promise(algorithm, bytes).map_err(missing)?;
    let buffer = JsFuture::from(promise).await.map_err(missing)?;
    Ok(Uint8Array::new(&buffer).to_vec())
}

/// `crypto.subtle.digest(algorithm, …)`
/// (<https://developers.cloudflare.com/workers/runtime-apis/web-crypto/>).
fn promise(algorithm: &str, bytes: &[u8]) -> Result<Promise, JsValue> {
    let subtle = Reflect::get(
        &Reflect::get(&global(), &"crypto".into())?,
        &"subtle".into(),
    )?;
    let digest: Function = Reflect::get(&subtle, &"digest".into())?.dyn_into()?;
    digest
        .call2(&subtle, &algorithm.into(), &Uint8Array::from(bytes))?
        .dyn_into()
}
