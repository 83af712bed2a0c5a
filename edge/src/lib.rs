//! The Keepsake worker.
//!
//! It authenticates, validates, signs, verifies and purges; the rules it applies live in
//! `keepsake_shared`, and what is true is decided in PostgreSQL. Data flows one way through a
//! request: `wire` takes it in, `auth`, `body` and `query` parse it, a handler of
//! `routes` checks and acts through `db` and `storage`, and `problem` or the handler
//! renders the answer.

mod auth;
mod clock;
mod config;
mod context;
mod db;
#[cfg(test)]
mod fakes;
mod http;
mod jobs;
mod log;
mod model;
mod outbox;
mod receiver;
mod routes;
mod signer;
mod storage;
mod upload;

use axum::{
    http::{
        HeaderValue, Method, Request,
        header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use config::Config;
use context::RequestContext;
use db::Postgres;
use http::{bridge, cors, problem, request_id};
use log::Level;
use serde_json::json;
use std::sync::Arc;
use storage::Store;
use worker::{Context, Env, MessageBatch, Result, ScheduleContext, ScheduledEvent, event, web_sys};

/// Prepares a fresh worker.
#[event(start)]
fn start() {
    log::panics();
}

/// Answers one HTTP request.
///
/// 1. Take it in and give it an id.
/// 2. Its route answers, once it is counted; of a preflight the path's methods are told.
/// 3. What is left of its body is read off.
/// 4. A failure becomes a problem document.
/// 5. CORS, caching and the id are added; one line is logged once the answer is on its way.
#[event(fetch)]
async fn fetch(incoming: web_sys::Request, env: Env, context: Context) -> Result<worker::Response> {
    let started = worker::Date::now().as_millis();
    let (head, body) = bridge::request(&incoming).into_parts();
    let id = request_id::of(&head.headers);
    let path = log::shown_path(head.uri.path());

    let (config, context) = (config::load(&env), Arc::new(context));
    let answer = match &config {
        Ok(config) => {
            let request = Request::from_parts(head.clone(), body);
            let context =
                RequestContext::new(Arc::clone(config), &head.uri, env, Arc::clone(&context));
            let answer = routes::answer(request, context).await;
            match head.method {
                Method::OPTIONS => cors::preflight(answer, &config.allowed_headers),
                _ => answer,
            }
        }
        Err(error) => routes::misconfigured(head.uri.path(), error).into_response(),
    };
    bridge::discard(&incoming, &head.headers).await;

    let route = routes::matched(&answer).map(ToOwned::to_owned);
    let (mut answer, failure) = problem::render(answer, path, &id);
    let allowed_origins = config
        .as_ref()
        .map_or(&[][..], |config| &config.allowed_origins);
    let readers = cors::Readers::of(head.uri.path(), allowed_origins);
    cors::apply(&head.headers, readers, answer.headers_mut());
    add_common_headers(&mut answer, &id);
    let line = log::Request {
        id: &id,
        method: &head.method,
        route: route.as_deref(),
        status: answer.status().as_u16(),
        ms: worker::Date::now().as_millis().saturating_sub(started),
        failure: failure.as_ref(),
    }
    .line();
    context.wait_until(async move {
        clock::yield_now().await;
        line.write();
    });
    bridge::response(answer).await
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

/// Does the scheduled work; see `cron`.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match parts(&env) {
        Ok((config, database, storage)) => {
            let told = context::told(&config, &env);
            jobs::run(&database, &storage, config.max_image_pixels, told.as_ref()).await;
        }
        Err(error) => not_set_up("cron", &error),
    }
}

/// Takes what the store tells; see `events`.
#[event(queue)]
async fn queue(batch: MessageBatch<()>, env: Env, _context: Context) -> Result<()> {
    match parts(&env) {
        Ok((config, database, storage)) => {
            jobs::take(&batch, &database, &storage, config.max_image_pixels).await;
        }
        Err(error) => {
            not_set_up("store_event", &error);
            batch.retry_all();
        }
    }
    Ok(())
}

/// What work without a caller needs.
fn parts(env: &Env) -> std::result::Result<(Arc<Config>, Postgres, Store), String> {
    let config = config::load(env).map_err(|error| error.to_string())?;
    let database = context::database(&config, env).map_err(|error| error.to_string())?;
    let storage = context::storage(&config, env).map_err(|error| error.to_string())?;
    Ok((config, database, storage))
}

fn not_set_up(event: &str, cause: &str) {
    log::write(Level::Error, event, json!({ "cause": cause }));
}
