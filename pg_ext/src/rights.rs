//! Whose rights a statement runs with, as `ri_triggers.c` arranges it for foreign keys:
//! what touches a user's table runs as that table's owner, what touches the registry as the
//! extension's owner, and the caller's own rights are checked on the root of the operation.
//! <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/ri_triggers.c>

use std::ffi::c_int;

use pgrx::pg_sys;

/// Runs as another role until dropped.
#[derive(Debug)]
pub struct ActingAs {
    user: pg_sys::Oid,
    context: c_int,
}

impl ActingAs {
    /// Takes on `role`, unhindered by FORCE ROW LEVEL SECURITY on tables that it owns.
    pub fn role(role: pg_sys::Oid) -> Self {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: both functions only read and write backend-local variables; the pointers are
        // to live locals. Transaction abort resets the same variables should Drop be skipped.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
            pg_sys::SetUserIdAndSecContext(role, context | flags as c_int);
        }
        Self { user, context }
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        // SAFETY: restores what `role` read from the same variables.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

/// Pins `search_path` to `pg_catalog, pg_temp` until dropped, so that unqualified operators and
/// functions in our own SQL cannot be captured by a schema of the caller's.
#[derive(Debug)]
pub struct PinnedPath {
    nest_level: c_int,
}

impl PinnedPath {
    /// Pins the path for the statements run while the value lives.
    pub fn new() -> Self {
        // SAFETY: the GUC machinery's own way of a local setting (see `fmgr_security_definer`);
        // the strings are static, and an abort unwinds the nest level by itself.
        let nest_level = unsafe {
            let nest_level = pg_sys::NewGUCNestLevel();
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                c"pg_catalog, pg_temp".as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
            nest_level
        };
        Self { nest_level }
    }
}

impl Drop for PinnedPath {
    fn drop(&mut self) {
        // SAFETY: closes the level that `new` opened; levels opened later are closed before it.
        unsafe { pg_sys::AtEOXact_GUC(true, self.nest_level) }
    }
}
