//! Allows one run at a time in a data folder.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::process;

use anyhow::{Context, Result, bail};

/// Takes the folder's lock, which this process holds until it ends.
///
/// # Errors
/// Another run holds the lock; the error names its process.
pub fn take(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!(
            "Keepsake is already running with this data (process {}); stop it with Ctrl-C in its terminal",
            fs::read_to_string(&path).unwrap_or_default()
        ),
        Err(TryLockError::Error(error)) => {
            return Err(error).context("cannot lock the data folder");
        }
    }
    file.set_len(0)?;
    write!(file, "{}", process::id())?;
    Ok(file)
}
