//! How many files, and how large.

use serde::{Deserialize, Serialize};

/// The limits of one upload set. Every field has a default, so a settings file names only what
/// differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most files in one set. Default 5.
    pub max_files: u32,
    /// The most bytes in one file. Default 10 MiB.
    pub max_file_bytes: u64,
    /// The most bytes in the whole set. Default 25 MiB.
    pub max_set_bytes: u64,
}

const MIB: u64 = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_files: 5,
            max_file_bytes: 10 * MIB,
            max_set_bytes: 25 * MIB,
        }
    }
}
