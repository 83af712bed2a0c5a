//! Which cases to try: first those that ever failed, then new ones until time is up.

use std::fs::{OpenOptions, read_to_string};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The seeds of one test.
#[derive(Debug)]
pub struct Seeds {
    file: PathBuf,
    test: &'static str,
    kept: Vec<u64>,
    next: u64,
    tried: usize,
    until: Instant,
}

impl Seeds {
    /// Those of `test` in `file`, a line each, then those from `first` on for as long as `time`.
    ///
    /// # Errors
    /// The file cannot be read, or a line of the test's has no number.
    pub fn new(file: PathBuf, test: &'static str, first: u64, time: Duration) -> Result<Self> {
        let mut kept = Vec::new();
        for line in read_to_string(&file)?.lines() {
            if let Some(seed) = line.strip_prefix(test) {
                let seed = seed.split('#').next().unwrap_or_default().trim();
                kept.push(seed.parse().with_context(|| line.to_owned())?);
            }
        }
        kept.reverse();
        Ok(Self {
            file,
            test,
            kept,
            next: first,
            tried: 0,
            until: Instant::now() + time,
        })
    }

    /// How many have been tried.
    #[must_use]
    pub const fn tried(&self) -> usize {
        self.tried
    }

    /// Writes down a seed that failed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, seed: u64) -> Result<()> {
        let line = format!("{} {seed}\n", self.test);
        if read_to_string(&self.file)?
            .lines()
            .any(|kept| kept.starts_with(line.trim()))
        {
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).open(&self.file)?;
        Ok(file.write_all(line.as_bytes())?)
    }
}

impl Iterator for Seeds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
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
}

/// A number that the environment may give.
///
/// # Errors
/// It gives something else.
pub fn setting(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(value) => {
            let number = value.parse();
            Ok(Some(number.with_context(|| {
                format!("{name} is not a number: {value}")
            })?))
        }
        Err(_) => Ok(None),
    }
}
