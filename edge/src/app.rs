//! What every handler is given.

use crate::{
    config::{Config, StoreSettings},
    db,
    problem::ApiError,
    rate_limit::RateLimits,
    storage::{Bucket, S3, Store},
};
use axum::http::Uri;
use std::{fmt::Display, sync::Arc};
use worker::{Context, Env, web_sys::ReadableStream};

/// Binding of the bucket.
const BUCKET: &str = "BUCKET";
/// Binding of the files deployed beside the worker.
const ASSETS: &str = "ASSETS";
/// Binding of the database.
const HYPERDRIVE: &str = "HYPERDRIVE";

/// The settings and the bindings of this request.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// Where this request came in: scheme, host and port.
    pub(crate) origin: Arc<str>,
    env: Env,
    context: Arc<Context>,
}

impl App {
    /// Gathers what a request comes with.
    pub(crate) fn new(config: Arc<Config>, uri: &Uri, env: Env, context: Context) -> Self {
        Self {
            config,
            origin: origin(uri),
            env,
            context: Arc::new(context),
        }
    }

    /// Lets `work` run on after the answer has been sent.
    pub(crate) fn after_answer(&self, work: impl Future<Output = ()> + 'static) {
        self.context.wait_until(work);
    }

    /// A file deployed beside the worker, by its path.
    ///
    /// # Errors
    /// 500 when it is not there.
    pub(crate) async fn asset(&self, path: &str) -> Result<ReadableStream, ApiError> {
        let missing =
            |cause: &dyn Display| ApiError::internal(format_args!("asset {path}: {cause}"));
        // The host plays no part: the binding knows these files alone.
        let url = format!("https://assets{path}");
        let files = self.env.assets(ASSETS).map_err(|error| missing(&error))?;
        let file = files
            .fetch(url, None)
            .await
            .map_err(|error| missing(&error))?;
        let status = file.status();
        if !status.is_success() {
            return Err(missing(&status));
        }
        file.into_body()
            .into_inner()
            .ok_or_else(|| missing(&"it is empty"))
    }

    /// The database.
    ///
    /// # Errors
    /// 500 when the binding is missing.
    pub(crate) fn database(&self) -> Result<db::Postgres, ApiError> {
        database(&self.config, &self.env)
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
        storage(&self.config, &self.env)
    }

    /// The bucket whose objects the worker serves itself.
    ///
    /// # Errors
    /// 404 when the objects are in another store, 500 when the binding is missing.
    pub(crate) fn bucket(&self) -> Result<Bucket, ApiError> {
        match self.storage()? {
            Store::R2(bucket) => Ok(bucket),
            Store::S3(_) => Err(ApiError::not_found("path here")),
        }
    }
}

/// The database of the settings, or the one behind Hyperdrive.
pub(crate) fn database(config: &Config, env: &Env) -> Result<db::Postgres, ApiError> {
    if let Some(address) = &config.database {
        return Ok(address.clone().into());
    }
    env.hyperdrive(HYPERDRIVE)
        .map(|hyperdrive| (&hyperdrive).into())
        .map_err(|error| ApiError::internal(format_args!("binding {HYPERDRIVE}: {error}")))
}

/// The object store of the settings.
pub(crate) fn storage(config: &Config, env: &Env) -> Result<Store, ApiError> {
    match &config.store {
        StoreSettings::S3(settings) => Ok(Store::S3(S3(Arc::clone(settings)))),
        StoreSettings::R2 => env
            .bucket(BUCKET)
            .map(|bucket| Store::R2(Bucket(bucket)))
            .map_err(|error| ApiError::internal(format_args!("binding {BUCKET}: {error}"))),
    }
}

/// Scheme, host and port of a request's URI, which the runtime always gives whole.
fn origin(uri: &Uri) -> Arc<str> {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}").into(),
        _ => "".into(),
    }
}
