//! The mark that tells the triggers of a managed table that the engine itself is writing to it.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::executor;

thread_local! {
    static WRITING: Cell<(pg_sys::Oid, usize)> = const { Cell::new((pg_sys::InvalidOid, 0)) };
}

/// While it lives, the engine's own statements on one table pass that table's triggers; those of
/// triggers that they fire do not.
#[derive(Debug)]
pub struct EngineWrite {
    before: (pg_sys::Oid, usize),
}

impl EngineWrite {
    /// Opens `table` to the engine. Dropping closes it, also when PostgreSQL raises an error,
    /// which pgrx turns into an unwinding.
    pub fn to(table: pg_sys::Oid) -> Self {
        Self {
            before: WRITING.replace((table, executor::depth())),
        }
    }

    /// Whether the statement now running is the engine's own write to `table`.
    pub fn is_to(table: pg_sys::Oid) -> bool {
        let (open, depth) = WRITING.get();
        open == table && executor::depth() == depth + 1
    }

    /// Whether a statement planned now is the engine's own write to `table`.
    pub fn is_next(table: pg_sys::Oid) -> bool {
        WRITING.get() == (table, executor::depth())
    }
}

impl Drop for EngineWrite {
    fn drop(&mut self) {
        WRITING.set(self.before);
    }
}
