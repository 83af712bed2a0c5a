//! `make dev` and `make reset`: a running Keepsake to try things with.

mod lock;
mod session;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use keepsake_tests::migrate::Keep;
use keepsake_tests::places;
use keepsake_tests::stack::{Stack, StackSettings};
use session::Session;
use tokio::signal::unix::{SignalKind, signal};

/// The worker's port, if it is free. wrangler has the same default.
const USUAL_PORT: u16 = 8787;

/// Runs Keepsake on this machine, or removes its data.
#[derive(Debug, Parser)]
#[command(name = "keepsake-dev")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start PostgreSQL and the worker. Ctrl-C stops them; the data is kept for the next run.
    Run,
    /// Remove the data of earlier runs.
    Reset,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run => run().await,
        Command::Reset => reset(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let folder = places::dev_folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let _lock = lock::take(&folder)?;

    // Before anything starts, so that an early Ctrl-C also stops what has started.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = serve(&folder) => ended?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!(
        "\nStopped. The data is kept in {}; `make reset` removes it.",
        folder.display()
    );
    Ok(())
}

/// Runs until it is dropped, which stops everything.
async fn serve(folder: &Path) -> Result<()> {
    let settings = StackSettings {
        kept_in: Some(folder.to_path_buf()),
        keep: Keep::Apart,
        port: Some(USUAL_PORT),
        ..StackSettings::default()
    };
    let stack = Stack::start(settings, |step| println!("==> {step}")).await?;
    let session = Session::open(&stack)?;
    session.greet(&stack);
    std::future::pending().await
}

fn reset() -> Result<()> {
    let folder = places::dev_folder()?;
    if !folder.exists() {
        println!("Nothing to remove: {} does not exist.", folder.display());
        return Ok(());
    }
    let _lock = lock::take(&folder)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    println!("Removed {}.", folder.display());
    Ok(())
}
