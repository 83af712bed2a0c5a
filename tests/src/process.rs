//! A server process of the stack: its own process group, its own log, never left behind.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::leash::Leash;

const POLL: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(10);
const LOG_TAIL_LINES: usize = 25;

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    leash: Leash,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` in a process group of its own, its output appended to `log`.
    ///
    /// # Errors
    /// The log cannot be opened or the program cannot be started.
    pub fn spawn(
        name: &'static str,
        command: &mut Command,
        log: &Path,
        leash: &Leash,
    ) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        leash.watch(child.id());
        Ok(Self {
            name,
            child,
            leash: leash.clone(),
            log: log.to_path_buf(),
        })
    }

    /// The id of the process, and of its group.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` says yes.
    ///
    /// # Errors
    /// The server ended, or was not ready in time; with the end of its log.
    pub async fn wait_until<F: AsyncFn() -> bool>(
        &mut self,
        patience: Duration,
        ready: F,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !ready().await {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} exited while it started ({status})\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} was not ready after {patience:?}\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether the server has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks the server to end (SIGINT), and ends it when it does not.
    pub fn stop(&mut self) {
        // The id of a process that was waited for may be another's by now.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return self.leash.release(self.child.id());
        }
        let _ = self.signal(Signal::SIGINT);
        if !self.ended_within(PATIENCE) {
            self.kill();
        }
        self.leash.release(self.child.id());
    }

    /// `kill -9` of the server and everything it started, without a warning.
    pub fn kill(&mut self) {
        let children = children_of(self.child.id());
        let _ = self.signal(Signal::SIGKILL);
        for child in &children {
            let _ = kill(*child, Signal::SIGKILL);
        }
        let _ = self.child.wait();
        let deadline = Instant::now() + PATIENCE;
        while children.iter().any(|child| is_alive(*child)) && Instant::now() < deadline {
            sleep(POLL);
        }
    }

    /// Sends a signal to the server and what it started.
    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        killpg(pid(self.child.id()), signal)
    }

    fn ended_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => sleep(POLL),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }

    /// The end of the log, for an error message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines
            .iter()
            .skip(lines.len().saturating_sub(LOG_TAIL_LINES));
        let mut shown = format!("--- end of {}\n", self.log.display());
        for line in tail {
            let _ = writeln!(shown, "{line}");
        }
        shown
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

fn is_alive(process: Pid) -> bool {
    kill(process, None) != Err(Errno::ESRCH)
}

/// PostgreSQL's backends leave its process group, so a kill of the group does not reach them.
fn children_of(parent: u32) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .map(Pid::from_raw)
        .collect()
}
