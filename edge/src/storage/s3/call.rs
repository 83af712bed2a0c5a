//! One request to the store: signed, bounded in time, and made again when that is safe.

use super::{S3, S3Settings};
use crate::{clock, storage::StorageError};
use http_body_util::BodyExt;
use keepsake_shared::{
    Sha256Digest,
    sigv4::{self, AuthorizationRequest, Payload, SigV4Error},
};
use std::{sync::PoisonError, time::Duration};
use worker::{
    Body, Delay,
    js_sys::{self, Uint8Array},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::{
        AbortSignal, Headers, ReadableStream, RequestInit, RequestRedirect, Response,
        WorkerGlobalScope,
    },
};

/// How often a request is made that may be made again.
const TRIES: u32 = 3;
/// The pause before the second try; each further one is three times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(150);

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// The method.
    pub(super) method: &'static str,
    /// The object; the bucket itself when there is none.
    pub(super) key: Option<&'a str>,
    /// Parameters, not yet encoded.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// Headers beside those of the signature.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub(super) body: Option<&'a str>,
    /// How long one try may take, its answer's body included.
    pub(super) seconds: u32,
    /// Whether it may be made again when nobody knows whether it was done.
    pub(super) repeatable: bool,
}

impl Call<'_> {
    /// A request that reads or deletes: it may be made again.
    pub(super) const fn new(method: &'static str) -> Self {
        Self {
            method,
            key: None,
            query: &[],
            headers: &[],
            body: None,
            seconds: 6,
            repeatable: true,
        }
    }
}

/// What the store answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    response: Response,
}

impl Answer {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.response.headers().get(name).ok().flatten()
    }

    /// The body, to be moved by the runtime.
    pub(super) fn stream(&self) -> Option<ReadableStream> {
        self.response.body()
    }

    /// The whole body.
    pub(super) async fn bytes(&self) -> Result<Vec<u8>, StorageError> {
        let promise = self.response.array_buffer().map_err(failed)?;
        let buffer = JsFuture::from(promise).await.map_err(failed)?;
        Ok(Uint8Array::new(&buffer).to_vec())
    }

    /// Whether a partial answer has the bytes from `offset` on (RFC 9110 §14.4).
    pub(super) fn begins_at(&self, offset: u64) -> bool {
        let begin = format!("bytes {offset}-");
        self.header("content-range")
            .is_some_and(|range| range.starts_with(&begin))
    }

    /// `length` bytes of the body from `offset`, fewer at its end. What comes behind them is not read.
    pub(super) async fn part(&self, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let mut body = match self.response.body() {
            Some(stream) => Body::new(stream),
            None => return Ok(Vec::new()),
        };
        let (mut skip, mut part) = (offset, Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| StorageError(format!("S3: the answer broke off: {error}")))?;
            let bytes = frame.into_data().unwrap_or_default();
            let begin = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            skip -= begin as u64;
            part.extend_from_slice(&bytes[begin..]);
            if part.len() >= length {
                part.truncate(length);
                break;
            }
        }
        Ok(part)
    }

    /// The whole body as text.
    pub(super) async fn text(&self) -> Result<String, StorageError> {
        String::from_utf8(self.bytes().await?)
            .map_err(|_| StorageError("S3: the answer is not text".to_owned()))
    }

    /// An answer that nobody reads to its end keeps its connection.
    pub(super) fn discard(&self) {
        if let Some(body) = self.response.body() {
            // Nothing depends on how it ends.
            drop(body.cancel());
        }
    }

    /// Whether the store had trouble that may be over in a moment.
    const fn is_passing(&self) -> bool {
        matches!(self.status, 429 | 500 | 502 | 503 | 504)
    }
}

impl S3 {
    /// Makes a request: again, after a pause, while the store has passing trouble or does not answer
    /// in time, if it may be made again.
    ///
    /// # Errors
    /// No answer, or none but passing trouble.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, StorageError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.call_once(call).await {
                Ok(answer) if !answer.is_passing() => return Ok(answer),
                Ok(answer) if !call.repeatable => return Err(trouble(call, &answer)),
                Err(error) if !call.repeatable => return Err(error),
                Ok(answer) => answer.discard(),
                Err(_) => {}
            }
            Delay::from(pause).await;
            pause *= 3;
        }
        let answer = self.call_once(call).await?;
        if answer.is_passing() {
            Err(trouble(call, &answer))
        } else {
            Ok(answer)
        }
    }

    async fn call_once(&self, call: &Call<'_>) -> Result<Answer, StorageError> {
        let (url, headers) = signed(&self.0, call).map_err(|error| {
            StorageError(format!("S3 {} cannot be signed: {error}", call.method))
        })?;
        let fields = Headers::new().map_err(failed)?;
        for (name, value) in call.headers {
            fields.set(name, value).map_err(failed)?;
        }
        for (name, value) in headers.headers() {
            fields.set(name, value).map_err(failed)?;
        }
        // Of bytes that are compressed on the way some servers tell no length. Not signed: proxies change it.
        fields.set("accept-encoding", "identity").map_err(failed)?;
        let init = RequestInit::new();
        init.set_method(call.method);
        init.set_headers(&fields);
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(Some(&AbortSignal::timeout_with_u32(call.seconds * 1000)));
        if let Some(body) = call.body {
            init.set_body(&JsValue::from_str(body));
        }
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let response = JsFuture::from(scope.fetch_with_str_and_init(&url, &init))
            .await
            .map_err(|error| {
                StorageError(format!("S3 {}: no answer: {}", call.method, shown(&error)))
            })?;
        let response: Response = response.unchecked_into();
        Ok(Answer {
            status: response.status(),
            response,
        })
    }
}

/// The URL and the headers of the signature.
fn signed(
    settings: &S3Settings,
    call: &Call<'_>,
) -> Result<(String, sigv4::SignedRequest), SigV4Error> {
    let target = match call.key {
        Some(key) => settings.bucket.object(key)?,
        None => settings.bucket.itself(),
    };
    let body = call.body.unwrap_or_default();
    let request = AuthorizationRequest {
        request: sigv4::Request {
            method: call.method,
            target,
            query: call.query,
            headers: call.headers,
            payload: Payload::Sha256(Sha256Digest::of(body.as_bytes())),
        },
        send_content_sha256: true,
    };
    let mut keys = settings.keys.lock().unwrap_or_else(PoisonError::into_inner);
    let signed = sigv4::authorization(&request, &settings.signer, &mut keys, clock::now())?;
    let endpoint = settings.bucket.endpoint();
    let (path, query) = (
        signed.canonical_request.path(),
        signed.canonical_request.query(),
    );
    let separator = if query.is_empty() { "" } else { "?" };
    let url = format!(
        "{}{}{path}{separator}{query}",
        endpoint.scheme(),
        endpoint.host()
    );
    Ok((url, signed))
}

/// An answer that is not the one hoped for, told by its status alone: some stores repeat the request
/// in the body of an error.
pub(super) fn trouble(call: &Call<'_>, answer: &Answer) -> StorageError {
    answer.discard();
    StorageError(format!("S3 {} answered {}", call.method, answer.status))
}

fn failed(error: JsValue) -> StorageError {
    StorageError(format!("S3: the answer broke off: {}", shown(&error)))
}

/// What a JavaScript error says of itself.
fn shown(error: &JsValue) -> String {
    error
        .dyn_ref::<js_sys::Error>()
        .map_or_else(|| "unknown".to_owned(), |error| error.message().into())
}
