//! `keepsake serve`: the service of `keepsake_service` as a program of its own, on tokio.
//!
//! - `settings`: those of the service and of the server, from the environment and a TOML file.
//! - `runtime`: what the service needs of any runtime. `tls`: the certificates that are trusted.
//! - `drain`: reads off what nobody wants.
//! - `postgres`: a pool of connections. `file_store`: a bucket in a folder.
//! - `page`: the page's files. `limiter`: counts requests.
//! - `host`: what the service needs for one request, of these.
//! - `traces`: what took how long, for a receiver of OpenTelemetry's.
//! - `schedule`: the work that nobody waits for.
//! - `listener`: takes requests in, until it is told to stop. `connection`: one of a client. `descriptors`: how many there may be.

// Nothing but lines of the log, and no panic where nobody reads them.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod connection;
mod descriptors;
mod drain;
mod file_store;
mod host;
mod limiter;
mod listener;
mod page;
mod postgres;
mod runtime;
mod schedule;
mod settings;
mod tls;
mod traces;

use host::Server;
use keepsake_service::log;
pub use schedule::Undone;
use settings::Settings;
pub use settings::SettingsError;
use std::{io, net::SocketAddr, path::Path, sync::Arc};
use tokio::net::TcpListener;

/// Why the server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The address cannot be listened at.
    #[error("cannot listen at {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The operating system gave no signals.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The scheduled work was not done.
    #[error("the scheduled work was not done: {0}")]
    Schedule(Undone),
}

/// What kept the server from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its settings.
    Settings,
    /// The database, which cannot be reached or refused a statement.
    Database,
    /// The machine, or another server.
    Other,
}

impl ServeError {
    /// What kept the server from running.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Settings(_) => Cause::Settings,
            Self::Schedule(Undone::Database(_)) => Cause::Database,
            Self::Schedule(Undone::Led | Undone::Failed(_)) | Self::Listen(..) | Self::Start(_) => {
                Cause::Other
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Settings(error) => error.hint(),
            Self::Listen(_, error) => match error.kind() {
                io::ErrorKind::AddrInUse => "end the program that listens there (ss -ltnp shows it), or choose another port with LISTEN",
                io::ErrorKind::AddrNotAvailable => "choose an address of this machine with LISTEN (ip address shows them)",
                io::ErrorKind::PermissionDenied => "choose a port from 1024 on with LISTEN, and let the proxy in front have the other",
                _ => "choose another address with LISTEN",
            }
            .to_owned(),
            Self::Start(_) => "correct the cause, then start it again".to_owned(),
            Self::Schedule(_) => "correct the cause, then repeat it: what was not done is done by the next run".to_owned(),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Answer requests and do the scheduled work, until told to stop.
    Serve,
    /// Do the scheduled work once.
    Once,
}

/// Runs the server with the settings of the environment and of this file, until it is told to stop. A database that is given
/// goes before both.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    config: Option<&Path>,
    database_url: Option<String>,
    mode: Mode,
) -> Result<(), ServeError> {
    runtime::install();
    let settings = Settings::read(config, database_url)?;
    let server = Arc::new(Server::new(&settings)?);
    let traces = traces::start(&settings.traces)
        .map_err(|problem| SettingsError::Setting("OTEL_EXPORTER_OTLP_ENDPOINT", problem))?;
    let ended = match mode {
        Mode::Once => schedule::run_once(&server)
            .await
            .map_err(ServeError::Schedule),
        Mode::Serve => listen(server, &settings).await,
    };
    traces.stop().await;
    ended
}

async fn listen(server: Arc<Server>, settings: &Settings) -> Result<(), ServeError> {
    log::panics();
    let address = settings.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| ServeError::Listen(address, error))?;
    listener::serve(listener, server, settings).await?;
    Ok(())
}
