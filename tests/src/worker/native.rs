//! `keepsake serve`, with a folder for its objects.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{WorkerSettings, secrets};
use crate::places::checkout;

/// With these settings and no others.
pub(super) fn serve(settings: &WorkerSettings, port: u16) -> Result<Command> {
    let folder = &settings.folder;
    let mut command = Command::new(program()?);
    // Without encryption only because both are on this machine.
    command
        .arg("serve")
        .env_clear()
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env(
            "DATABASE_URL",
            format!("{}?sslmode=disable", settings.database_url),
        )
        .env("STORAGE", "file")
        .env("FILE_ROOT", folder.join("bucket"))
        .env("PAGE_ROOT", checkout().join("page/dist"))
        // The runtime of workers tells the address in it, and the tests set it.
        .env("ADDRESS_HEADER", "cf-connecting-ip")
        .env("SCHEDULE_SECONDS", "0");
    command.envs(secrets(folder)?);
    command.envs(settings.vars.iter().map(|(name, value)| (name, value)));
    if let Some(limit) = settings.requests_a_minute {
        command.env("REQUESTS_PER_MINUTE", limit.to_string());
    }
    if let Some(certificate) = &settings.trusted_authority {
        command.env("SSL_CERT_FILE", certificate);
    }
    Ok(command)
}

/// The command line, which `make test` builds beside the tests.
fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("the test is nowhere")?;
    let program = folder.join("keepsake");
    ensure!(
        program.exists(),
        "there is no {}: run 'cargo build --package keepsake-cli'",
        program.display()
    );
    Ok(program)
}
