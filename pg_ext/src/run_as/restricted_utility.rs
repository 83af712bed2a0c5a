//! Refuses the utility statements that PostgreSQL lets restricted code run, but that reach past the call.
//!
//! `SET CONSTRAINTS` fires what the caller's own statements have deferred, with the rights of whoever runs it; and a
//! cursor that is declared stays until the caller's transaction ends. A type or domain in `pg_temp`, which PostgreSQL
//! refuses for tables alone, would come before every other of its name until the session ends. See [`crate::run_as::role`].

use std::ffi::c_char;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::model::error::{Failure, raise_unless_ok};
use crate::run_as::role;

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;

/// Hooks utility statements; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn.
    unsafe {
        NEXT = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process);
    }
}

/// The name of the statement, if restricted code may not run it.
fn refused(statement: &pg_sys::PlannedStmt) -> Option<&'static str> {
    // SAFETY: a utility statement is a node, which says by its tag which.
    match unsafe { statement.utilityStmt.as_ref() }?.type_ {
        pg_sys::NodeTag::T_ConstraintsSetStmt => Some("SET CONSTRAINTS"),
        pg_sys::NodeTag::T_DeclareCursorStmt => Some("DECLARE CURSOR"),
        pg_sys::NodeTag::T_CreateDomainStmt => Some("CREATE DOMAIN"),
        pg_sys::NodeTag::T_CompositeTypeStmt
        | pg_sys::NodeTag::T_CreateEnumStmt
        | pg_sys::NodeTag::T_CreateRangeStmt => Some("CREATE TYPE"),
        _ => None,
    }
}

#[pgrx::pg_guard]
#[expect(clippy::too_many_arguments, reason = "PostgreSQL's own")]
unsafe extern "C-unwind" fn process(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL gives a planned statement; everything is passed on as it came.
    unsafe {
        if role::is_restricted()
            && let Some(name) = statement.as_ref().and_then(refused)
        {
            raise_unless_ok::<()>(Err(Failure::Restricted { statement: name }));
        }
        match NEXT {
            Some(next) => pg_guard_ffi_boundary(|| {
                next(
                    statement,
                    text,
                    read_only_tree,
                    context,
                    parameters,
                    environment,
                    receiver,
                    completion,
                )
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                parameters,
                environment,
                receiver,
                completion,
            ),
        }
    }
}
