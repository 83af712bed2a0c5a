//! What a handler works with: the settings, and the host of its request.
//!
//! May call `runtime`, `config`, `db`, `storage`, `receiver`, `signer` and `http`.

use crate::{
    config::{Config, StoreSettings},
    db::AnyDatabase,
    http::{
        ApiError,
        rate_limit::{Limiter, RateLimits},
    },
    receiver::{Endpoint, Receiver},
    runtime::Task,
    signer::Signer,
    storage::{Bucket, S3, Store},
};
use axum::{http::Uri, response::Response};
use std::{fmt::Debug, sync::Arc};

/// What a host gives to one request. An error is the reason why there is none, for the log.
pub trait Host: Limiter + Debug {
    /// The database.
    ///
    /// # Errors
    /// The deployment has none.
    fn database(&self) -> Result<AnyDatabase, String>;

    /// Opens a connection ahead for a caller who is known and will most likely need it, where that costs the database
    /// nothing: whom a limit or a check refuses after all must not cost it a process.
    fn expect_database(&self) {}

    /// The bucket whose objects the service serves itself.
    ///
    /// # Errors
    /// The deployment has none.
    fn bucket(&self) -> Result<Arc<dyn Bucket>, String>;

    /// A queue that events go to, where the settings name no endpoint.
    fn events(&self) -> Option<Arc<dyn Receiver>> {
        None
    }

    /// The page's document, with the headers that it was built with; `None` where no page is served.
    ///
    /// # Errors
    /// The host does not hand it out.
    fn page<'a>(&'a self, origin: &'a str) -> Task<'a, Result<Option<Response>, String>>;

    /// Lets `work` run on after the answer has been sent.
    fn after_answer(&self, work: Task<'static, ()>);
}

/// The settings and the host of this request.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// Where this request came in: scheme, host and port.
    pub(crate) origin: Arc<str>,
    host: Arc<dyn Host>,
}

impl RequestContext {
    /// Gathers what a request comes with.
    pub(crate) fn new(config: Arc<Config>, uri: &Uri, host: Arc<dyn Host>) -> Self {
        Self {
            config,
            origin: origin(uri),
            host,
        }
    }

    /// Lets `work` run on after the answer has been sent.
    pub(crate) fn after_answer(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.host.after_answer(Box::pin(work));
    }

    /// The page's document, with the headers that it was built with.
    ///
    /// # Errors
    /// 404 where no page is served, 500 when the host does not hand it out.
    pub(crate) async fn page(&self) -> Result<Response, ApiError> {
        let page = self.host.page(&self.origin).await;
        page.map_err(ApiError::internal)?
            .ok_or_else(ApiError::no_path)
    }

    /// The database.
    ///
    /// # Errors
    /// 500 when there is none.
    pub(crate) fn database(&self) -> Result<AnyDatabase, ApiError> {
        self.host.database().map_err(ApiError::internal)
    }

    /// See [`Host::expect_database`].
    pub(crate) fn expect_database(&self) {
        self.host.expect_database();
    }

    /// What counts requests.
    pub(crate) fn limits(&self) -> RateLimits<'_> {
        RateLimits(self.host.as_ref())
    }

    /// The object store.
    ///
    /// # Errors
    /// 500 when there is none.
    pub(crate) fn storage(&self) -> Result<Store, ApiError> {
        storage(&self.config, self.host.as_ref()).map_err(ApiError::internal)
    }

    /// What signs URLs.
    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            config: &self.config,
            origin: &self.origin,
        }
    }

    /// The bucket whose objects the service serves itself.
    ///
    /// # Errors
    /// 404 when the objects are in another store, 500 when there is none.
    pub(crate) fn bucket(&self) -> Result<Arc<dyn Bucket>, ApiError> {
        match self.storage()? {
            Store::Served(bucket) => Ok(bucket),
            Store::S3(_) => Err(ApiError::no_path()),
        }
    }
}

/// The object store of the settings.
///
/// # Errors
/// The deployment has none.
pub fn storage(config: &Config, host: &dyn Host) -> Result<Store, String> {
    match &config.store {
        StoreSettings::S3(settings) => Ok(Store::S3(S3(Arc::clone(settings)))),
        StoreSettings::R2 | StoreSettings::File(_) => host.bucket().map(Store::Served),
    }
}

/// Who is told of events, if anybody is.
pub fn receiver(config: &Config, host: &dyn Host) -> Option<Arc<dyn Receiver>> {
    match &config.webhook {
        Some(webhook) => Some(Arc::new(Endpoint(Arc::clone(webhook)))),
        None => host.events(),
    }
}

/// Scheme, host and port of a request's URI, which a host always gives whole.
fn origin(uri: &Uri) -> Arc<str> {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}").into(),
        _ => "".into(),
    }
}
