//! The event trigger that lets a dump bring what Keepsake has made already: an earlier command of the dump has asked for it, or one of another worker
//! that loads it, as a table's own row-level security asks for the policy of its archive, and a foreign key for the guards of its table.

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::shown_to;
use crate::manage::ddl_command::{command, find_any_table, find_table};
use crate::manage::hiding_policies;
use crate::model::error::Outcome;
use crate::postgres::pg_list::pointers;
use crate::spi::session::{Session, first_column, with_session};

/// On `ddl_command_start` of CREATE POLICY and CREATE TRIGGER.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.make_room() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.make_room() FROM PUBLIC;"
)]
fn make_room(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments.
    let in_the_way = unsafe { in_the_way(call) }?;
    if let Some((table, made)) = in_the_way {
        with_session(|session| match made {
            Made::Policy(policy) if policy == shown_to::POLICY => {
                shown_to::make_room(session, table)
            }
            Made::Policy(policy) => hiding_policies::make_room(session, table, &policy),
            Made::Constraint(trigger) => drop_constraint(session, table, &trigger),
        })?;
    }
    Ok(())
}

/// What may stand where a command is about to create another one, by its name.
enum Made {
    Policy(String),
    Constraint(String),
}

/// What the command would meet. A trigger that is no constraint's it replaces itself from now on.
unsafe fn in_the_way(call: pg_sys::FunctionCallInfo) -> Outcome<Option<(pg_sys::Oid, Made)>> {
    // SAFETY: the caller gives a call; a node is read as what its tag says it is. PostgreSQL runs the very tree that it shows the event trigger, a copy of
    // any that it keeps.
    unsafe {
        let command = command(call, "keepsake.make_room", "ON ddl_command_start")?;
        if command.is_null() {
            return Ok(None);
        }
        Ok(match (*command).type_ {
            pg_sys::NodeTag::T_CreatePolicyStmt => policy(&*command.cast()),
            pg_sys::NodeTag::T_CreateTrigStmt => trigger(&mut *command.cast()),
            _ => None,
        })
    }
}

unsafe fn policy(create: &pg_sys::CreatePolicyStmt) -> Option<(pg_sys::Oid, Made)> {
    // SAFETY: the names in a command are strings.
    unsafe {
        let name = CStr::from_ptr(create.policy_name).to_string_lossy();
        if name != shown_to::POLICY && !hiding_policies::is_one(&name) {
            return None;
        }
        let table = find_table(create.table, pg_sys::AccessExclusiveLock)?;
        Some((table, Made::Policy(name.into_owned())))
    }
}

unsafe fn trigger(create: &mut pg_sys::CreateTrigStmt) -> Option<(pg_sys::Oid, Made)> {
    // SAFETY: the names in a command are strings, in lists of nodes for them.
    unsafe {
        let schema = pointers::<pg_sys::String>(create.funcname).next()?;
        let name = CStr::from_ptr(create.trigname);
        let is_own = CStr::from_ptr((*schema).sval) == c"keepsake"
            && name
                .to_bytes()
                .to_ascii_lowercase()
                .starts_with(b"keepsake_");
        if !is_own {
            return None;
        }
        if !create.isconstraint {
            create.replace = true;
            return None;
        }
        // Not only its owner may create a trigger.
        let table = find_any_table(create.relation, pg_sys::ShareRowExclusiveLock)?;
        Some((table, Made::Constraint(name.to_string_lossy().into_owned())))
    }
}

const MADE: &str = "
    SELECT format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgrelid = $1 AND t.tgname = $2::text::name AND t.tgparentid = 0 AND NOT t.tgisinternal
      AND p.pronamespace = 'keepsake'::regnamespace AND pg_has_role(c.relowner, 'USAGE')";

fn drop_constraint(
    session: &mut Session<'_, '_>,
    table: pg_sys::Oid,
    trigger: &str,
) -> Outcome<()> {
    let drops: Vec<String> = first_column(session.catalog(MADE, &[table.into(), trigger.into()])?)?;
    drops.iter().try_for_each(|drop| session.ddl(drop))
}
