//! `wrangler dev`, which runs the worker with a local bucket, queues and a schedule.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{WorkerSettings, secrets_file};
use crate::places::{checkout, free_port, node_program};

/// The worker.
pub(super) fn dev(settings: &WorkerSettings, port: u16) -> Result<Command> {
    let folder = &settings.folder;
    let mut command = command(folder, &settings.database_url, port)?;
    command
        .arg("--test-scheduled")
        .arg("--persist-to")
        .arg(folder.join("bucket"))
        .arg("--env-file")
        .arg(secrets_file(folder))
        .env("KEEPSAKE_WORKER_BUILT", "1");
    if let Some(config) = changed(settings)? {
        command.arg("--config").arg(config);
    }
    for (name, value) in &settings.vars {
        command.args(["--var", &format!("{name}:{value}")]);
    }
    if let Some(certificate) = &settings.trusted_authority {
        command.env("NODE_EXTRA_CA_CERTS", certificate);
    }
    Ok(command)
}

/// Another worker, that of a `wrangler.toml` within the repository.
pub(super) fn companion(
    config: &str,
    database_url: &str,
    folder: &Path,
    port: u16,
) -> Result<Command> {
    let mut command = command(folder, database_url, port)?;
    command.arg("--config").arg(checkout().join(config));
    Ok(command)
}

/// With its own data in this folder.
fn command(folder: &Path, database_url: &str, port: u16) -> Result<Command> {
    let wrangler = node_program("wrangler")?;
    let mut command = Command::new(&wrangler);
    command
        .current_dir(checkout())
        .args([
            "dev",
            "--ip=127.0.0.1",
            "--show-interactive-dev-session=false",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--inspector-port={}", free_port(None)?))
        .env("PATH", path_with_first(&wrangler)?)
        .env(
            "CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_HYPERDRIVE",
            database_url,
        )
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_LOG_PATH", folder.join("wrangler-logs"))
        .env("WRANGLER_REGISTRY_PATH", folder.join("wrangler-registry"));
    Ok(command)
}

/// A copy of `wrangler.toml` in the worker's folder, if these settings change what no variable does.
fn changed(settings: &WorkerSettings) -> Result<Option<PathBuf>> {
    if settings.requests_a_minute.is_none() && settings.events_queue.is_none() {
        return Ok(None);
    }
    let repository = checkout();
    let mut config = fs::read_to_string(repository.join("wrangler.toml"))?;
    for path in ["edge/build/index.js", "page/dist", "scripts/build-worker"] {
        let whole = repository.join(path);
        config = config.replace(&format!("\"{path}\""), &format!("\"{}\"", whole.display()));
    }
    if let Some(limit) = settings.requests_a_minute {
        let usual = "simple = { limit = 1000,";
        ensure!(config.contains(usual), "wrangler.toml has another limit");
        config = config.replace(usual, &format!("simple = {{ limit = {limit},"));
    }
    if let Some(queue) = &settings.events_queue {
        config += &format!("\n[[queues.producers]]\nbinding = \"EVENTS\"\nqueue = \"{queue}\"\n");
    }
    let file = settings.folder.join("wrangler.toml");
    fs::write(&file, config)?;
    Ok(Some(file))
}

/// `PATH` with the folder of `program` in front, so that wrangler finds the Node beside it.
pub(super) fn path_with_first(program: &Path) -> Result<std::ffi::OsString> {
    let first = program.parent().map(Path::to_path_buf);
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = first.into_iter().chain(std::env::split_paths(&rest));
    Ok(std::env::join_paths(all)?)
}
