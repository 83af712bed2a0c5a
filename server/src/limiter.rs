//! Counts requests by name, for a minute at a time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const PERIOD: Duration = Duration::from_secs(60);

/// Most names of a minute. Whoever sends from more networks than this is not stopped by counting.
const MAX_NAMES: usize = 100_000;

/// Allows each name so many requests a minute.
#[derive(Debug)]
pub(crate) struct Counter {
    limit: u32,
    minute: Mutex<Minute>,
}

#[derive(Debug)]
struct Minute {
    begun: Instant,
    counts: HashMap<Box<str>, u32>,
}

impl Counter {
    /// 0 for no limit.
    pub(crate) fn new(limit: u32) -> Self {
        let minute = Minute {
            begun: Instant::now(),
            counts: HashMap::new(),
        };
        Self {
            limit,
            minute: Mutex::new(minute),
        }
    }

    /// Counts a request, and says whether it is allowed.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.limit == 0 || self.count(name, Instant::now()) <= self.limit
    }

    fn count(&self, name: &str, now: Instant) -> u32 {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = now.duration_since(minute.begun) >= PERIOD;
        if is_over || minute.counts.len() >= MAX_NAMES {
            minute.begun = now;
            minute.counts.clear();
        }
        if let Some(count) = minute.counts.get_mut(name) {
            *count = count.saturating_add(1);
            return *count;
        }
        minute.counts.insert(name.into(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_count_of_each_minute() {
        let counter = Counter::new(2);
        let begun = counter.minute.lock().unwrap().begun;
        let count = |name, seconds| counter.count(name, begun + Duration::from_secs(seconds));
        assert_eq!([count("a", 0), count("a", 59), count("b", 59)], [1, 2, 1]);
        assert_eq!([count("a", 60), count("a", 61)], [1, 2]);
        assert!(!counter.allows("a"));
        assert!((0..9).all(|_| Counter::new(0).allows("a")));
    }
}
