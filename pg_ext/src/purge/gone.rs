//! How many rows a purge removed, of which deletion and table.

use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use pgrx::{Uuid, pg_sys};

use crate::access::caller::Caller;
use crate::model::error::Outcome;
use crate::spi::session::Session;

/// How many rows are gone, of which deletion and table.
pub type Gone = HashMap<([u8; 16], pg_sys::Oid), i64>;

/// What a statement that enters them in the registry takes: deletions, tables and numbers of rows, as arrays, and who purges, as the role and
/// the session's.
pub fn registry_arguments(
    session: &mut Session<'_, '_>,
    gone: Gone,
) -> Outcome<[DatumWithOid<'static>; 5]> {
    let (mut deletions, mut tables, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for ((deletion, table), count) in gone {
        deletions.push(Uuid::from_bytes(deletion));
        tables.push(table);
        rows.push(count);
    }
    let caller = Caller::of(session)?;
    Ok([
        deletions.into(),
        tables.into(),
        rows.into(),
        caller.role.into(),
        caller.session_role.into(),
    ])
}
