//! The worker as `wrangler deploy` would upload it, in workerd alone: what its requests cost without what `wrangler dev`
//! puts around the runtime. Settings as in
//! <https://github.com/cloudflare/workerd/blob/main/src/workerd/server/workerd.capnp>.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use reqwest::Url;

use super::wrangler::path_with_first;
use super::{WorkerSettings, secrets};
use crate::places::{checkout, node_program};

/// The worker of the repository.
pub(super) fn worker(settings: &WorkerSettings, port: u16) -> Result<Command> {
    let mut vars = secrets(&settings.folder)?;
    vars.extend(settings.vars.iter().cloned());
    let folder = settings.folder.join("workerd");
    serve(
        "wrangler.toml",
        &settings.database_url,
        &vars,
        &folder,
        port,
    )
}

/// Another worker, that of a `wrangler.toml` within the repository.
pub(super) fn companion(
    config: &str,
    database_url: &str,
    folder: &Path,
    port: u16,
) -> Result<Command> {
    serve(config, database_url, &[], folder, port)
}

fn serve(
    config: &str,
    database_url: &str,
    vars: &[(String, String)],
    folder: &Path,
    port: u16,
) -> Result<Command> {
    let bundle = folder.join("bundle");
    if !bundle.exists() {
        make_bundle(config, &bundle)?;
    }
    let text = fs::read_to_string(checkout().join(config))?;
    let worker = [
        modules(&bundle)?,
        format!("bindings = [{}{}]", database(database_url)?, texts(vars)),
        compatibility(&text)?,
    ];
    let address = Url::parse(database_url)?;
    let file = bundle.join("workerd.capnp");
    fs::write(
        &file,
        format!(
            "using Workerd = import \"/workerd/workerd.capnp\";
const config :Workerd.Config = (
  services = [
    (name = \"main\", worker = .worker),
    (name = \"database\", external = (address = \"127.0.0.1:{}\", tcp = ())),
    (name = \"internet\", network = (allow = [\"public\", \"private\"])),
  ],
  sockets = [(name = \"http\", address = \"127.0.0.1:{port}\", http = (), service = \"main\")],
);
const worker :Workerd.Worker = (
  {}
);
",
            address
                .port()
                .context("the database's address has no port")?,
            worker.join(",\n  ")
        ),
    )?;
    let workerd = node_program("workerd")?;
    let mut command = Command::new(&workerd);
    command
        .arg("serve")
        .arg(&file)
        .env("PATH", path_with_first(&workerd)?);
    Ok(command)
}

/// What `wrangler deploy` would upload.
fn make_bundle(config: &str, bundle: &Path) -> Result<()> {
    let wrangler = node_program("wrangler")?;
    let made = Command::new(&wrangler)
        .current_dir(checkout())
        .args(["deploy", "--dry-run", "--config", config, "--outdir"])
        .arg(bundle)
        .env("PATH", path_with_first(&wrangler)?)
        .env("KEEPSAKE_WORKER_BUILT", "1")
        .env("WRANGLER_SEND_METRICS", "false")
        .env("WRANGLER_LOG_PATH", bundle.with_extension("logs"))
        .output()
        .context("cannot start wrangler")?;
    ensure!(
        made.status.success(),
        "wrangler made no bundle of {config}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(())
}

/// Its files: the script first, which imports the others by their names.
fn modules(bundle: &Path) -> Result<String> {
    let mut modules =
        String::from("modules = [(name = \"index.js\", esModule = embed \"index.js\")");
    for entry in fs::read_dir(bundle)? {
        let name = entry?.file_name();
        let name = name.to_str().context("a module's name is not UTF-8")?;
        if Path::new(name)
            .extension()
            .is_some_and(|ending| ending == "wasm")
        {
            write!(modules, ", (name = \"{name}\", wasm = embed \"{name}\")")?;
        }
    }
    Ok(modules + "]")
}

/// The database, as Hyperdrive.
fn database(url: &str) -> Result<String> {
    let url = Url::parse(url)?;
    let password = url.password().context("no password for the database")?;
    Ok(format!(
        "(name = \"HYPERDRIVE\", hyperdrive = (designator = \"database\", database = \"{}\", user = \"{}\", password = \"{password}\", scheme = \"postgresql\"))",
        url.path().trim_start_matches('/'),
        url.username(),
    ))
}

fn texts(vars: &[(String, String)]) -> String {
    let texts = vars
        .iter()
        .map(|(name, value)| format!(", (name = {name:?}, text = {value:?})"));
    texts.collect()
}

/// The lines of a `wrangler.toml` that say with what runtime the worker is compatible.
fn compatibility(config: &str) -> Result<String> {
    let value = |name: &str| {
        let mut lines = config.lines().filter_map(|line| line.split_once(" = "));
        lines.find_map(|(key, value)| (key == name).then_some(value))
    };
    let date = value("compatibility_date").context("no compatibility_date")?;
    let flags = value("compatibility_flags").unwrap_or("[]");
    Ok(format!(
        "compatibilityDate = {date},\n  compatibilityFlags = {flags}"
    ))
}
