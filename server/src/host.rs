//! What the service needs for one request. All requests share it.

use crate::{
    file_store::FileStore,
    limiter::Counter,
    page::Page,
    postgres::Postgres,
    settings::{Settings, SettingsError},
    traces,
};
use axum::response::Response;
use keepsake_service::{
    Host,
    config::{Config, ConfigError, StoreSettings},
    db::AnyDatabase,
    http::rate_limit::Limiter,
    runtime::Task,
    storage::Bucket,
};
use std::{future::ready, path::Path, sync::Arc};
use tokio_util::task::TaskTracker;

/// What lives as long as the server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The settings, as the service takes them.
    pub(crate) config: Result<Arc<Config>, ConfigError>,
    /// The database.
    pub(crate) postgres: Arc<Postgres>,
    /// The bucket, where the settings name one.
    pub(crate) files: Option<FileStore>,
    /// The page's files, where the settings name them.
    pub(crate) page: Page,
    /// Work that goes on after its answer.
    pub(crate) tasks: TaskTracker,
    limits: Counter,
}

impl Server {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// The setting of what cannot be opened.
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let config = &settings.config;
        let address = config
            .database
            .as_ref()
            .ok_or_else(|| unusable("DATABASE_URL", "is required"))?;
        let postgres = Postgres::new(address, settings.connections)
            .map_err(|error| unusable("DATABASE_URL", error))?;
        let files = match &config.store {
            StoreSettings::File(root) => Some(
                FileStore::open(Path::new(root))
                    .map_err(|error| SettingsError::Folder("FILE_ROOT", root.into(), error))?,
            ),
            StoreSettings::R2 | StoreSettings::S3(_) => None,
        };
        let page = match &settings.page_root {
            Some(root) => Page::read(root)
                .map_err(|error| SettingsError::Folder("PAGE_ROOT", root.clone(), error))?,
            None => Page::default(),
        };
        Ok(Self {
            config: Ok(Arc::clone(config)),
            postgres: Arc::new(postgres),
            files,
            page,
            tasks: TaskTracker::new(),
            limits: Counter::new(settings.requests_per_minute),
        })
    }
}

fn unusable(name: &'static str, problem: impl ToString) -> SettingsError {
    SettingsError::Setting(name, problem.to_string())
}

impl Host for Server {
    fn database(&self) -> Result<AnyDatabase, String> {
        Ok(Arc::clone(&self.postgres) as AnyDatabase)
    }

    fn bucket(&self) -> Result<Arc<dyn Bucket>, String> {
        match &self.files {
            Some(files) if traces::are_on() => Ok(Arc::new(traces::Traced(files.clone()))),
            Some(files) => Ok(Arc::new(files.clone())),
            None => Err("the settings name no folder of files".to_owned()),
        }
    }

    fn page<'a>(&'a self, _: &'a str) -> Task<'a, Result<Option<Response>, String>> {
        Box::pin(ready(Ok(self.page.document())))
    }

    fn after_answer(&self, work: Task<'static, ()>) {
        self.tasks.spawn(traces::carried(work));
    }
}

impl Limiter for Server {
    fn allows<'a>(&'a self, name: &'a str) -> Task<'a, Result<bool, ()>> {
        Box::pin(ready(Ok(self.limits.allows(name))))
    }
}
