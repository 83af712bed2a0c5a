//! How many files, and how large.

use serde::{Deserialize, Serialize};

use crate::FileTypes;

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
    /// Which types may be uploaded. By default the usual ones.
    pub file_types: FileTypes,
    /// Whether a file whose name an earlier one of the set has is numbered, `image (2).jpg`, and not
    /// refused. Default no.
    pub number_duplicates: bool,
}

const MIB: u64 = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_files: 5,
            max_file_bytes: 10 * MIB,
            max_set_bytes: 25 * MIB,
            file_types: FileTypes::default(),
            number_duplicates: false,
        }
    }
}
