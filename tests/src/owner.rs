//! Who runs servers that refuse root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::unistd::{Uid, User};

/// Ourselves, or `postgres` when root runs the tests.
pub(crate) struct Owner(Option<User>);

impl Owner {
    /// Finds out who it is.
    ///
    /// # Errors
    /// We are root, and the machine has no user `postgres`.
    pub(crate) fn find() -> Result<Self> {
        if !Uid::effective().is_root() {
            return Ok(Self(None));
        }
        let found = User::from_name("postgres")?;
        let user = found.context("there is no user `postgres`; run `make setup`")?;
        Ok(Self(Some(user)))
    }

    /// A program to be run as this user.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C.UTF-8").current_dir("/");
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Makes a file or folder this user's.
    ///
    /// # Errors
    /// It is not ours to give.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        if let Some(user) = &self.0 {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }
}
