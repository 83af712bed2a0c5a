//! What a restore does with rows that cannot come back.

use crate::model::error::{Failure, Outcome};

/// What becomes of rows that cannot come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// Then nothing comes back.
    Fail,
    /// They stay, and what refers to them.
    Skip,
    /// As `Fail`, but deleted parents are brought back, too.
    Parents,
}

impl OnConflict {
    /// By its name.
    pub fn named(name: &str) -> Outcome<Self> {
        match name {
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            "parents" => Ok(Self::Parents),
            _ => Err(Failure::BadArgument {
                what: "on_conflict must be 'fail', 'skip' or 'parents'".into(),
                fix: "'fail' restores all or nothing, 'skip' leaves conflicting rows deleted, 'parents' restores deleted rows that are referred to as well."
                    .into(),
            }),
        }
    }
}
