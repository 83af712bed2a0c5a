//! Keepsake's service, whatever hosts it: the worker (`edge/`) or the native server (`server/`).
//!
//! It authenticates, validates, signs, verifies and purges; the rules it applies live in
//! `keepsake_shared`, and what is true is decided in PostgreSQL. Data flows one way through a
//! request: a host takes it in, `auth`, `body` and `query` parse it, a handler of
//! `routes` checks and acts through `db` and `storage`, and `problem` or the handler
//! renders the answer.
//!
//! A host implements [`runtime::Runtime`], which it installs, and [`Host`] for each request: its database, and its bucket if
//! the service is to serve one.

mod auth;
pub mod clock;
pub mod config;
mod context;
pub mod db;
#[cfg(test)]
mod fakes;
pub mod http;
pub mod jobs;
pub mod log;
pub mod model;
mod outbox;
pub mod receiver;
mod routes;
pub mod runtime;
mod signer;
pub mod storage;
mod upload;

use axum::{
    http::{
        HeaderValue, Method, Request,
        header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use config::{Config, ConfigError};
use context::RequestContext;
pub use context::{Host, receiver, storage};
use http::{cors, problem, request_id};
pub use routes::matched;
use std::sync::Arc;

/// Answers one HTTP request, and gives the line to be logged once the answer is on its way.
///
/// 1. Give it an id.
/// 2. Its route answers, once it is counted; of a preflight the path's methods are told.
/// 3. A failure becomes a problem document.
/// 4. CORS, caching and the id are added.
pub async fn answer(
    request: Request<axum::body::Body>,
    config: &Result<Arc<Config>, ConfigError>,
    host: Arc<dyn Host>,
) -> (Response, log::Line) {
    let started = clock::milliseconds();
    let (head, body) = request.into_parts();
    let id = request_id::of(&head.headers);
    let (method, uri, headers) = (head.method.clone(), head.uri.clone(), head.headers.clone());

    let answer = match config {
        Ok(config) => {
            let context = RequestContext::new(Arc::clone(config), &uri, host);
            let answer = routes::answer(Request::from_parts(head, body), context).await;
            match method {
                Method::OPTIONS => cors::preflight(answer, &config.allowed_headers),
                _ => answer,
            }
        }
        Err(error) => routes::misconfigured(uri.path(), error).into_response(),
    };

    let route = matched(&answer).map(ToOwned::to_owned);
    let path = log::shown_path(uri.path());
    let (mut answer, failure) = problem::render(answer, path, &id);
    let allowed_origins = config
        .as_ref()
        .map_or(&[][..], |config| &config.allowed_origins);
    let readers = cors::Readers::of(uri.path(), allowed_origins);
    cors::apply(&headers, readers, answer.headers_mut());
    add_common_headers(&mut answer, &id);
    let line = log::Request {
        id: &id,
        method: &method,
        route: route.as_deref(),
        status: answer.status().as_u16(),
        ms: clock::milliseconds().saturating_sub(started),
        failure: failure.as_ref(),
    }
    .line();
    (answer, line)
}

/// What every answer carries. Nothing is cached unless its handler says so: most answers hold
/// someone's data, and some a signed URL.
fn add_common_headers(answer: &mut Response, id: &str) {
    let headers = answer.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(request_id::HEADER, id);
    }
}
