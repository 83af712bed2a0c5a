//! What a handler works with: the settings, and the bindings of its request.
//!
//! May call `config`, `db`, `storage`, `receiver`, `signer` and `http`.

use crate::{
    config::{Config, StoreSettings},
    db,
    http::{ApiError, rate_limit::RateLimits},
    receiver::Told,
    signer::Signer,
    storage::{Bucket, S3, Store},
};
use axum::http::Uri;
use std::{cell::RefCell, rc::Rc, sync::Arc};
use worker::{
    Context, Env,
    js_sys::{Function, Promise, Reflect},
    send::SendWrapper,
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys,
};

/// Binding of the page's files.
const ASSETS: &str = "ASSETS";
/// Binding of the bucket.
const BUCKET: &str = "BUCKET";
/// Binding of the queue that events go to, if they go to one.
const EVENTS: &str = "EVENTS";
/// Binding of the database.
const HYPERDRIVE: &str = "HYPERDRIVE";

/// The settings and the bindings of this request.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// Where this request came in: scheme, host and port.
    pub(crate) origin: Arc<str>,
    env: Env,
    context: Arc<Context>,
    /// The database, when a connection to it was opened ahead.
    ahead: SendWrapper<Rc<RefCell<Option<db::Postgres>>>>,
}

impl RequestContext {
    /// Gathers what a request comes with.
    pub(crate) fn new(config: Arc<Config>, uri: &Uri, env: Env, context: Arc<Context>) -> Self {
        Self {
            config,
            origin: origin(uri),
            env,
            context,
            ahead: SendWrapper::new(Rc::default()),
        }
    }

    /// Lets `work` run on after the answer has been sent.
    pub(crate) fn after_answer(&self, work: impl Future<Output = ()> + 'static) {
        self.context.wait_until(work);
    }

    /// A file of the page, with the headers that it was built with.
    ///
    /// # Errors
    /// 404 where no page is served, 500 when the platform does not hand it out.
    pub(crate) async fn asset(&self, path: &str) -> Result<web_sys::Response, ApiError> {
        let assets = Reflect::get(&self.env, &ASSETS.into()).unwrap_or(JsValue::UNDEFINED);
        if assets.is_undefined() {
            return Err(ApiError::no_path());
        }
        fetch_from(&assets, &format!("{}{path}", self.origin))
            .await
            .map_err(|error| ApiError::internal(format_args!("binding {ASSETS}: {error:?}")))
    }

    /// The database.
    ///
    /// # Errors
    /// 500 when the binding is missing.
    pub(crate) fn database(&self) -> Result<db::Postgres, ApiError> {
        let ahead = self.ahead.0.take();
        ahead.map_or_else(
            || database(&self.config, &self.env).map_err(ApiError::internal),
            Ok,
        )
    }

    /// Opens a connection ahead for a caller who is known and will most likely need it. Not to the server itself:
    /// each of those costs it a process, and whom a limit or a check refuses after all must not cost that.
    pub(crate) fn expect_database(&self) {
        if self.config.database.is_some() {
            return;
        }
        // What is wrong with it is told to who asks for it.
        if let Ok(database) = database(&self.config, &self.env) {
            database.open_ahead();
            self.ahead.0.replace(Some(database));
        }
    }

    /// What counts requests.
    pub(crate) fn limits(&self) -> RateLimits<'_> {
        RateLimits(&self.env)
    }

    /// The object store.
    ///
    /// # Errors
    /// 500 when the binding is missing.
    pub(crate) fn storage(&self) -> Result<Store, ApiError> {
        storage(&self.config, &self.env).map_err(ApiError::internal)
    }

    /// What signs URLs.
    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            config: &self.config,
            origin: &self.origin,
        }
    }

    /// The bucket whose objects the worker serves itself.
    ///
    /// # Errors
    /// 404 when the objects are in another store, 500 when the binding is missing.
    pub(crate) fn bucket(&self) -> Result<Bucket, ApiError> {
        match self.storage()? {
            Store::R2(bucket) => Ok(bucket),
            Store::S3(_) => Err(ApiError::no_path()),
        }
    }
}

/// A binding that the deployment does not have, with the platform's reason.
#[derive(Debug, thiserror::Error)]
#[error("binding {0}: {1}")]
pub(crate) struct MissingBinding(&'static str, String);

/// The database of the settings, or the one behind Hyperdrive.
///
/// # Errors
/// The binding is missing.
pub(crate) fn database(config: &Config, env: &Env) -> Result<db::Postgres, MissingBinding> {
    if let Some(address) = &config.database {
        return Ok(address.clone().into());
    }
    env.hyperdrive(HYPERDRIVE)
        .map(|hyperdrive| db::Postgres::behind(&hyperdrive, config.hyperdrive_open))
        .map_err(|error| MissingBinding(HYPERDRIVE, error.to_string()))
}

/// Who is told of events, if anybody is.
pub(crate) fn told(config: &Config, env: &Env) -> Option<Told> {
    if let Some(webhook) = &config.webhook {
        return Some(Told::Endpoint(Arc::clone(webhook)));
    }
    let queue = Reflect::get(env, &EVENTS.into()).ok();
    let queue = queue.filter(|queue| queue.is_object());
    queue.map(|queue| Told::Queue(SendWrapper::new(queue)))
}

/// The object store of the settings.
///
/// # Errors
/// The binding is missing.
pub(crate) fn storage(config: &Config, env: &Env) -> Result<Store, MissingBinding> {
    match &config.store {
        StoreSettings::S3(settings) => Ok(Store::S3(S3(Arc::clone(settings)))),
        StoreSettings::R2 => env
            .bucket(BUCKET)
            .map(|bucket| Store::R2(Bucket(bucket)))
            .map_err(|error| MissingBinding(BUCKET, error.to_string())),
    }
}

/// What a binding with a `fetch` of its own answers. `worker::Fetcher` would bring eight kilobytes.
async fn fetch_from(binding: &JsValue, address: &str) -> Result<web_sys::Response, JsValue> {
    let fetch: Function = Reflect::get(binding, &"fetch".into())?.dyn_into()?;
    let answer: Promise = fetch.call1(binding, &address.into())?.dyn_into()?;
    JsFuture::from(answer).await?.dyn_into()
}

/// Scheme, host and port of a request's URI, which the runtime always gives whole.
fn origin(uri: &Uri) -> Arc<str> {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}").into(),
        _ => "".into(),
    }
}
