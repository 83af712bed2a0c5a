//! Which cases to try.

use std::time::Duration;

use anyhow::Result;
use keepsake_tests::places::checkout;
use keepsake_tests::seeds::{Seeds, setting};

/// From here on a seed also chooses what the first seeds, some of which are kept, had not: those go on to
/// mean the same.
pub const FIRST_WIDE: u64 = 1_000_000;

/// Those for one of the two tests.
pub fn of(test: &'static str) -> Result<Seeds> {
    Seeds::new(
        checkout().join("tests/tests/model/seeds"),
        test,
        setting("KEEPSAKE_MODEL_SEED")?.unwrap_or(FIRST_WIDE),
        Duration::from_secs(setting("KEEPSAKE_MODEL_SECONDS")?.unwrap_or(20)),
    )
}
