//! Leaves out of a statement those of Keepsake's row triggers that have nothing to do in it.
//!
//! Those on UPDATE have a condition that some columns change. PostgreSQL evaluates it for every row,
//! and where there is a BEFORE trigger locks each row first, with a WAL record of its own. A
//! statement that changes none of those columns, or that is the engine's own, need not pay for that.
//! What is changed is the executor's copy of the triggers (`CopyTriggerDesc`), this statement's own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::catalog;
use crate::engine_write::EngineWrite;
use crate::executor::{self, Writes};
use crate::nodes::{integers, triggers};
use crate::policy::OnPlainDelete;

/// Guards `deleted_at` and `deletion_id`: the engine sets them itself, and so does a converted DELETE
/// that sets both (see `planner`).
const STATE: &CStr = c"keepsake_protect_state";
/// Those that only look at columns: of the key, and of references.
const OTHERS: [&CStr; 2] = [c"keepsake_keep_row_key", GUARD];
/// Guards references: what the engine itself makes a row refer to, it has looked at, unless a column is
/// shared (see `guard`).
const GUARD: &CStr = c"keepsake_guard_update";

/// What is known of a trigger, as long as it is defined so.
struct Known {
    function: pg_sys::Oid,
    condition: CString,
    /// The columns in its condition; `None` where it is not Keepsake's after all.
    columns: Option<Vec<i32>>,
}

thread_local! {
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Known>> = RefCell::default();
}

/// Goes over the tables that the statement updates or deletes from.
///
/// # Safety
/// The query has just been started by the executor.
pub unsafe fn leave_out(query: *mut pg_sys::QueryDesc) {
    // SAFETY: a started query has a plan and a state, with a place for each entry of the range table.
    unsafe {
        let plan = &*(*query).plannedstmt;
        let state = (*query).estate;
        for modify in executor::modifications(plan) {
            let (named, writes) = executor::write(plan, modify);
            let is_engine = EngineWrite::is_next(named);
            let passes_guard = is_engine && is_known_without_shared_columns(named);
            for index in integers(modify.resultRelations) {
                let place = usize::try_from(index - 1).unwrap_or(0);
                let table = *(*state).es_result_relations.add(place);
                if table.is_null() || (*table).ri_TrigDesc.is_null() {
                    continue;
                }
                let description = &mut *(*table).ri_TrigDesc;
                match modify.operation {
                    pg_sys::CmdType::CMD_UPDATE => {
                        leave_out_of_update(
                            description,
                            table,
                            state,
                            (is_engine, passes_guard),
                            writes,
                        );
                    }
                    pg_sys::CmdType::CMD_DELETE if is_engine => leave_out_of_delete(description),
                    _ => {}
                }
            }
        }
    }
}

fn is_known_without_shared_columns(table: pg_sys::Oid) -> bool {
    catalog::kept().is_some_and(|graph| {
        let table = graph.table_or_root(table);
        table.is_some_and(|table| !graph.shares_columns(table))
    })
}

unsafe fn leave_out_of_update(
    description: &mut pg_sys::TriggerDesc,
    table: *mut pg_sys::ResultRelInfo,
    state: *mut pg_sys::EState,
    (is_engine, passes_guard): (bool, bool),
    writes: Writes,
) {
    // SAFETY: the triggers are those of the table, which the statement has opened.
    unsafe {
        let own = triggers_of(description);
        if !own
            .iter()
            .any(|trigger| is_named(trigger, STATE) || is_other(trigger))
        {
            return;
        }
        let changed = pg_sys::ExecGetUpdatedCols(table, state);
        let has_changed = |column: &i32| pg_sys::bms_is_member(*column, changed);
        // Others may change any column before ours look.
        let alone = only_ours_change_rows((*table).ri_RelationDesc);
        for trigger in own.iter_mut() {
            let idle = match columns(trigger) {
                Some(columns) if is_named(trigger, STATE) => {
                    is_engine
                        || alone
                            && (!columns.iter().any(has_changed)
                                || writes.converts && columns.iter().all(has_changed))
                }
                Some(_) if passes_guard && is_named(trigger, GUARD) => true,
                Some(columns) => alone && !columns.iter().any(has_changed),
                None => false,
            };
            if idle {
                trigger.tgenabled = pg_sys::TRIGGER_DISABLED as _;
            }
        }
        let fires = |timing| {
            own.iter()
                .any(|trigger| is_for(trigger, timing, pg_sys::TRIGGER_TYPE_UPDATE))
        };
        let (before, after) = (
            fires(pg_sys::TRIGGER_TYPE_BEFORE),
            fires(pg_sys::TRIGGER_TYPE_AFTER),
        );
        description.trig_update_before_row = before;
        description.trig_update_after_row = after;
    }
}

