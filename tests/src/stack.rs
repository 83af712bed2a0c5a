//! Everything together: PostgreSQL, migrations, the example application, the worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use sqlx::Connection as _;

use crate::leash::Leash;
use crate::migrate::{self, Keep, WORKER};
use crate::places;
use crate::pool::Pool;
use crate::postgres::{DATABASE, Postgres};
use crate::secrets::{Secrets, hex, random};
use crate::worker::{Companion, Host, OuterStore, Worker, WorkerSettings};

/// What a stack keeps, where it listens, and the settings of its worker.
#[derive(Clone, Debug, Default)]
pub struct StackSettings {
    /// A folder whose data outlives the stack. Without one, the stack uses a temporary folder.
    pub kept_in: Option<PathBuf>,
    /// Where the example application keeps what is deleted of its tables.
    pub keep: Keep,
    /// The worker's port, if it is free.
    pub port: Option<u16>,
    /// The store of all its workers; by default the host's own.
    pub store: Option<Arc<dyn OuterStore>>,
    /// Overrides of `[vars]` in `wrangler.toml`.
    pub vars: Vec<(String, String)>,
    /// The connections of a pool between worker and database. Without one, each request has its own connection.
    pub pool: Option<u8>,
    /// How far the worker's clock is ahead of all others, in seconds; negative if behind.
    pub worker_clock_ahead: i32,
    /// The queue that the worker binds as `EVENTS`.
    pub events_queue: Option<String>,
}

/// A running Keepsake. It stops when it is dropped, and when this process ends.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: each part before the ones that it uses.
    /// The worker under `wrangler dev`.
    pub worker: Worker,
    pool: Option<Pool>,
    /// The database under it.
    pub postgres: Postgres,
    /// Its passwords and keys.
    pub secrets: Secrets,
    /// Where its objects are, if not with the host.
    pub store: Option<Arc<dyn OuterStore>>,
    folder: PathBuf,
    leash: Leash,
}

impl Stack {
    /// Starts everything, and reports each step to `progress`.
    ///
    /// # Errors
    /// A part does not start; the error contains the end of its log.
    pub async fn start(settings: StackSettings, progress: impl Fn(&str)) -> Result<Self> {
        let (folder, leash) = match &settings.kept_in {
            Some(folder) => (folder.clone(), Leash::new(None)?),
            None => throwaway_folder()?,
        };
        make_folder(&folder)?;
        let secrets = Secrets::of(&folder)?;

        progress("Starting PostgreSQL");
        let postgres = Postgres::start(&folder, &secrets.superuser_password, &leash).await?;
        progress("Applying the migrations and installing the example application");
        let mut connection = postgres.connect().await?;
        migrate::up(&mut connection).await?;
        migrate::install_example(&mut connection, settings.keep).await?;
        migrate::admit_worker(&mut connection, &secrets.worker_password).await?;
        connection.close().await?;
        let password = &secrets.worker_password;
        let pool = match settings.pool {
            Some(size) => Some(Pool::start(&folder, &postgres, password, size, &leash).await?),
            None => None,
        };

        progress("Starting the worker");
        let worker = WorkerSettings {
            host: Host::chosen(),
            folder: folder.clone(),
            database_url: worker_url(&postgres, pool.as_ref(), &secrets),
            vars: stored(settings.store.as_deref(), settings.vars),
            trusted_authority: None,
            port: settings.port,
            clock_ahead: settings.worker_clock_ahead,
            requests_a_minute: None,
            events_queue: settings.events_queue,
        };
        let worker = Worker::start(worker, &secrets, &leash).await?;
        Ok(Self {
            worker,
            pool,
            postgres,
            secrets,
            store: settings.store,
            folder,
            leash,
        })
    }

