//! Which cases to try.

use std::time::Duration;

use anyhow::Result;
use keepsake_tests::places::checkout;
use keepsake_tests::seeds::{Seeds, setting};

/// From here on a seed also chooses what the first seeds, some of which are kept, had not: those go on to
/// mean the same.
pub const FIRST_WIDE: u64 = 1_000_000;

/// From here on a seed stands for tables with archives.
pub const FIRST_ARCHIVE: u64 = 1 << 31;

/// Those for one of the tests, new ones from `first` on.
pub fn of(test: &'static str, first: u64) -> Result<Seeds> {
    Seeds::new(
        checkout().join("tests/tests/model/seeds"),
        test,
        setting("KEEPSAKE_MODEL_SEED")?.unwrap_or(first),
        Duration::from_secs(setting("KEEPSAKE_MODEL_SECONDS")?.unwrap_or(20)),
    )
}
