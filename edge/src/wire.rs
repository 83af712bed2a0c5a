//! Between the runtime's requests and responses and those of axum, without losing what matters on
//! the way: the body of an upload goes to the bucket, and the body of a download to the client, as
//! the runtime's own streams, so that their length is known and no byte passes through the worker's
//! memory.

use axum::{
    body::Body,
    http::{Method, Request, Response},
};
use http_body_util::BodyExt;
use worker::{
    Headers, ResponseBuilder, Result, send::SendWrapper, web_sys, web_sys::ReadableStream,
};

/// A stream of the runtime that rides along in the extensions of a request or response, in place of
/// its body.
#[derive(Debug, Clone)]
pub(crate) struct RawBody(SendWrapper<ReadableStream>);

impl RawBody {
    pub(crate) fn new(stream: ReadableStream) -> Self {
        Self(SendWrapper::new(stream))
    }

    pub(crate) fn into_stream(self) -> ReadableStream {
        self.0.0
    }
}

/// Takes a request in. A PUT keeps its body as a [`RawBody`]; every other body is read through
/// axum.
///
/// # Errors
/// A request that the runtime itself cannot describe.
pub(crate) fn request(incoming: web_sys::Request) -> Result<Request<Body>> {
    if incoming.method() != Method::PUT.as_str() {
        return Ok(worker::request_from_wasm(incoming)?.map(Body::new));
    }
    let head = web_sys::RequestInit::new();
    head.set_method(Method::PUT.as_str());
    head.set_headers(incoming.headers().as_ref());
    let head = web_sys::Request::new_with_str_and_init(&incoming.url(), &head)?;
    let mut request = worker::request_from_wasm(head)?.map(Body::new);
    if let Some(stream) = incoming.body() {
        request.extensions_mut().insert(RawBody::new(stream));
    }
    Ok(request)
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
