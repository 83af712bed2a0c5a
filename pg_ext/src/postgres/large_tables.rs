//! Plans for few rows are made as if each table were large. PostgreSQL takes a table without statistics for one from which any condition
//! leaves a row or two: then to read an index from end to end looks as good as to look a key up in it. Such a table is new, or
//! comes from a dump, and may have millions of rows.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::postgres::pg_list::pointers;

/// The setting, which only the engine sets.
pub const SETTING: &std::ffi::CStr = c"keepsake.plan_for_large_tables";

static LARGE: GucSetting<bool> = GucSetting::<bool>::new(false);

/// What a table is taken for, at least: so many rows that several conditions, each of which seems to leave one in 200, still leave more
/// than are worth going through again and again.
const ROWS: f64 = 1_000_000_000.0;
const PAGES: pg_sys::BlockNumber = 20_000_000;
const INDEX_PAGES: pg_sys::BlockNumber = 4_000_000;

#[cfg(not(feature = "pg19"))]
static mut NEXT: pg_sys::get_relation_info_hook_type = None;
#[cfg(feature = "pg19")]
static mut NEXT: pg_sys::build_simple_rel_hook_type = None;

/// Defines the setting, and hooks what the planner knows of a table; once in a backend's life.
pub fn install() {
    GucRegistry::define_bool_guc(
        SETTING,
        c"Plans are made as for large tables.",
        c"The engine sets it while it plans a statement for few rows.",
        &LARGE,
        GucContext::Internal,
        GucFlags::NO_SHOW_ALL,
    );
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn.
    unsafe {
        #[cfg(not(feature = "pg19"))]
        {
            NEXT = pg_sys::get_relation_info_hook;
            pg_sys::get_relation_info_hook = Some(described);
        }
        #[cfg(feature = "pg19")]
        {
            NEXT = pg_sys::build_simple_rel_hook;
            pg_sys::build_simple_rel_hook = Some(described);
        }
    }
}

#[cfg(not(feature = "pg19"))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn described(
    planner: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    has_children: bool,
    table: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: passes on what PostgreSQL gave; the table is described by now.
    unsafe {
        if let Some(next) = NEXT {
            pg_guard_ffi_boundary(|| next(planner, relation, has_children, table));
        }
        if !has_children && let Some(table) = table.as_mut() {
            take_for_large(table);
        }
    }
}

#[cfg(feature = "pg19")]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn described(
    planner: *mut pg_sys::PlannerInfo,
    table: *mut pg_sys::RelOptInfo,
    entry: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: passes on what PostgreSQL gave; the table is described by now.
    unsafe {
        if let Some(next) = NEXT {
            pg_guard_ffi_boundary(|| next(planner, table, entry));
        }
        let is_table = entry
            .as_ref()
            .is_some_and(|entry| entry.rtekind == pg_sys::RTEKind::RTE_RELATION && !entry.inh);
        if is_table && let Some(table) = table.as_mut() {
            take_for_large(table);
        }
    }
}

fn take_for_large(table: &mut pg_sys::RelOptInfo) {
    if !LARGE.get() {
        return;
    }
    table.tuples = table.tuples.max(ROWS);
    table.pages = table.pages.max(PAGES);
    // SAFETY: the planner's own descriptions of this table's indexes, which live as long as that of the table.
    let indexes = unsafe { pointers::<pg_sys::IndexOptInfo>(table.indexlist) };
    for index in indexes {
        // SAFETY: see above; nobody else has one of them.
        if let Some(index) = unsafe { index.as_mut() } {
            index.tuples = index.tuples.max(ROWS);
            index.pages = index.pages.max(INDEX_PAGES);
        }
    }
}
