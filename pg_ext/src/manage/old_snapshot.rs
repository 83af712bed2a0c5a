//! Transactions that read all rows from one snapshot, which may be older than the lock on a table.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::registry::description::describe;
use crate::spi::session::Session;

/// Refuses where the transaction would read rows as they were before the table was locked.
pub fn refuse_old_snapshot(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    if !session.keeps_its_snapshot() {
        return Ok(());
    }
    let found = describe(session, oid)?;
    found.check_owned()?;
    Err(Failure::OldSnapshot { table: found.shown })
}
