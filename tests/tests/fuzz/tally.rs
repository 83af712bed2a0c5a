//! How much was done, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
pub struct Counts {
    pub statements: u64,
    pub calls: u64,
    pub restarts: u64,
    pub ended_sessions: u64,
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let mut errors: Vec<_> = counts.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let errors: Vec<String> = errors
            .into_iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        write!(
            out,
            "{} statements, {} of them calls of Keepsake alone; {} sessions ended; {} restarts; errors: {}",
            counts.statements,
            counts.calls,
            counts.ended_sessions,
            counts.restarts,
            errors.join(", ")
        )
    }
}
