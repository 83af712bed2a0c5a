//! The triggers of an open table, as PostgreSQL's caches have them.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The triggers of an open table.
pub fn triggers(relation: &pg_sys::RelationData) -> &[pg_sys::Trigger] {
    // SAFETY: a trigger description, if there is one, has that many triggers, and stays while the
    // relation is open, as it is while it is borrowed.
    unsafe {
        relation.trigdesc.as_ref().map_or(&[], |description| {
            let count = usize::try_from(description.numtriggers).unwrap_or(0);
            std::slice::from_raw_parts(description.triggers, count)
        })
    }
}

/// The name of a trigger.
pub fn name(trigger: &pg_sys::Trigger) -> &CStr {
    // SAFETY: a trigger in the system's caches has a name, which lives as long as it.
    unsafe { CStr::from_ptr(trigger.tgname) }
}

/// The columns that a trigger is limited to, by `UPDATE OF`; none where it is not.
pub fn limited_to(trigger: &pg_sys::Trigger) -> &[i16] {
    match usize::try_from(trigger.tgnattr) {
        // SAFETY: a trigger in the system's caches has that many columns, which live as long as it.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(trigger.tgattr, count) },
        _ => &[],
    }
}

/// Whether a trigger fires in a session whose triggers do.
pub fn fires(trigger: &pg_sys::Trigger) -> bool {
    matches!(trigger.tgenabled as u8, b'O' | b'A')
}

/// Whether none of a session's triggers fire, but those that always do: `session_replication_role` is `replica`.
pub fn are_off() -> bool {
    // SAFETY: a backend-local variable.
    unsafe {
        pg_sys::SessionReplicationRole
            == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as std::ffi::c_int
    }
}