    /// Another worker on the same database and with the same secrets, but other settings.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn another_worker(
        &self,
        name: &str,
        vars: &[(&str, &str)],
        trusted_authority: Option<PathBuf>,
    ) -> Result<Worker> {
        let settings = WorkerSettings {
            trusted_authority,
            ..self.settings_of(name, vars)
        };
        Worker::start(settings, &self.secrets, &self.leash).await
    }

    /// Another worker, on another database that has this one's roles and passwords.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn worker_on(
        &self,
        postgres: &Postgres,
        name: &str,
        vars: &[(&str, &str)],
    ) -> Result<Worker> {
        let settings = WorkerSettings {
            database_url: worker_url(postgres, None, &self.secrets),
            ..self.settings_of(name, vars)
        };
        Worker::start(settings, &self.secrets, &self.leash).await
    }

    /// Another worker that takes so many requests a minute of one caller.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn limited_worker(
        &self,
        name: &str,
        vars: &[(&str, &str)],
        requests_a_minute: u32,
    ) -> Result<Worker> {
        let settings = WorkerSettings {
            requests_a_minute: Some(requests_a_minute),
            ..self.settings_of(name, vars)
        };
        Worker::start(settings, &self.secrets, &self.leash).await
    }

    /// Another worker on what this host runs it, with no limit of requests.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn worker_in(&self, host: Host, name: &str, vars: &[(&str, &str)]) -> Result<Worker> {
        let settings = WorkerSettings {
            host,
            requests_a_minute: Some(u32::MAX),
            ..self.settings_of(name, vars)
        };
        Worker::start(settings, &self.secrets, &self.leash).await
    }

    fn settings_of(&self, name: &str, vars: &[(&str, &str)]) -> WorkerSettings {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        WorkerSettings {
            host: Host::chosen(),
            folder: self.folder.join(name),
            database_url: self.worker_url(),
            vars: stored(self.store.as_deref(), vars.collect()),
            trusted_authority: None,
            port: None,
            clock_ahead: 0,
            requests_a_minute: None,
            events_queue: None,
        }
    }

    /// A worker of the tests' own beside the stack's; see [`Companion::start`].
    ///
    /// # Errors
    /// As [`Companion::start`].
    pub async fn companion(&self, config: &str) -> Result<Companion> {
        Companion::start(config, &self.worker_url(), &self.folder, &self.leash).await
    }

    /// As [`Stack::companion`], in workerd alone.
    ///
    /// # Errors
    /// As [`Companion::start`].
    pub async fn companion_in_workerd(&self, config: &str) -> Result<Companion> {
        Companion::in_workerd(config, &self.worker_url(), &self.folder, &self.leash).await
    }

    /// The address of the database, or of the pool before it, as the worker's role.
    #[must_use]
    pub fn worker_url(&self) -> String {
        worker_url(&self.postgres, self.pool.as_ref(), &self.secrets)
    }

    /// What a shell needs to try things, with `token` as the bearer token: lines to be sourced.
    #[must_use]
    pub fn environment(&self, token: &str) -> String {
        format!(
            "export KEEPSAKE_URL={}\nexport KEEPSAKE_TOKEN={token}\nexport KEEPSAKE_DATABASE_URL={}\n",
            self.worker.url(),
            self.postgres.superuser_url(),
        )
    }

    /// Where the data and the logs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The settings of a worker with this store. Its own go before those of the store.
fn stored(store: Option<&dyn OuterStore>, vars: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut all = store.map(OuterStore::settings).unwrap_or_default();
    all.retain(|(name, _)| vars.iter().all(|(own, _)| own != name));
    all.extend(vars);
    all
}

fn worker_url(postgres: &Postgres, pool: Option<&Pool>, secrets: &Secrets) -> String {
    let port = pool.map_or(postgres.port(), Pool::port);
    let password = &secrets.worker_password;
    format!("postgres://{WORKER}:{password}@127.0.0.1:{port}/{DATABASE}")
}

/// A new folder that is removed with the stack, and the guard that removes it.
///
/// # Errors
/// The folder cannot be made.
pub fn throwaway_folder() -> Result<(PathBuf, Leash)> {
    let folder = places::run_folder()?.join(hex(&random::<8>()?));
    let leash = Leash::new(Some(&folder))?;
    make_folder(&folder)?;
    Ok((folder, leash))
}

/// Others may pass through, for the `postgres` user when root made it; the secrets inside
/// have rights of their own.
fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}
