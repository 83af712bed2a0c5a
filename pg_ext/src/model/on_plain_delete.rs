//! What a plain `DELETE` on a managed table does.

use crate::model::error::{Failure, Outcome};

/// A table has the trigger that goes with its answer, and by that a session knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPlainDelete {
    /// It becomes a soft delete.
    Convert,
    /// It is refused; so is an UPDATE of `deleted_at`.
    Reject,
    /// It removes live rows for good.
    Allow,
}

impl OnPlainDelete {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Convert, Self::Reject, Self::Allow];

    /// Reads it as `manage()` takes it.
    pub fn parse(name: &str) -> Outcome<Self> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| Failure::BadArgument {
            what: format!("unknown on_delete policy '{name}'"),
            fix: "Pass 'convert' (DELETE becomes a soft delete), 'reject' or 'allow'.".into(),
        })
    }

    /// Its name in the registry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::Reject => "reject",
            Self::Allow => "allow",
        }
    }
}
