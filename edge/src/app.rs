//! What every handler is given.

use crate::{config::Config, db, problem::ApiError, storage};
use axum::http::Uri;
use std::sync::Arc;
use worker::{Context, Env};

/// Binding of the bucket.
const BUCKET: &str = "BUCKET";
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

    /// The database.
    ///
    /// # Errors
    /// 500 when the binding is missing.
    pub(crate) fn database(&self) -> Result<db::Hyperdrive, ApiError> {
        database(&self.env)
    }

    /// The object store.
    ///
    /// # Errors
    /// 500 when the binding is missing.
    pub(crate) fn bucket(&self) -> Result<storage::Bucket, ApiError> {
        bucket(&self.env)
    }
}

/// The database of an environment.
pub(crate) fn database(env: &Env) -> Result<db::Hyperdrive, ApiError> {
    env.hyperdrive(HYPERDRIVE)
        .map(db::Hyperdrive)
        .map_err(|error| ApiError::internal(format_args!("binding {HYPERDRIVE}: {error}")))
}

/// The object store of an environment.
pub(crate) fn bucket(env: &Env) -> Result<storage::Bucket, ApiError> {
    env.bucket(BUCKET)
        .map(storage::Bucket)
        .map_err(|error| ApiError::internal(format_args!("binding {BUCKET}: {error}")))
}

/// Scheme, host and port of a request's URI, which the runtime always gives whole.
fn origin(uri: &Uri) -> Arc<str> {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}").into(),
        _ => "".into(),
    }
}
