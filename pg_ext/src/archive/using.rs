//! What `ALTER COLUMN … TYPE … USING` made of the values in a table: archived rows do not see it. It is noted when the command
//! begins, until the archive follows the table, in the course of the same command.

use std::cell::RefCell;

use pgrx::pg_sys;

/// How the values of a column were converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// By a cast to the new type.
    Cast,
    /// By another expression, which is not known.
    Unknown,
}

impl Conversion {
    /// As the registry has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cast => "cast",
            Self::Unknown => "unknown",
        }
    }

    /// Reads it; `None` is the conversion of an assignment.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cast" => Some(Self::Cast),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// The converted columns, by their names.
pub type Converted = Vec<(String, Conversion)>;

#[derive(Debug)]
struct Noted {
    relation: pg_sys::Oid,
    columns: Converted,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    static NOTED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

/// Notes what a command is about to do.
pub fn note(relation: pg_sys::Oid, columns: Converted) {
    NOTED.set(Some(Noted {
        relation,
        columns,
        // SAFETY: reads a backend-local variable.
        subtransaction: unsafe { pg_sys::GetCurrentSubTransactionId() },
    }));
}

/// What the running command does to the table, once.
pub fn take(relation: pg_sys::Oid) -> Converted {
    let is_of = |noted: &mut Noted| noted.relation == relation;
    let taken = NOTED.with_borrow_mut(|noted| noted.take_if(is_of));
    taken.map_or_else(Vec::new, |noted| noted.columns)
}

/// The command has ended, or its transaction.
pub fn forget() {
    NOTED.set(None);
}

/// The command has failed, if a subtransaction that it is part of was rolled back.
pub fn forget_since(aborted: pg_sys::SubTransactionId) {
    let has_failed = |noted: &mut Noted| noted.subtransaction >= aborted;
    NOTED.with_borrow_mut(|noted| noted.take_if(has_failed));
}
