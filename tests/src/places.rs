//! Where things are on this machine. The same answers as `scripts/env.sh`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;
use sha2::{Digest as _, Sha256};

use crate::secrets::hex;

/// The PostgreSQL release the stack runs.
pub const POSTGRES_MAJOR: u16 = 15;

/// All that the extension is tested on; `scripts/check-versions` proves that the set-up has the same.
pub const TESTED_MAJORS: [u16; 5] = [POSTGRES_MAJOR, 16, 17, 18, 19];

/// Those that the set-up leaves out where Debian does not have them (`POSTGRES_OPTIONAL`).
pub const OPTIONAL_MAJORS: [u16; 1] = [19];

/// The releases to test on: all that the set-up has installed, unless `KEEPSAKE_RELEASES` names those that there are, as for a
/// server that was built in another way.
///
/// # Errors
/// It names what is no release.
pub fn tested_majors() -> Result<Vec<u16>> {
    let Ok(named) = std::env::var("KEEPSAKE_RELEASES") else {
        let is_here = |major: &u16| {
            !OPTIONAL_MAJORS.contains(major) || postgres_program(*major, "postgres").is_ok()
        };
        return Ok(TESTED_MAJORS.into_iter().filter(is_here).collect());
    };
    let numbers = named.split_whitespace().map(str::parse);
    numbers
        .collect::<Result<_, _>>()
        .with_context(|| format!("KEEPSAKE_RELEASES is not a list of numbers: {named}"))
}

/// Those of [`tested_majors`] on which tests run that take long: the oldest and the newest. Golden scripts run on those between as well.
///
/// # Errors
/// As [`tested_majors`].
pub fn outer_majors() -> Result<Vec<u16>> {
    let majors = tested_majors()?;
    let oldest = majors.first().copied();
    let newest = majors.last().copied().filter(|_| majors.len() > 1);
    Ok(oldest.into_iter().chain(newest).collect())
}

/// The folder of the checkout this crate was built in.
#[must_use]
pub fn checkout() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// `$KEEPSAKE_HOME`, or its default: what the set-up installs and what the stack keeps.
///
/// # Errors
/// Neither `KEEPSAKE_HOME` nor `HOME` is set.
pub fn home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("KEEPSAKE_HOME") {
        return Ok(PathBuf::from(home));
    }
    // Root's home is closed to the `postgres` user, whom root must become.
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/lib/keepsake"));
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    Ok(data
        .context("HOME is not set; set KEEPSAKE_HOME to a folder that you own")?
        .join("keepsake"))
}

/// The folder in which `make dev` keeps the data of this checkout.
///
/// # Errors
/// As [`home`].
pub fn dev_folder() -> Result<PathBuf> {
    let digest = Sha256::digest(checkout().as_os_str().as_encoded_bytes());
    let name: String = hex(&digest).chars().take(12).collect();
    Ok(home()?.join(format!("dev-{name}")))
}

/// The folder for stacks that are thrown away.
///
/// # Errors
/// As [`home`].
pub fn run_folder() -> Result<PathBuf> {
    Ok(home()?.join("run"))
}

/// A program of the private PostgreSQL of a release, such as `initdb`.
///
/// # Errors
/// The set-up has not been run.
pub fn postgres_program(major: u16, name: &str) -> Result<PathBuf> {
    let program = home()?.join(format!("pg{major}/usr/lib/postgresql/{major}/bin/{name}"));
    ensure!(
        program.is_file(),
        "{} does not exist; run `make setup`",
        program.display()
    );
    Ok(program)
}

/// The private pgbouncer.
///
/// # Errors
/// The set-up has not been run.
pub fn pool_program() -> Result<PathBuf> {
    let program = home()?.join("pgbouncer/usr/sbin/pgbouncer");
    ensure!(
        program.is_file(),
        "{} does not exist; run `make setup`",
        program.display()
    );
    Ok(program)
}

/// A program that npm installed, such as `wrangler`.
///
/// # Errors
/// The set-up has not been run.
pub fn node_program(name: &str) -> Result<PathBuf> {
    let program = checkout().join("node_modules/.bin").join(name);
    ensure!(
        program.exists(),
        "{} does not exist; run `make setup`",
        program.display()
    );
    Ok(program)
}

/// A loopback port that is free now: `wanted` if it is, any other if not.
///
/// # Errors
/// The machine has no free port.
pub fn free_port(wanted: Option<u16>) -> Result<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = wanted.map_or_else(|| bind(0), |port| bind(port).or_else(|_| bind(0)));
    Ok(listener
        .context("no free port on 127.0.0.1")?
        .local_addr()?
        .port())
}
