//! The mark that tells the triggers of a managed table that the engine itself is writing to it.

use std::cell::Cell;

use pgrx::pg_sys;

thread_local! {
    static WRITING: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// While it lives, the engine's own writes to one table pass that table's triggers.
#[derive(Debug)]
pub struct EngineWrite {
    before: pg_sys::Oid,
}

impl EngineWrite {
    /// Opens `table` to the engine. Dropping closes it, also when PostgreSQL raises an error,
    /// which pgrx turns into an unwinding.
    pub fn to(table: pg_sys::Oid) -> Self {
        Self {
            before: WRITING.replace(table),
        }
    }

    /// Whether the engine is writing to `table` now.
    pub fn is_to(table: pg_sys::Oid) -> bool {
        WRITING.get() == table
    }
}

impl Drop for EngineWrite {
    fn drop(&mut self) {
        WRITING.set(self.before);
    }
}
