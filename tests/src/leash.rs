//! A guard that outlives us just long enough to end what we started.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Ends the watched process groups when this process ends, however it ends.
///
/// `Drop` does not run for statics, after a signal or after `kill -9`; a reader at the other
/// end of a pipe notices in every case.
#[derive(Clone, Debug)]
pub struct Leash(Arc<Mutex<Guard>>);

#[derive(Debug)]
struct Guard {
    orders: Option<ChildStdin>,
    process: Child,
}

impl Leash {
    /// Starts the guard. `folder` is removed at the end, if one is given.
    ///
    /// # Errors
    /// The machine has no `sh`.
    pub fn new(folder: Option<&Path>) -> Result<Self> {
        let mut process = Command::new("sh")
            .args(["-c", include_str!("leash.sh"), "leash"])
            .arg(folder.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the terminal's whole group; the guard must survive it.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let orders = process.stdin.take();
        Ok(Self(Arc::new(Mutex::new(Guard { orders, process }))))
    }

    /// The group is to end with us.
    pub fn watch(&self, group: u32) {
        self.order("watch", group);
    }

    /// The group has ended.
    pub fn release(&self, group: u32) {
        self.order("release", group);
    }

    fn order(&self, verb: &str, group: u32) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = guard.orders.as_mut() {
            // A guard that is gone cannot be told anything, and nothing better can be done.
            let _ = writeln!(orders, "{verb} {group}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}
