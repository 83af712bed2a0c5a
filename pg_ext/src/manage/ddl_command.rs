//! The command that an event trigger is called for.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};

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

/// The table that a command names, if it is there.
///
/// # Safety
/// A name in a command that PostgreSQL has parsed.
pub unsafe fn find_table(name: *const pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: as the caller promises; the command itself locks the table.
    let oid = unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            pg_sys::NoLock as _,
            missing_ok,
            None,
            std::ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}
