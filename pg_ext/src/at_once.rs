//! Fires at the end of its statement what a restricted statement would defer to the commit.
//!
//! A deferred trigger or constraint fires with the rights of whoever commits. What a table's owner wrote must not reach
//! that far when another called (see [`crate::run_as`]), and PostgreSQL refuses to defer anything within a
//! security-restricted operation. So the triggers of such a statement are not deferrable. What is changed is the
//! executor's copy of them (`CopyTriggerDesc`), this statement's own. Partitions that are first reached while the
//! statement runs have copies that nobody changes: there PostgreSQL's refusal stands.

use pgrx::pg_sys;

use crate::executor;
use crate::nodes::integers;
use crate::run_as;

/// Makes the triggers of the tables that the statement writes to fire at its end, if it is restricted.
///
/// # Safety
/// The query has just been started by the executor.
pub unsafe fn defer_nothing(query: *mut pg_sys::QueryDesc) {
    if !run_as::is_restricted() {
        return;
    }
    // SAFETY: a started query has a plan and a state, with a place for each entry of the range table; a table that it
    // writes to has a description of its triggers, of its own, or none.
    unsafe {
        let plan = &*(*query).plannedstmt;
        let state = (*query).estate;
        for modify in executor::modifications(plan) {
            for index in integers(modify.resultRelations) {
                let Some(place) = usize::try_from(index - 1).ok() else {
                    continue;
                };
                let table = *(*state).es_result_relations.add(place);
                if table.is_null() || (*table).ri_TrigDesc.is_null() {
                    continue;
                }
                let triggers = &*(*table).ri_TrigDesc;
                let count = usize::try_from(triggers.numtriggers).unwrap_or(0);
                for trigger in std::slice::from_raw_parts_mut(triggers.triggers, count) {
                    trigger.tgdeferrable = false;
                    trigger.tginitdeferred = false;
                }
            }
        }
    }
}
