//! The sign that tells the triggers of a managed table that the engine itself is writing to it.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::postgres::statement_stack;

#[derive(Debug, Default)]
struct Open {
    tables: Vec<pg_sys::Oid>,
    /// How many statements were running when it was opened.
    depth: usize,
}

thread_local! {
    static WRITING: RefCell<Open> = const { RefCell::new(Open { tables: Vec::new(), depth: 0 }) };
}

/// While it lives, the engine's own statements on some tables pass those tables' triggers; those of
/// triggers that they fire do not.
#[derive(Debug)]
pub struct EngineWrite {
    before: Open,
}

impl EngineWrite {
    /// Opens `table` to the engine. Dropping closes it, also when PostgreSQL raises an error,
    /// which pgrx turns into an unwinding.
    pub fn to(table: pg_sys::Oid) -> Self {
        Self::to_all(vec![table])
    }

    /// Opens several tables, to one statement that writes to all of them.
    pub fn to_all(tables: Vec<pg_sys::Oid>) -> Self {
        let depth = statement_stack::depth();
        Self {
            before: WRITING.replace(Open { tables, depth }),
        }
    }

    /// Whether the statement now running is the engine's own write to `table`.
    pub fn is_to(table: pg_sys::Oid) -> bool {
        let depth = statement_stack::depth();
        WRITING.with_borrow(|open| depth == open.depth + 1 && open.tables.contains(&table))
    }

    /// Whether a statement planned now is the engine's own write to `table`.
    pub fn is_next(table: pg_sys::Oid) -> bool {
        let depth = statement_stack::depth();
        WRITING.with_borrow(|open| depth == open.depth && open.tables.contains(&table))
    }
}

impl Drop for EngineWrite {
    fn drop(&mut self) {
        WRITING.set(std::mem::take(&mut self.before));
    }
}
