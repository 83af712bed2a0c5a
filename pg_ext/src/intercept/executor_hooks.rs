//! Hooks of PostgreSQL's executor: they keep the stack of running statements, and see to the triggers of each
//! statement that starts.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::archive::removal;
use crate::delete::{put_off, restrict};
use crate::intercept::column_rights;
use crate::intercept::locked_row;
use crate::intercept::skip_checks;
use crate::intercept::skip_triggers;
use crate::postgres::statement_stack::{depth, while_running};
use crate::run_as::at_once;
use crate::run_as::owners_triggers;

static mut NEXT_START: pg_sys::ExecutorStart_hook_type = None;
static mut NEXT_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut NEXT_FINISH: pg_sys::ExecutorFinish_hook_type = None;

/// Hooks the executor; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, before any other code of this library, in a process of one
    // thread; whatever was hooked before is called in turn.
    unsafe {
        NEXT_START = pg_sys::ExecutorStart_hook;
        NEXT_RUN = pg_sys::ExecutorRun_hook;
        NEXT_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorStart_hook = Some(start);
        pg_sys::ExecutorRun_hook = Some(run);
        pg_sys::ExecutorFinish_hook = Some(finish);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: passes on what the executor gave; the query and its plan outlive the call.
    unsafe {
        let unasked = column_rights::ask_none_for_marks(&*query);
        match NEXT_START {
            Some(next) => pg_guard_ffi_boundary(|| next(query, flags)),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
        drop(unasked);
        skip_triggers::leave_out(&*query);
        skip_checks::leave_out(&*query);
        at_once::defer_nothing(&*query);
        owners_triggers::redirect(&*query, flags);
    }
}

#[cfg(not(any(feature = "pg18", feature = "pg19")))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    begin(query);
    // SAFETY: passes on what the executor gave.
    while_running(query, || unsafe {
        match NEXT_RUN {
            Some(next) => pg_guard_ffi_boundary(|| next(query, direction, count, once)),
            None => pg_sys::standard_ExecutorRun(query, direction, count, once),
        }
    });
    // SAFETY: the query has not ended yet.
    locked_row::note(unsafe { &*query });
}

#[cfg(any(feature = "pg18", feature = "pg19"))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    begin(query);
    // SAFETY: passes on what the executor gave.
    while_running(query, || unsafe {
        match NEXT_RUN {
            Some(next) => pg_guard_ffi_boundary(|| next(query, direction, count)),
            None => pg_sys::standard_ExecutorRun(query, direction, count),
        }
    });
    // SAFETY: the query has not ended yet.
    locked_row::note(unsafe { &*query });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    begin(query);
    // SAFETY: passes on what the executor gave.
    while_running(query, || unsafe {
        match NEXT_FINISH {
            Some(next) => pg_guard_ffi_boundary(|| next(query)),
            None => pg_sys::standard_ExecutorFinish(query),
        }
    });
    put_off::statement_ended(restrict::refuse_put_off);
    if depth() == 0 {
        // SAFETY: the query has not ended yet.
        removal::statement_ended(unsafe { &*query });
    }
}

/// What an outermost statement removes makes one deletion.
fn begin(query: *mut pg_sys::QueryDesc) {
    if depth() == 0 {
        removal::statement_begins(query);
    }
}
