//! Which cases to try: first those that ever failed, then new ones until time is up.

use std::fs::{OpenOptions, read_to_string};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use keepsake_tests::places::checkout;

/// From here on a seed also chooses what the first seeds, some of which are kept, had not: those go on to
/// mean the same.
pub const FIRST_WIDE: u64 = 1_000_000;

pub struct Seeds {
    layer: &'static str,
    kept: Vec<u64>,
    next: u64,
    tried: usize,
    until: Instant,
}

impl Seeds {
    /// Those for one of the two tests.
    pub fn of(layer: &'static str) -> Result<Self> {
        let seconds = setting("KEEPSAKE_MODEL_SECONDS", 20)?;
        let mut kept = Vec::new();
        for line in read_to_string(file())?.lines() {
            if let Some(seed) = line.strip_prefix(layer) {
                let seed = seed.split('#').next().unwrap_or_default().trim();
                kept.push(seed.parse().with_context(|| line.to_owned())?);
            }
        }
        kept.reverse();
        Ok(Self {
            layer,
            kept,
            next: setting("KEEPSAKE_MODEL_SEED", FIRST_WIDE)?,
            tried: 0,
            until: Instant::now() + Duration::from_secs(seconds),
        })
    }

    /// How many have been tried.
    pub const fn tried(&self) -> usize {
        self.tried
    }

    pub fn next(&mut self) -> Option<u64> {
        if let Some(seed) = self.kept.pop() {
            self.tried += 1;
            return Some(seed);
        }
        if Instant::now() >= self.until {
            return None;
        }
        self.next += 1;
        self.tried += 1;
        Some(self.next - 1)
    }

    /// Writes down a seed that failed.
    pub fn keep(&self, seed: u64) -> Result<()> {
        let line = format!("{} {seed}\n", self.layer);
        if read_to_string(file())?
            .lines()
            .any(|kept| kept.starts_with(line.trim()))
        {
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).open(file())?;
        Ok(file.write_all(line.as_bytes())?)
    }
}

fn file() -> PathBuf {
    checkout().join("tests/tests/model/seeds")
}

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .with_context(|| format!("{name} is not a number: {value}")),
        Err(_) => Ok(default),
    }
}
