//! Whose rights a statement runs with, as `ri_triggers.c` arranges it for foreign keys:
//! what touches a user's table runs as that table's owner, what touches the registry as the
//! extension's owner, and the caller's own rights are checked on the root of the operation.
//! <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/ri_triggers.c>

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};

use pgrx::pg_sys;

use crate::executor;
use crate::output_format;
use crate::sql::Ident;

thread_local! {
    /// How many [`ActingAs`] are alive.
    static ACTING: Cell<usize> = const { Cell::new(0) };
}

/// What both a foreign key's action and the engine run under.
const FLAGS: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;

/// Whether what runs now carries out a foreign key's action. The engine, and so the triggers that
/// its writes fire, runs under the same flags, and so do the triggers of tables that the action
/// writes to: `reads_like_one` tells them apart.
pub fn in_foreign_key_action(reads_like_one: bool) -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads backend-local variables into live locals.
    unsafe { pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context) };
    // Of a statement that began before this library was loaded there is no text.
    let unknown = ACTING.get() == 0 && executor::depth() == 0;
    context as u32 & FLAGS == FLAGS && (reads_like_one || unknown)
}

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
            pg_sys::SetUserIdAndSecContext(role, context | FLAGS as c_int);
        }
        ACTING.set(ACTING.get() + 1);
        Self { user, context }
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        ACTING.set(ACTING.get().saturating_sub(1));
        // SAFETY: restores what `role` read from the same variables.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

/// Pins `search_path` until dropped, so that unqualified names in our own SQL, and in the triggers
/// that it fires, cannot be captured by a schema of the caller's.
#[derive(Debug)]
pub struct PinnedPath {
    nest_level: c_int,
}

impl PinnedPath {
    /// To `pg_catalog, pg_temp`, for statements of our own.
    pub fn new() -> Self {
        let pinned = Self::to(c"pg_catalog, pg_temp");
        // Keys that our own statements print or read are to be the same in every session.
        output_format::pin();
        pinned
    }

    /// To `pg_catalog`, the schema of a table and `pg_temp`, for the table's own triggers.
    pub fn of(schema: &Ident) -> Self {
        // A name cannot hold a NUL; without its schema the path is only shorter.
        CString::new(format!("pg_catalog, {schema}, pg_temp"))
            .map_or_else(|_| Self::new(), |path| Self::to(&path))
    }

    fn to(path: &CStr) -> Self {
        Self {
            // Our statements are many and short: compiling one costs more than running it.
            nest_level: set_locally(&[(c"search_path", path), (c"jit", c"off")]),
        }
    }
}

/// Has statements planned without scans of whole tables, until dropped: a batch that takes the first
/// rows of many would read, each time, past those that earlier batches removed.
#[derive(Debug)]
pub struct IndexesOnly {
    nest_level: c_int,
}

impl IndexesOnly {
    /// From now on.
    pub fn new() -> Self {
        let off = c"off";
        Self {
            nest_level: set_locally(&[
                (c"enable_seqscan", off),
                (c"enable_bitmapscan", off),
                (c"enable_sort", off),
            ]),
        }
    }
}

impl Drop for IndexesOnly {
    fn drop(&mut self) {
        // SAFETY: as for `PinnedPath`.
        unsafe { pg_sys::AtEOXact_GUC(true, self.nest_level) }
    }
}

/// Opens a level of settings, to be closed by `AtEOXact_GUC`.
pub fn set_locally(settings: &[(&CStr, &CStr)]) -> c_int {
    // SAFETY: the GUC machinery's own way of a local setting (see `fmgr_security_definer`); it
    // copies the values, and an abort unwinds the nest level by itself.
    unsafe {
        let nest_level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        nest_level
    }
}

impl Drop for PinnedPath {
    fn drop(&mut self) {
        // SAFETY: closes the level that `to` opened; levels opened later are closed before it.
        unsafe { pg_sys::AtEOXact_GUC(true, self.nest_level) }
    }
}