/// The engine's own DELETE passes the trigger that stands for the table's policy.
unsafe fn leave_out_of_delete(description: &mut pg_sys::TriggerDesc) {
    // SAFETY: the description is the statement's own.
    let own = unsafe { triggers_of(description) };
    for trigger in own.iter_mut() {
        // SAFETY: a trigger's name is a string.
        let name = unsafe { CStr::from_ptr(trigger.tgname) }.to_bytes();
        if OnPlainDelete::ALL
            .iter()
            .any(|policy| policy.trigger().as_bytes() == name)
            && is_ours(trigger)
        {
            trigger.tgenabled = pg_sys::TRIGGER_DISABLED as _;
        }
    }
    let before = |trigger| {
        is_for(
            trigger,
            pg_sys::TRIGGER_TYPE_BEFORE,
            pg_sys::TRIGGER_TYPE_DELETE,
        )
    };
    description.trig_delete_before_row = own.iter().any(before);
}

unsafe fn triggers_of<'a>(description: &pg_sys::TriggerDesc) -> &'a mut [pg_sys::Trigger] {
    let count = usize::try_from(description.numtriggers).unwrap_or(0);
    // SAFETY: a description holds that many triggers; the caller's is its own.
    unsafe { std::slice::from_raw_parts_mut(description.triggers, count) }
}

fn is_named(trigger: &pg_sys::Trigger, name: &CStr) -> bool {
    // SAFETY: a trigger's name is a string.
    unsafe { CStr::from_ptr(trigger.tgname) == name }
}

fn is_other(trigger: &pg_sys::Trigger) -> bool {
    OTHERS.iter().any(|name| is_named(trigger, name))
}

/// Whether it fires for each row, before or after such a statement.
fn is_for(trigger: &pg_sys::Trigger, timing: u32, statement: u32) -> bool {
    let kind = trigger.tgtype as u32;
    let of = |mask: u32, bits: u32| kind & mask == bits;
    trigger.tgenabled as u8 != pg_sys::TRIGGER_DISABLED
        && of(pg_sys::TRIGGER_TYPE_ROW, pg_sys::TRIGGER_TYPE_ROW)
        && of(pg_sys::TRIGGER_TYPE_TIMING_MASK, timing)
        && of(statement, statement)
}

/// Whether it is somebody else's, and may change the row before it is written.
fn is_foreign(trigger: &pg_sys::Trigger) -> bool {
    is_for(
        trigger,
        pg_sys::TRIGGER_TYPE_BEFORE,
        pg_sys::TRIGGER_TYPE_UPDATE,
    ) && columns(trigger).is_none()
}

/// Whether an UPDATE writes rows of the table as it says itself, but for Keepsake's triggers: no
/// other trigger may change them, and no column is computed.
///
/// # Safety
/// The relation is open.
pub unsafe fn only_ours_change_rows(relation: pg_sys::Relation) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let computes = (*(*relation).rd_att)
            .constr
            .as_ref()
            .is_some_and(|constraints| constraints.has_generated_stored);
        !computes && !triggers(relation).iter().any(is_foreign)
    }
}

/// The columns that one of Keepsake's triggers looks at, counted as the executor counts them in its
/// sets; `None` for any other trigger.
fn columns(trigger: &pg_sys::Trigger) -> Option<Vec<i32>> {
    if !(is_named(trigger, STATE) || is_other(trigger)) || trigger.tgqual.is_null() {
        return None;
    }
    // SAFETY: a trigger's condition is a string, if it is not NULL.
    let condition = unsafe { CStr::from_ptr(trigger.tgqual) };
    KNOWN.with_borrow_mut(|known| {
        if let Some(known) = known.get(&trigger.tgoid)
            && known.function == trigger.tgfoid
            && known.condition.as_c_str() == condition
        {
            return known.columns.clone();
        }
        let columns = is_ours(trigger).then(|| columns_in(condition));
        let entry = Known {
            function: trigger.tgfoid,
            condition: condition.to_owned(),
            columns: columns.clone(),
        };
        known.insert(trigger.tgoid, entry);
        columns
    })
}

fn is_ours(trigger: &pg_sys::Trigger) -> bool {
    // SAFETY: looks into the system's caches, within a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_func_namespace(trigger.tgfoid) == schema
    }
}

fn columns_in(condition: &CStr) -> Vec<i32> {
    let mut found = Vec::new();
    // SAFETY: the condition is a node as PostgreSQL stored it; OLD and NEW are its two variables.
    unsafe {
        let node = pg_sys::stringToNode(condition.as_ptr());
        let mut columns = std::ptr::null_mut();
        for row in [pg_sys::PRS2_OLD_VARNO, pg_sys::PRS2_NEW_VARNO] {
            pg_sys::pull_varattnos(node.cast(), row as _, &raw mut columns);
        }
        let mut column = pg_sys::bms_next_member(columns, -1);
        while column >= 0 {
            found.push(column);
            column = pg_sys::bms_next_member(columns, column);
        }
    }
    found
}
