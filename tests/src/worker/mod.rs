//! The service: the worker under `wrangler dev` with a local bucket or in workerd alone, or `keepsake serve` with a folder.

mod native;
mod store;
mod workerd;
mod wrangler;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::leash::Leash;
use crate::places::{checkout, free_port};
use crate::process::Daemon;
use crate::secrets::Secrets;
pub use store::{OuterStore, Store};

const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often a worker is started whose ports are taken.
const ATTEMPTS: u32 = 3;

/// What runs the service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host {
    /// The worker.
    Worker,
    /// The worker in workerd alone, without what `wrangler dev` puts around it: no bucket, no schedule and no limit of requests.
    Workerd,
    /// `keepsake serve`.
    Native,
}

impl Host {
    /// That of the variable `KEEPSAKE_HOST`: `worker`, unless it says `native`.
    #[must_use]
    pub fn chosen() -> Self {
        match std::env::var("KEEPSAKE_HOST").as_deref() {
            Ok("native") => Self::Native,
            _ => Self::Worker,
        }
    }
}

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// What runs it.
    pub host: Host,
    /// Holds the bucket, the worker's log and its secrets.
    pub folder: PathBuf,
    /// The database, as the worker's role.
    pub database_url: String,
    /// Overrides of `[vars]` in `wrangler.toml`.
    pub vars: Vec<(String, String)>,
    /// A certificate authority for the worker to trust besides the public ones.
    pub trusted_authority: Option<PathBuf>,
    /// The port to take if it is free.
    pub port: Option<u16>,
    /// How far its clock is off: seconds ahead of that of everything else, or behind.
    pub clock_ahead: i32,
    /// Another limit on the requests of a minute than `wrangler.toml` has.
    pub requests_a_minute: Option<u32>,
    /// The queue that the worker binds as `EVENTS`.
    pub events_queue: Option<String>,
}

/// A worker of the tests' own that talks to a running one.
#[derive(Debug)]
pub struct Companion {
    /// Where it listens, without a slash at the end.
    pub url: String,
    // Ends with it.
    server: Daemon,
}

impl Companion {
    /// Starts the worker of this `wrangler.toml`, within the repository, beside the one whose data is in
    /// `folder`: a queue that one of them fills reaches the other, and they may use the same database.
    ///
    /// # Errors
    /// The set-up has not been run, or the worker does not answer; with the end of its log.
    pub async fn start(
        config: &str,
        database_url: &str,
        folder: &Path,
        leash: &Leash,
    ) -> Result<Self> {
        let port = free_port(None)?;
        let url = format!("http://127.0.0.1:{port}");
        let server = started(&url, || {
            let mut command = wrangler::companion(config, database_url, folder, port)?;
            let log = folder.join("companion.log");
            Daemon::spawn("wrangler", &mut command, &log, leash)
        })
        .await?;
        Ok(Self { url, server })
    }

    /// As [`Companion::start`], in workerd alone.
    ///
    /// # Errors
    /// As [`Companion::start`].
    pub async fn in_workerd(
        config: &str,
        database_url: &str,
        folder: &Path,
        leash: &Leash,
    ) -> Result<Self> {
        let port = free_port(None)?;
        let url = format!("http://127.0.0.1:{port}");
        let folder = folder.join("companion");
        fs::create_dir_all(&folder)?;
        let server = started(&url, || {
            let mut command = workerd::companion(config, database_url, &folder, port)?;
            Daemon::spawn("workerd", &mut command, &folder.join("workerd.log"), leash)
        })
        .await?;
        Ok(Self { url, server })
    }

    /// The process that runs it.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.server.id()
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    server: Daemon,
    settings: WorkerSettings,
    port: u16,
    leash: Leash,
}

impl Worker {
    /// Starts the worker that `scripts/build-worker` has built, and waits until it answers.
    ///
    /// # Errors
    /// The set-up has not been run, or the worker does not answer; with the end of its log.
    pub async fn start(settings: WorkerSettings, secrets: &Secrets, leash: &Leash) -> Result<Self> {
        fs::create_dir_all(&settings.folder)?;
        secrets.write_worker_file(&secrets_file(&settings.folder))?;
        let port = free_port(settings.port)?;
        Ok(Self {
            server: serve(&settings, port, leash).await?,
            settings,
            port,
            leash: leash.clone(),
        })
    }

