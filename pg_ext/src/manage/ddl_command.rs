//! The command that an event trigger is called for.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::postgres::pg_list::pointers;

/// The tree of the command, which lives as long as the call; it may be NULL.
///
/// # Errors
/// 39P01 when the function was not called by an event trigger.
///
/// # Safety
/// `call` is the call that PostgreSQL has made of the function.
pub unsafe fn command(
    call: pg_sys::FunctionCallInfo,
    function: &str,
    serves: &str,
) -> Outcome<*mut pg_sys::Node> {
    // SAFETY: the context of a call is NULL or a node, which is read as what its tag says it is.
    unsafe {
        let context = (*call).context;
        if !context.is_null() && pgrx::is_a(context, pg_sys::NodeTag::T_EventTriggerData) {
            return Ok((*context.cast::<pg_sys::EventTriggerData>()).parsetree);
        }
    }
    Err(Failure::TriggerProtocol {
        function: function.into(),
        serves: serves.into(),
        called: "It was not called by an event trigger.".into(),
    })
}

/// The table that an `ALTER TABLE` names, and the partition that it attaches or detaches by its first step of this kind.
///
/// # Safety
/// A command that PostgreSQL has parsed, or NULL; `kind` is one of these two.
pub unsafe fn partition_step<'command>(
    command: *mut pg_sys::Node,
    kind: pg_sys::AlterTableType::Type,
) -> Option<(*const pg_sys::RangeVar, &'command pg_sys::PartitionCmd)> {
    // SAFETY: a node is read as what its tag says it is; the definition of such a step is that of a partition.
    unsafe {
        if command.is_null() || !pgrx::is_a(command, pg_sys::NodeTag::T_AlterTableStmt) {
            return None;
        }
        let alter = &*command.cast::<pg_sys::AlterTableStmt>();
        let mut steps = pointers::<pg_sys::AlterTableCmd>(alter.cmds);
        let step = steps.find(|step| (**step).subtype == kind)?;
        Some((alter.relation, &*(*step).def.cast()))
    }
}

/// The table that a command names, if it is there, locked as the command itself is about to lock it: what the name means is not
/// another table when the command runs, whoever renames tables meanwhile.
///
/// # Safety
/// A name in a command that PostgreSQL has parsed; `mode` is the lock that this command takes.
pub unsafe fn find_table(name: *const pg_sys::RangeVar, mode: u32) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller promises.
    unsafe { find(name, mode, Some(refuse_stranger)) }
}

/// The same for a table whose owner the command does not ask for.
///
/// # Safety
/// As of [`find_table`].
pub unsafe fn find_any_table(name: *const pg_sys::RangeVar, mode: u32) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller promises.
    unsafe { find(name, mode, None) }
}

unsafe fn find(
    name: *const pg_sys::RangeVar,
    mode: u32,
    check: pg_sys::RangeVarGetRelidCallback,
) -> Option<pg_sys::Oid> {
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: as the caller promises.
    let oid = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            mode as pg_sys::LOCKMODE,
            missing_ok,
            check,
            std::ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Nobody but its owner locks a table so: the command would refuse him as well, in the same words.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn refuse_stranger(
    name: *const pg_sys::RangeVar,
    relation: pg_sys::Oid,
    before: pg_sys::Oid,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: passes on what PostgreSQL gave.
    unsafe { pg_sys::RangeVarCallbackOwnsRelation(name, relation, before, argument) }
}
