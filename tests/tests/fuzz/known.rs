//! Kinds of failure that a long search has told already: they no longer end a case.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::open::is_open;

/// Each kind, and how often it was met.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<BTreeMap<String, u64>>>);

impl Known {
    /// Whether it is known; then it counts once more.
    pub fn meet(&self, what: &str) -> bool {
        if is_open(what) {
            return true;
        }
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = kinds.get_mut(&kind(what));
        times.map(|times| *times += 1).is_some()
    }

    pub fn learn(&self, what: &str) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kinds.entry(kind(what)).or_default() += 1;
    }

    /// The same, apart from here on, and without one.
    pub fn without(&self, what: &str) -> Self {
        let mut kinds = self.all();
        kinds.remove(&kind(what));
        Self(Arc::new(Mutex::new(kinds)))
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What is the same when the same goes wrong again, whatever the names and numbers.
pub fn kind(what: &str) -> String {
    let first = what.lines().next().unwrap_or_default();
    // The log's lines begin with a time and a process.
    let first = first.split_once("] ").map_or(first, |(_, rest)| rest);
    let mut kind: String = first
        .chars()
        .map(|letter| if letter.is_ascii_digit() { '0' } else { letter })
        .take(160)
        .collect();
    while kind.contains("00") {
        kind = kind.replace("00", "0");
    }
    kind
}
