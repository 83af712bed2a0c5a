//! What the service needs for one request, from the bindings of the deployment.

use crate::{bridge, bucket::R2, db::Postgres, events::EventQueue};
use axum::{body::Body, response::Response};
use keepsake_service::{
    Host, config::Config, db::AnyDatabase, http::rate_limit::Limiter, receiver::Receiver,
    runtime::Task, storage::Bucket,
};
use std::{cell::RefCell, fmt, sync::Arc};
use worker::{
    Context, Env,
    js_sys::{Function, Object, Promise, Reflect},
    send::{SendFuture, SendWrapper},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys,
};

/// Binding of the page's files.
const ASSETS: &str = "ASSETS";
/// Binding of the bucket.
const BUCKET: &str = "BUCKET";
/// Binding of the queue that events go to.
const EVENTS: &str = "EVENTS";
/// Binding of the database.
const HYPERDRIVE: &str = "HYPERDRIVE";
/// Binding that counts requests
/// (<https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/>), for each location, loosely and without
/// a round trip. The limit itself stands in `wrangler.toml`. Without it nothing is limited.
const RATE_LIMITER: &str = "RATE_LIMITER";

/// The bindings of the deployment, for one request or for work without one.
pub(crate) struct Bindings {
    /// The settings, if they can be used.
    config: Option<Arc<Config>>,
    env: Env,
    context: Option<Arc<Context>>,
    /// The database, when a connection to it was opened ahead.
    ahead: SendWrapper<RefCell<Option<Postgres>>>,
}

impl fmt::Debug for Bindings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Bindings")
    }
}

impl Bindings {
    /// Those of a request.
    pub(crate) fn of_request(config: Option<Arc<Config>>, env: Env, context: Arc<Context>) -> Self {
        Self {
            config,
            env,
            context: Some(context),
            ahead: SendWrapper::new(RefCell::default()),
        }
    }

    /// Those of work that nobody waits for.
    pub(crate) fn without_request(config: Arc<Config>, env: Env) -> Self {
        Self {
            config: Some(config),
            env,
            context: None,
            ahead: SendWrapper::new(RefCell::default()),
        }
    }

    /// The database of the settings, or the one behind Hyperdrive.
    ///
    /// # Errors
    /// The binding is missing.
    fn postgres(&self) -> Result<Postgres, String> {
        let address = self
            .config
            .as_ref()
            .and_then(|config| config.database.clone());
        if let Some(address) = address {
            return Ok(address.into());
        }
        let open = self
            .config
            .as_ref()
            .is_some_and(|config| config.hyperdrive_open);
        self.env
            .hyperdrive(HYPERDRIVE)
            .map(|hyperdrive| Postgres::behind(&hyperdrive, open))
            .map_err(|error| missing(HYPERDRIVE, &error))
    }
}

impl Host for Bindings {
    fn database(&self) -> Result<AnyDatabase, String> {
        match self.ahead.0.take() {
            Some(database) => Ok(Arc::new(database)),
            None => Ok(Arc::new(self.postgres()?)),
        }
    }

    /// Not to the server itself: each connection costs it a process.
    fn expect_database(&self) {
        if self
            .config
            .as_ref()
            .is_some_and(|config| config.database.is_some())
        {
            return;
        }
        // What is wrong with it is told to who asks for it.
        if let Ok(database) = self.postgres() {
            database.open_ahead();
            self.ahead.0.replace(Some(database));
        }
    }

    fn bucket(&self) -> Result<Arc<dyn Bucket>, String> {
        match self.env.bucket(BUCKET) {
            Ok(bucket) => Ok(Arc::new(R2(bucket))),
            Err(error) => Err(missing(BUCKET, &error)),
        }
    }

    fn events(&self) -> Option<Arc<dyn Receiver>> {
        let queue = EventQueue::of(binding(&self.env, EVENTS))?;
        Some(Arc::new(queue))
    }

    fn page<'a>(&'a self, origin: &'a str) -> Task<'a, Result<Option<Response>, String>> {
        Box::pin(SendFuture::new(async move {
            let assets = binding(&self.env, ASSETS);
            if assets.is_undefined() {
                return Ok(None);
            }
            let document = fetch_from(&assets, &format!("{origin}/"))
                .await
                .map_err(|error| format!("binding {ASSETS}: {error:?}"))?;
            let stream = document.body().filter(|_| document.status() == 200);
            Ok(stream.map(|stream| {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = bridge::headers(document.headers());
                response
                    .extensions_mut()
                    .insert(bridge::RawBody::new(stream));
                response
            }))
        }))
    }

    fn after_answer(&self, work: Task<'static, ()>) {
        if let Some(context) = &self.context {
            context.wait_until(work);
        }
    }
}

impl Limiter for Bindings {
    fn allows<'a>(&'a self, name: &'a str) -> Task<'a, Result<bool, ()>> {
        let allowed = async move {
            allows(&binding(&self.env, RATE_LIMITER), name)
                .await
                .map_err(|_| ())
        };
        Box::pin(SendFuture::new(allowed))
    }
}

async fn allows(limiter: &JsValue, name: &str) -> Result<bool, JsValue> {
    if limiter.is_undefined() {
        return Ok(true);
    }
    let limit: Function = Reflect::get(limiter, &"limit".into())?.dyn_into()?;
    let options = Object::new();
    Reflect::set(&options, &"key".into(), &name.into())?;
    let answer: Promise = limit.call1(limiter, &options)?.dyn_into()?;
    let answer = JsFuture::from(answer).await?;
    Ok(Reflect::get(&answer, &"success".into())? != JsValue::FALSE)
}

fn binding(env: &Env, name: &str) -> JsValue {
    Reflect::get(env, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

fn missing(name: &str, error: &worker::Error) -> String {
    format!("binding {name}: {error}")
}

/// What a binding with a `fetch` of its own answers. `worker::Fetcher` would bring eight kilobytes.
async fn fetch_from(binding: &JsValue, address: &str) -> Result<web_sys::Response, JsValue> {
    let fetch: Function = Reflect::get(binding, &"fetch".into())?.dyn_into()?;
    let answer: Promise = fetch.call1(binding, &address.into())?.dyn_into()?;
    JsFuture::from(answer).await?.dyn_into()
}
