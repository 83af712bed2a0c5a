//! How a file is cut into parts.

use crate::capabilities::{CapabilityError, PartRules};

/// The parts of a file: all of one size but the last, numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlan {
    file_bytes: u64,
    part_bytes: u64,
}

impl PartPlan {
    /// Cuts a file into parts of `wanted` bytes, or into larger ones of whole mebibytes where the
    /// store would not take so many or so small.
    ///
    /// # Errors
    /// [`CapabilityError::PartSize`] when the store takes no parts that large, or the file is empty.
    pub fn new(file_bytes: u64, wanted: u64, rules: &PartRules) -> Result<Self, CapabilityError> {
        const MIB: u64 = 1024 * 1024;
        let fewest = file_bytes
            .div_ceil(rules.max_parts.into())
            .next_multiple_of(MIB);
        let part_bytes = wanted.max(rules.min_bytes).max(fewest);
        if part_bytes > rules.max_bytes {
            return Err(CapabilityError::PartSize(part_bytes));
        }
        Self::of(file_bytes, part_bytes).ok_or(CapabilityError::PartSize(part_bytes))
    }

    /// The plan of a file that has been cut into parts of `part_bytes` already.
    #[must_use]
    pub fn of(file_bytes: u64, part_bytes: u64) -> Option<Self> {
        (file_bytes > 0 && part_bytes > 0).then_some(Self {
            file_bytes,
            part_bytes,
        })
    }

    /// The bytes of every part but the last.
    #[must_use]
    pub const fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// How many parts there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.file_bytes.div_ceil(self.part_bytes)
    }

    /// The bytes of one part; `None` for a number that no part has.
    #[must_use]
    pub fn bytes_of(&self, number: u32) -> Option<u64> {
        let before = u64::from(number)
            .checked_sub(1)?
            .checked_mul(self.part_bytes)?;
        let rest = self
            .file_bytes
            .checked_sub(before)
            .filter(|rest| *rest > 0)?;
        Some(rest.min(self.part_bytes))
    }
}