    /// Where it listens, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The process under which the runtime runs.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.server.id()
    }

    /// `kill -9` of the worker and its runtime.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port and bucket, after [`Worker::kill`].
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.server = serve(&self.settings, self.port, &self.leash).await?;
        Ok(())
    }

    /// Does the scheduled work once, as it is done every few minutes.
    ///
    /// # Errors
    /// It was not done.
    pub async fn run_schedule(&self) -> Result<()> {
        if self.settings.host == Host::Native {
            let once = native::serve(&self.settings, self.port)?
                .arg("--once")
                .output()?;
            ensure!(once.status.success(), "{once:?}");
            return Ok(());
        }
        // Some tests let the store take its time.
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(90))
            .build()?;
        let run = format!("{}/__scheduled?cron=*/5+*+*+*+*", self.url());
        client.get(run).send().await?.error_for_status()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM), and does not wait for it.
    ///
    /// # Errors
    /// It has ended already.
    pub fn ask_to_stop(&self) -> Result<()> {
        Ok(self.server.signal(Signal::SIGTERM)?)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// The end of its log, for an error message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.server.log_tail()
    }
}

/// A server that answers. `wrangler` takes ports for its own parts, too, and does not try another when something
/// else was quicker to take one; then it is started once more.
async fn started(address: &str, spawn: impl Fn() -> Result<Daemon>) -> Result<Daemon> {
    let mut attempt = 1;
    loop {
        let mut server = spawn()?;
        let Err(error) = wait_until_ready(&mut server, address).await else {
            return Ok(server);
        };
        if attempt == ATTEMPTS || !server.log_tail().contains("Address already in use") {
            return Err(error);
        }
        attempt += 1;
    }
}

async fn wait_until_ready(server: &mut Daemon, address: &str) -> Result<()> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()?;
    let answers = async || match client.get(address).send().await {
        Ok(reply) => reply.status().is_success(),
        Err(_) => false,
    };
    server
        .wait_until(READY_WITHIN, answers)
        .await
        .context("the worker does not respond")
}

fn secrets_file(folder: &Path) -> PathBuf {
    folder.join("worker.env")
}

/// The worker itself, once it answers.
async fn serve(settings: &WorkerSettings, port: u16, leash: &Leash) -> Result<Daemon> {
    let address = format!("http://127.0.0.1:{port}/healthz");
    started(&address, || spawn(settings, port, leash)).await
}

fn spawn(settings: &WorkerSettings, port: u16, leash: &Leash) -> Result<Daemon> {
    let (name, mut command) = match settings.host {
        Host::Worker => ("wrangler", wrangler::dev(settings, port)?),
        Host::Workerd => ("workerd", workerd::worker(settings, port)?),
        Host::Native => ("keepsake", native::serve(settings, port)?),
    };
    if settings.clock_ahead != 0 {
        command
            .env("LD_PRELOAD", clock_library(&settings.folder)?)
            .env("CLOCK_AHEAD_SECONDS", settings.clock_ahead.to_string());
    }
    Daemon::spawn(
        name,
        &mut command,
        &settings.folder.join("worker.log"),
        leash,
    )
}

/// The secrets of the worker in this folder.
fn secrets(folder: &Path) -> Result<Vec<(String, String)>> {
    let file = fs::read_to_string(secrets_file(folder))?;
    let lines = file.lines().filter_map(|line| line.split_once('='));
    let unquoted = lines.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
    Ok(unquoted.collect())
}

/// What sets a program's clock, made from `tests/clock-ahead.c`.
fn clock_library(folder: &Path) -> Result<PathBuf> {
    let library = folder.join("clock-ahead.so");
    let made = Command::new("gcc")
        .args(["-D_GNU_SOURCE", "-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(checkout().join("tests/clock-ahead.c"))
        .status()
        .context("cannot start gcc")?;
    ensure!(made.success(), "gcc could not make {}", library.display());
    Ok(library)
}
