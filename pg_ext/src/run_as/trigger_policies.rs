//! Hides deleted rows from the triggers that the engine's own writes fire.
//!
//! The engine writes as the table's owner, whom its policies do not bind then, as PostgreSQL does for a foreign key's action. Triggers that
//! such a write fires would see every deleted row, where those of a real DELETE would find none. So a statement of theirs that reads a table
//! whose deleted rows a policy hides is rewritten under the policies.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::postgres::jumble::Jumble;
use crate::postgres::pg_list::pointers;
use crate::postgres::query_plan::relations_of;
use crate::run_as::role;

static mut NEXT: pg_sys::post_parse_analyze_hook_type = None;

/// The policy of `hide_deleted()`.
pub const HIDING: &CStr = c"keepsake_hide_deleted";

/// Hooks the analysis of statements, which comes before their rewriting; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn.
    unsafe {
        NEXT = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(analyse);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn analyse(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: Jumble,
) {
    // SAFETY: passes on what PostgreSQL gave; the query has just been analysed, and its tables are locked.
    unsafe {
        if let Some(next) = NEXT {
            pg_guard_ffi_boundary(|| next(state, query, jumble));
        }
        if !query.is_null()
            && role::is_beneath_engine()
            && !is_foreign_keys(state)
            && reads_hidden(query)
        {
            role::force_policies();
        }
    }
}

/// Whether a foreign key's trigger sends the statement (`ri_triggers.c`): it must find deleted rows, which are there.
unsafe fn is_foreign_keys(state: *const pg_sys::ParseState) -> bool {
    // SAFETY: the state of an analysis and its text are NULL or outlive the call.
    let text = unsafe {
        match state.as_ref() {
            Some(state) if !state.p_sourcetext.is_null() => CStr::from_ptr(state.p_sourcetext),
            _ => return false,
        }
    };
    let text = text.to_bytes();
    let contains = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let begins = [b"SELECT 1 FROM ".as_slice(), b"DELETE FROM ", b"UPDATE "];
    begins.iter().any(|begin| text.starts_with(begin)) && contains(b" OPERATOR(") && contains(b"$1")
}

unsafe fn reads_hidden(query: *mut pg_sys::Query) -> bool {
    // SAFETY: an analysed query, as the caller promises.
    unsafe { relations_of(query).any(|relation| hides(relation)) }
}

/// Whether a policy hides deleted rows of it; of a view it is not known.
unsafe fn hides(relation: pg_sys::Oid) -> bool {
    // SAFETY: the relation is one of an analysed query, which has locked it; it is closed again at once.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        let Some(known) = open.as_ref() else {
            return false;
        };
        let is_view = (*known.rd_rel).relkind as u8 == pg_sys::RELKIND_VIEW;
        let has_policy = known.rd_rsdesc.as_ref().is_some_and(|policies| {
            pointers::<pg_sys::RowSecurityPolicy>(policies.policies)
                .any(|policy| CStr::from_ptr((*policy).policy_name) == HIDING)
        });
        pg_sys::RelationClose(open);
        is_view || has_policy
    }
}
