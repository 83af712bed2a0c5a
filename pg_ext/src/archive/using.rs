//! What `ALTER COLUMN … TYPE … USING` made of the values in a table: archived rows do not see it. It is noted when the command
//! begins, until the archives of the table, and of those that inherit from it, follow in the course of the same command.

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

/// A command that runs: its tree, which no other command has at the same time.
pub type Command = *const pg_sys::Node;

#[derive(Debug)]
struct Noted {
    command: Command,
    relation: pg_sys::Oid,
    columns: Converted,
    subtransaction: pg_sys::SubTransactionId,
    /// The tables whose archives have followed, and in which subtransaction.
    followed: Vec<(pg_sys::Oid, pg_sys::SubTransactionId)>,
}

impl Noted {
    /// Whether it concerns a table that inherits from these, whose archive has not followed.
    fn concerns(&self, table: pg_sys::Oid, ancestors: &[pg_sys::Oid]) -> bool {
        ancestors.contains(&self.relation) && self.followed.iter().all(|(oid, _)| *oid != table)
    }
}

thread_local! {
    /// Commands run within others: those of other event triggers.
    static NOTED: RefCell<Vec<Noted>> = const { RefCell::new(Vec::new()) };
}

fn subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Notes what a command is about to do.
pub fn note(command: Command, relation: pg_sys::Oid, columns: Converted) {
    end(command);
    let noted = Noted {
        command,
        relation,
        columns,
        subtransaction: subtransaction(),
        followed: Vec::new(),
    };
    NOTED.with_borrow_mut(|all| all.push(noted));
}

/// Whether anything is noted.
pub fn is_any() -> bool {
    NOTED.with_borrow(|all| !all.is_empty())
}

/// What running commands do to a table that its archive has not followed yet. The table is one of its own ancestors.
pub fn of(table: pg_sys::Oid, ancestors: &[pg_sys::Oid]) -> Converted {
    NOTED.with_borrow(|all| {
        let concerning = all.iter().filter(|noted| noted.concerns(table, ancestors));
        concerning.flat_map(|noted| noted.columns.clone()).collect()
    })
}

/// The archive of the table has followed.
pub fn note_followed(table: pg_sys::Oid, ancestors: &[pg_sys::Oid]) {
    NOTED.with_borrow_mut(|all| {
        for noted in all {
            if noted.concerns(table, ancestors) {
                noted.followed.push((table, subtransaction()));
            }
        }
    });
}

/// The table that a command converts values of, and the columns.
pub fn converted_by(command: Command) -> Option<(pg_sys::Oid, Converted)> {
    NOTED.with_borrow(|all| {
        let noted = all.iter().rfind(|noted| noted.command == command)?;
        Some((noted.relation, noted.columns.clone()))
    })
}

/// The command has ended, and with it those that ran within.
pub fn end(command: Command) {
    NOTED.with_borrow_mut(|all| {
        if let Some(place) = all.iter().rposition(|noted| noted.command == command) {
            all.truncate(place);
        }
    });
}

/// The transaction has ended.
pub fn forget() {
    NOTED.take();
}

/// A command has failed, or an archive has not followed, if a subtransaction that it was part of was rolled back.
pub fn forget_since(aborted: pg_sys::SubTransactionId) {
    NOTED.with_borrow_mut(|all| {
        all.retain(|noted| noted.subtransaction < aborted);
        for noted in all {
            noted.followed.retain(|(_, within)| *within < aborted);
        }
    });
}
