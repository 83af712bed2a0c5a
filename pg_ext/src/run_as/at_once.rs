//! Fires at the end of its statement what a restricted statement would defer to the commit.
//!
//! A deferred trigger or constraint fires with the rights of whoever commits. What a table's owner wrote must not reach
//! that far when another called (see [`crate::run_as::role`]), and PostgreSQL refuses to defer anything within a
//! security-restricted operation. So the triggers of such a statement are not deferrable. What is changed is the
//! executor's copy of them (`CopyTriggerDesc`), this statement's own. Partitions that are first reached while the
//! statement runs have copies that nobody changes: there PostgreSQL's refusal stands.

use pgrx::pg_sys;

use crate::postgres::pg_list::integers;
use crate::postgres::query_plan::{modifications, plan, result_table};
use crate::run_as::role;

/// Makes the triggers of the tables that the statement writes to fire at its end, if it is restricted. The executor has
/// just started it.
pub fn defer_nothing(query: &pg_sys::QueryDesc) {
    if !role::is_restricted() {
        return;
    }
    for modify in plan(query).into_iter().flat_map(modifications) {
        // SAFETY: the tables that a plan writes to are a list of numbers.
        for number in unsafe { integers(modify.resultRelations) } {
            let Some(table) = result_table(query, number) else {
                continue;
            };
            // SAFETY: the table's triggers are NULL, or the executor's own copy, which holds that many.
            let triggers = unsafe {
                let Some(description) = (*table).ri_TrigDesc.as_mut() else {
                    continue;
                };
                let count = usize::try_from(description.numtriggers).unwrap_or(0);
                std::slice::from_raw_parts_mut(description.triggers, count)
            };
            for trigger in triggers {
                trigger.tgdeferrable = false;
                trigger.tginitdeferred = false;
            }
        }
    }
}
