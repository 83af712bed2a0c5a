//! The Keepsake worker: the service of `keepsake_service`, bound to Cloudflare Workers.
//!
//! - `bridge`: the runtime's requests and responses, as axum's and back.
//! - `runtime`: what the service needs of any runtime. `webcrypto` and `digest` are the parts of it that WebCrypto does.
//! - `bindings`: what the service needs for one request, from the bindings of the deployment: `environment` (the settings),
//!   `db` (Hyperdrive, or PostgreSQL itself) and `bucket` (R2).
//! - `queue`: messages about the bucket's objects. `events` is the queue that events go to.
//!
//! A worker has one thread, and what it holds of JavaScript cannot leave it. So each `Task` is wrapped where a trait of the
//! service is implemented, and the service knows nothing of it.

mod bindings;
mod bridge;
mod bucket;
mod db;
mod digest;
mod environment;
mod events;
mod queue;
mod runtime;
mod webcrypto;

use bindings::Bindings;
use keepsake_service::{
    Host, config::Config, db::AnyDatabase, jobs, log, log::Level, receiver, storage, storage::Store,
};
use serde_json::json;
use std::sync::Arc;
use worker::{Context, Env, MessageBatch, Result, ScheduleContext, ScheduledEvent, event, web_sys};

/// Prepares a fresh worker.
#[event(start)]
fn start() {
    runtime::install();
    log::panics();
}

/// Answers one HTTP request.
///
/// 1. Take it in, and let the service answer.
/// 2. What is left of its body is read off.
/// 3. One line is logged once the answer is on its way.
#[event(fetch)]
async fn fetch(incoming: web_sys::Request, env: Env, context: Context) -> Result<worker::Response> {
    let request = bridge::request(&incoming);
    let headers = request.headers().clone();
    let (config, context) = (environment::load(&env), Arc::new(context));
    let bindings = Bindings::of_request(config.as_ref().ok().cloned(), env, Arc::clone(&context));
    let (answer, line) = keepsake_service::answer(request, &config, Arc::new(bindings)).await;
    bridge::discard(&incoming, &headers).await;
    context.wait_until(async move {
        runtime::yield_now().await;
        line.write();
    });
    bridge::response(answer).await
}

/// Does the scheduled work.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match parts(env) {
        Ok((config, database, storage, bindings)) => {
            let told = receiver(&config, &bindings);
            jobs::run(
                &database,
                &storage,
                config.max_image_pixels,
                told.as_deref(),
            )
            .await;
        }
        Err(error) => not_set_up("cron", &error),
    }
}

/// Takes what the store tells.
#[event(queue)]
async fn queue(batch: MessageBatch<()>, env: Env, _context: Context) -> Result<()> {
    match parts(env) {
        Ok((config, database, storage, _)) => {
            queue::take(&batch, &database, &storage, config.max_image_pixels).await;
        }
        Err(error) => {
            not_set_up("store_event", &error);
            batch.retry_all();
        }
    }
    Ok(())
}

/// What work without a caller needs.
fn parts(env: Env) -> std::result::Result<(Arc<Config>, AnyDatabase, Store, Bindings), String> {
    let config = environment::load(&env).map_err(|error| error.to_string())?;
    let bindings = Bindings::without_request(Arc::clone(&config), env);
    let storage = storage(&config, &bindings)?;
    Ok((config, bindings.database()?, storage, bindings))
}

fn not_set_up(event: &str, cause: &str) {
    log::write(Level::Error, event, json!({ "cause": cause }));
}
