//! The event trigger that lets a dump bring the policy of an archive: when `CREATE POLICY` comes, Keepsake has made it already, as the table's own
//! row-level security came before.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::shown_to;
use crate::manage::ddl_command::{command, find_table};
use crate::model::error::Outcome;
use crate::spi::session::with_session;

/// On `ddl_command_start` of CREATE POLICY.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.replace_policy() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.replace_policy() FROM PUBLIC;"
)]
fn replace_policy(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments.
    let table = unsafe { of_an_archive(call) }?;
    if let Some(table) = table {
        with_session(|session| shown_to::make_room(session, table))?;
    }
    Ok(())
}

/// The table of the command, if the policy has the name of an archive's.
unsafe fn of_an_archive(call: pg_sys::FunctionCallInfo) -> Outcome<Option<pg_sys::Oid>> {
    // SAFETY: the caller gives a call; the node is read as what its tag says it is, and its names are strings.
    unsafe {
        let command = command(call, "keepsake.replace_policy", "ON ddl_command_start")?;
        if command.is_null() || !pgrx::is_a(command, pg_sys::NodeTag::T_CreatePolicyStmt) {
            return Ok(None);
        }
        let create = &*command.cast::<pg_sys::CreatePolicyStmt>();
        if CStr::from_ptr(create.policy_name).to_bytes() != shown_to::POLICY.as_bytes() {
            return Ok(None);
        }
        Ok(find_table(create.table, pg_sys::AccessExclusiveLock))
    }
}
