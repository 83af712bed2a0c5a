//! The passwords and keys of one stack, made for it and kept with its data.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What nobody outside the stack may know.
#[derive(Deserialize, Serialize)]
pub struct Secrets {
    /// Password of the superuser `postgres`.
    pub superuser_password: String,
    /// Password of `keepsake_worker`.
    pub worker_password: String,
    /// Signs bearer tokens (HS256).
    pub jwt_key: Vec<u8>,
    /// Signs upload and download URLs.
    pub url_key: Vec<u8>,
}

/// The key id under which both keys are known to the worker.
pub const KEY_ID: &str = "local";

impl Secrets {
    /// The secrets of the stack in `folder`: those of its last run, or new ones.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn of(folder: &Path) -> Result<Self> {
        let path = folder.join("secrets.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged; `make reset` removes it", path.display())),
            Err(_) => {
                let made = Self::new()?;
                write_private(&path, &serde_json::to_vec(&made)?)?;
                Ok(made)
            }
        }
    }

    fn new() -> Result<Self> {
        Ok(Self {
            superuser_password: hex(&random::<16>()?),
            worker_password: hex(&random::<16>()?),
            jwt_key: random::<32>()?.to_vec(),
            url_key: random::<32>()?.to_vec(),
        })
    }

    /// Writes the worker's secrets in the form that `wrangler dev --env-file` reads.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_worker_file(&self, path: &Path) -> Result<()> {
        let text = format!(
            "JWT_KEYS=\"{}\"\nURL_KEYS=\"{}\"\n",
            key_ring(&self.jwt_key),
            key_ring(&self.url_key)
        );
        write_private(path, text.as_bytes())
    }

    /// The key ring that signs object URLs, as the worker reads it.
    #[must_use]
    pub fn url_key_ring(&self) -> String {
        key_ring(&self.url_key)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secrets(..)")
    }
}

fn key_ring(key: &[u8]) -> String {
    format!("{KEY_ID}:{}", STANDARD.encode(key))
}

/// As many random bytes as asked for.
///
/// # Errors
/// The machine has no randomness to give.
pub fn random<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes)
}

/// Lower-case hexadecimal: safe in a URL and on a command line.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// The file cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content)?;
    Ok(())
}
