//! Whose code may run with the caller's rights.
//!
//! Policies are about who asks, so they run as the caller, as in a statement of his own. That a call comes to a table is not enough for that: whoever may
//! refer to a table has his own among those that a deletion of its rows comes to, and his policies would act for everyone who deletes there.

use pgrx::pg_sys;

use crate::model::error::Outcome;
use crate::spi::session::{Session, first_cell};

/// Whether what this owner wrote may run as the caller: the caller has named a table of his, or he may act as the caller anyway.
pub fn is_trusted(session: &Session<'_, '_>, owner: pg_sys::Oid) -> Outcome<bool> {
    if session.has_named(owner) {
        return Ok(true);
    }
    let may = "SELECT pg_has_role($1, current_user, 'MEMBER')";
    Ok(first_cell(session.catalog_kept(may, &[owner.into()])?)? == Some(true))
}

/// Notes that the caller has named a deletion.
pub fn name_deletion(session: &mut Session<'_, '_>, deletion: pgrx::Uuid) -> Outcome<()> {
    let of_root = "SELECT c.relowner FROM keepsake.deletion d JOIN pg_class c ON c.oid = d.root_table WHERE d.id = $1";
    if let Some(owner) = first_cell(session.registry_planned_once(of_root, &[deletion.into()])?)? {
        session.name_owner(owner);
    }
    Ok(())
}
