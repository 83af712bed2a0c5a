//! Whoever may update some columns of a table need not be allowed to update `deleted_at` for a MERGE that deletes.

use pgrx::pg_sys;

use crate::postgres::query_plan::{modifications, plan, updated_columns};
use crate::postgres::statement_stack::write;

/// What a query says that it changes, to be put back.
#[derive(Default)]
pub struct Unasked(Vec<(*mut *mut pg_sys::Bitmapset, *mut pg_sys::Bitmapset)>);

impl Drop for Unasked {
    fn drop(&mut self) {
        for (place, columns) in &self.0 {
            // SAFETY: a place in the plan of the query, which outlives its start.
            unsafe { **place = *columns };
        }
    }
}

/// Takes `deleted_at` out of the columns that converted MERGEs say they change, until what it returns is dropped: meanwhile the executor checks
/// the rights. A converted DELETE asks for no right to update.
///
/// # Safety
/// The query is about to be started.
pub unsafe fn ask_none_for_marks(query: &pg_sys::QueryDesc) -> Unasked {
    let mut unasked = Unasked::default();
    let Some(plan) = plan(query) else {
        return unasked;
    };
    for modify in modifications(plan) {
        if modify.operation != pg_sys::CmdType::CMD_MERGE {
            continue;
        }
        let Some((relation, writes)) = write(plan, modify) else {
            continue;
        };
        let place = updated_columns(plan, modify.nominalRelation);
        let Some(place) = place.filter(|_| writes.converts) else {
            continue;
        };
        // SAFETY: looks into the system's caches; the set is the plan's, and the copy lives as long as the query starts.
        unsafe {
            let column = pg_sys::get_attnum(relation, c"deleted_at".as_ptr());
            let member = i32::from(column) - pg_sys::FirstLowInvalidHeapAttributeNumber;
            let without = pg_sys::bms_del_member(pg_sys::bms_copy(*place), member);
            unasked.0.push((place, *place));
            *place = without;
        }
    }
    unasked
}
