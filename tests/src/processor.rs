//! The processor time that programs took, of Linux's scheduler, to the nanosecond: unlike the time on the clock, it hardly depends on what
//! else the machine does (<https://docs.kernel.org/scheduler/sched-stats.html>).

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// That of a process and the others of its group, as far as their threads are alive.
///
/// # Errors
/// `/proc` cannot be read.
pub fn of_group(leader: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if group(process) == Some(leader) {
            total += of_process(process)?;
        }
    }
    Ok(total)
}

/// That of these processes, as far as they and their threads are alive.
///
/// # Errors
/// `/proc` cannot be read.
pub fn of_processes(processes: &[u32]) -> Result<Duration> {
    processes.iter().map(|process| of_process(*process)).sum()
}

fn of_process(process: u32) -> Result<Duration> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Ok(Duration::ZERO);
    };
    let mut total = Duration::ZERO;
    for thread in threads {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let time = text.split_whitespace().next();
        let nanoseconds = time.and_then(|time| time.parse().ok());
        total += Duration::from_nanos(nanoseconds.context("not a schedstat")?);
    }
    Ok(total)
}

/// The group of a process: the third number after its name in `/proc/…/stat`, where the first is a letter.
fn group(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, numbers) = stat.rsplit_once(')')?;
    numbers.split_whitespace().nth(2)?.parse().ok()
}
