//! Between the runtime's requests and responses and those of axum, without losing what matters on
//! the way: the body of an upload goes to the bucket, and the body of a download to the client, as
//! the runtime's own streams, so that their length is known and no byte passes through the worker's
//! memory.

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response},
};
use http_body::Frame;
use http_body_util::BodyExt;
use keepsake_service::{
    clock,
    http::{body, headers::content_length},
    runtime::Content,
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use worker::{
    Headers, ResponseBuilder, Result,
    send::SendWrapper,
    wasm_bindgen_futures::JsFuture,
    web_sys::{self, ReadableStream, WritableStream},
};

/// Longest body that is read off without being wanted.
const MAX_DISCARDED_BYTES: u64 = 32 << 20;

/// A stream of the runtime that rides along in the extensions of a request or response, in place of
/// its body.
#[derive(Debug, Clone)]
pub(crate) struct RawBody(SendWrapper<ReadableStream>);

impl RawBody {
    /// Wraps a stream of the runtime.
    pub(crate) fn new(stream: ReadableStream) -> Self {
        Self(SendWrapper::new(stream))
    }

    /// That of a content which has one.
    pub(crate) fn of(native: &mut Extensions) -> Option<Self> {
        native.remove()
    }

    /// To be moved by the runtime.
    pub(crate) fn into_stream(self) -> ReadableStream {
        self.0.0
    }
}

/// A stream of the runtime as a body that takes hold of it when it is first read.
struct Lazy {
    stream: RawBody,
    open: Option<worker::Body>,
    /// Whether it is cancelled when nobody has read it: an answer that is not read to its end keeps its connection.
    cancel: bool,
}

impl HttpBody for Lazy {
    type Data = Bytes;
    type Error = worker::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, worker::Error>>> {
        let this = &mut *self;
        let open = this
            .open
            .get_or_insert_with(|| worker::Body::new(this.stream.clone().into_stream()));
        Pin::new(open).poll_frame(context)
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        let stream = &self.stream.0.0;
        if self.cancel && !stream.locked() {
            // Nothing depends on how it ends.
            drop(stream.cancel());
        }
    }
}

/// A stream that the runtime is to move by itself.
pub(crate) fn moved(stream: ReadableStream) -> Content {
    let mut native = Extensions::new();
    native.insert(RawBody::new(stream));
    Content {
        body: Body::empty(),
        native,
    }
}

/// What another server answers.
pub(crate) fn fetched(stream: ReadableStream) -> Content {
    let stream = RawBody::new(stream);
    let mut native = Extensions::new();
    native.insert(stream.clone());
    let body = Body::new(Lazy {
        stream,
        open: None,
        cancel: true,
    });
    Content { body, native }
}

/// Takes a request in. Its body stays with the runtime, as a [`RawBody`] that is also opened as soon as the body is read.
///
/// Nothing is refused here: what has no place in a [`Request`] (a URL of an unheard-of form, a header
/// that is not text) is left out, and so matches nothing.
pub(crate) fn request(incoming: &web_sys::Request) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    // No route takes TRACE, so that it can stand for whatever is no method at all.
    *request.method_mut() =
        Method::from_bytes(incoming.method().as_bytes()).unwrap_or(Method::TRACE);
    *request.uri_mut() = incoming.url().parse().unwrap_or_default();
    *request.headers_mut() = headers(incoming.headers());
    if let Some(stream) = incoming.body() {
        let stream = RawBody::new(stream);
        request.extensions_mut().insert(stream.clone());
        *request.body_mut() = Body::new(Lazy {
            stream,
            open: None,
            cancel: false,
        });
    }
    request
}

/// The runtime's headers; one that is not text is left out.
pub(crate) fn headers(given: web_sys::Headers) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in Headers(given).entries() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

/// Reads off a body that no handler wanted. A client that is still sending would otherwise lose the
/// connection and never see the answer. A body so long that this would cost too much is left alone, and
/// who sends for longer than [`body::MAX_BODY_TIME`] is answered meanwhile.
pub(crate) async fn discard(incoming: &web_sys::Request, headers: &HeaderMap) {
    let Some(stream) = incoming.body().filter(|stream| !stream.locked()) else {
        return;
    };
    let read = async {
        match content_length(headers) {
            Some(length) if length == 0 || length > MAX_DISCARDED_BYTES => {}
            Some(_) => {
                if let Ok(nowhere) = WritableStream::new() {
                    // The client may have gone meanwhile; then there is nobody to answer either.
                    let _ = JsFuture::from(stream.pipe_to(&nowhere)).await;
                }
            }
            None => body::read_off(Body::new(worker::Body::new(stream))).await,
        }
    };
    clock::timeout(body::MAX_BODY_TIME, read).await;
}

/// Sends a response out: a [`RawBody`] as it is, any other body whole, with its length.
///
/// # Errors
/// A response that the runtime refuses.
pub(crate) async fn response(outgoing: Response<Body>) -> Result<worker::Response> {
    let (mut parts, body) = outgoing.into_parts();
    let builder = ResponseBuilder::new()
        .with_status(parts.status.as_u16())
        .with_headers(Headers::from(&parts.headers));
    if let Some(raw) = parts.extensions.remove::<RawBody>() {
        return Ok(builder.stream(raw.into_stream()));
    }
    let bytes = body
        .collect()
        .await
        .map_err(|error| worker::Error::RustError(error.to_string()))?
        .to_bytes();
    Ok(if bytes.is_empty() {
        builder.empty()
    } else {
        builder.fixed(bytes.to_vec())
    })
}
