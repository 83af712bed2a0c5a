//! Between the runtime's requests and responses and those of axum, without losing what matters on
//! the way: the body of an upload goes to the bucket, and the body of a download to the client, as
//! the runtime's own streams, so that their length is known and no byte passes through the worker's
//! memory.

use super::{body, headers::content_length};
use crate::clock;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response},
};
use http_body_util::BodyExt;
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

    /// The body of a request that has one.
    pub(crate) fn of(request: &mut Request<Body>) -> Option<Self> {
        request.extensions_mut().remove()
    }

    /// To be read here.
    pub(crate) fn into_body(self) -> worker::Body {
        worker::Body::new(self.into_stream())
    }

    /// To be moved by the runtime.
    pub(crate) fn into_stream(self) -> ReadableStream {
        self.0.0
    }
}

/// Takes a request in. Its body stays with the runtime, as a [`RawBody`].
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
        request.extensions_mut().insert(RawBody::new(stream));
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
            None => body::read_off(worker::Body::new(stream)).await,
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
