//! Whose code may run with the caller's rights.
//!
//! Policies are about who asks, so they run as the caller, as in a statement of his own. That a call comes to a table is not enough for that: whoever may
//! refer to a table has his own among those that a deletion of its rows comes to, and his policies would act for everyone who deletes there. What a
//! table itself refers to, its owner has chosen.

use pgrx::pg_sys;

use crate::access::caller::Caller;
use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::spi::session::{Session, first_cell};

/// Whether a table of an owner whom the caller has named, or who may act as the caller anyway, refers to this one, through whichever tables.
const IS_CHOSEN: &str = "
    WITH RECURSIVE refers (parent, child) AS (
        SELECT confrelid, conrelid FROM pg_constraint WHERE contype = 'f'
        UNION ALL SELECT d.parent::oid, d.child::oid FROM keepsake.declared_reference d),
    beneath (oid) AS (SELECT $1::oid UNION SELECT refers.child FROM beneath JOIN refers ON refers.parent = beneath.oid)
    SELECT true FROM beneath JOIN pg_class c ON c.oid = beneath.oid WHERE c.relowner = ANY ($2) OR pg_has_role(c.relowner, $3::text::name, 'MEMBER') LIMIT 1";

/// Whether what the owner of a table wrote may run as the caller: the caller has named a table of his, the owner may act as the caller anyway, or one of
/// whom this is true has chosen to refer to the table.
pub fn is_trusted(session: &mut Session<'_, '_>, table: &Table) -> Outcome<bool> {
    if session.has_named(table.owner) {
        return Ok(true);
    }
    let named: Vec<pg_sys::Oid> = session.named_owners().to_vec();
    let caller = Caller::of(session)?.role;
    let args = [table.oid.into(), named.into(), caller.as_str().into()];
    Ok(first_cell(session.registry_planned_once(IS_CHOSEN, &args)?)? == Some(true))
}

/// Notes that the caller has named a deletion.
pub fn name_deletion(session: &mut Session<'_, '_>, deletion: pgrx::Uuid) -> Outcome<()> {
    let of_root = "SELECT c.relowner FROM keepsake.deletion d JOIN pg_class c ON c.oid = d.root_table WHERE d.id = $1";
    if let Some(owner) = first_cell(session.registry_planned_once(of_root, &[deletion.into()])?)? {
        session.name_owner(owner);
    }
    Ok(())
}
