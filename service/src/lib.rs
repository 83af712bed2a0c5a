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
        HeaderMap, HeaderValue, Method, Request,
        header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use config::{Config, ConfigError};
use context::RequestContext;
pub use context::{Host, receiver, storage};
use http::{ApiError, cors, problem, request_id};
use keepsake_shared::ErrorCode;
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
    let arrival = Arrival::of(&request);
    let (head, body) = request.into_parts();
    let (uri, headers) = (head.uri.clone(), head.headers.clone());

    let answer = match config {
        Ok(config) => {
            let context = RequestContext::new(Arc::clone(config), &uri, host);
            let answer = routes::answer(Request::from_parts(head, body), context).await;
            match arrival.method {
                Method::OPTIONS => cors::preflight(answer, &config.allowed_headers),
                _ => answer,
            }
        }
        Err(error) => routes::misconfigured(uri.path(), error).into_response(),
    };

    let route = matched(&answer).map(ToOwned::to_owned);
    let (mut answer, failure) = problem::render(answer, &arrival.path, &arrival.id);
    let allowed_origins = config
        .as_ref()
        .map_or(&[][..], |config| &config.allowed_origins);
    let readers = cors::Readers::of(uri.path(), allowed_origins);
    cors::apply(&headers, readers, answer.headers_mut());
    add_common_headers(answer.headers_mut());
    let line = arrival.end(&mut answer, route.as_deref(), failure.as_ref());
    (answer, line)
}

/// A request that has arrived, whoever answers it: what its answer and its line in the log tell of it.
#[derive(Debug)]
pub struct Arrival {
    id: String,
    method: Method,
    path: String,
    started: u64,
}

impl Arrival {
    /// Gives a request its id.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            id: request_id::of(request.headers()),
            method: request.method().clone(),
            path: log::shown_path(request.uri().path()).to_owned(),
            started: clock::milliseconds(),
        }
    }

    /// Ends with an answer that a host gives by itself, such as a file of the page, and gives the line to be logged. A failure
    /// becomes a problem document; what else it answers keeps its headers.
    pub fn answered(self, answer: Response, route: Option<&str>) -> (Response, log::Line) {
        let (mut answer, failure) = problem::render(answer, &self.path, &self.id);
        if failure.is_some() {
            add_common_headers(answer.headers_mut());
        }
        let line = self.end(&mut answer, route, failure.as_ref());
        (answer, line)
    }

    fn end(
        self,
        answer: &mut Response,
        route: Option<&str>,
        failure: Option<&log::Failure>,
    ) -> log::Line {
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            answer.headers_mut().insert(request_id::HEADER, id);
        }
        log::Request {
            id: &self.id,
            method: &self.method,
            route,
            status: answer.status().as_u16(),
            ms: clock::milliseconds().saturating_sub(self.started),
            failure,
        }
        .line()
    }
}

/// The answer to a request that does not say which host it means, once.
#[must_use]
pub fn hostless() -> Response {
    ApiError::new(
        ErrorCode::InvalidField,
        "The request must name its host once, in the header Host, and no user in it.",
    )
    .into_response()
}

/// What every answer carries. Nothing is cached unless its handler says so: most answers hold
/// someone's data, and some a signed URL.
fn add_common_headers(headers: &mut HeaderMap) {
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
