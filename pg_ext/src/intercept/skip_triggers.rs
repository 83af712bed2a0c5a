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

use crate::call::own_triggers::{self, Skipped};
use crate::graph::cache;
use crate::postgres::pg_list::{integers, pointers};
use crate::postgres::query_plan::{modifications, plan, result_table};
use crate::postgres::statement_stack::write;
use crate::postgres::table_triggers::{name, triggers};
use crate::run_as::engine_write::EngineWrite;

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

/// Goes over the tables that the statement updates or deletes from, which the executor has just started.
pub fn leave_out(query: &pg_sys::QueryDesc) {
    let Some(plan) = plan(query) else {
        return;
    };
    for modify in modifications(plan) {
        let Some((named, writes)) = write(plan, modify) else {
            continue;
        };
        let is_engine = EngineWrite::is_next(named);
        let passes_guard = is_engine && is_known_without_shared_columns(named);
        // SAFETY: the tables that a plan writes to are a list of numbers.
        for number in unsafe { integers(modify.resultRelations) } {
            let Some(table) = result_table(query, number) else {
                continue;
            };
            // SAFETY: the table's triggers are NULL, or the executor's own copy: what is changed in it holds
            // for this query alone.
            let Some(description) = (unsafe { (*table).ri_TrigDesc.as_mut() }) else {
                continue;
            };
            match modify.operation {
                pg_sys::CmdType::CMD_UPDATE => {
                    // SAFETY: the table is one of the query's, whose state is that of its executor, which has
                    // opened it.
                    let (changed, relation) = unsafe {
                        let changed = pg_sys::ExecGetUpdatedCols(table, query.estate);
                        (changed, &*(*table).ri_RelationDesc)
                    };
                    let update = Update {
                        changed,
                        alone: only_ours_change_rows(relation),
                        relation,
                        is_engine,
                        passes_guard,
                        converts: writes.converts,
                    };
                    update.leave_out(description);
                }
                pg_sys::CmdType::CMD_DELETE if is_engine => leave_out_of_delete(description),
                _ => {}
            }
        }
    }
}

/// An UPDATE that has just been started.
struct Update<'a> {
    changed: *mut pg_sys::Bitmapset,
    relation: &'a pg_sys::RelationData,
    /// Whether no other trigger may change any column before ours look.
    alone: bool,
    is_engine: bool,
    passes_guard: bool,
    converts: bool,
}

impl Update<'_> {
    fn has_changed(&self, column: i32) -> bool {
        // SAFETY: the set is one of the executor's, or NULL, which is empty; a number that is not in it is
        // no member.
        unsafe { pg_sys::bms_is_member(column, self.changed) }
    }

    /// Whether it changes a column of a foreign key.
    fn changes_references(&self) -> bool {
        let relation = std::ptr::from_ref(self.relation).cast_mut();
        // SAFETY: the relation is open; its foreign keys are a list of such entries, each with that many columns.
        let mut keys = unsafe {
            pointers::<pg_sys::ForeignKeyCacheInfo>(pg_sys::RelationGetFKeyList(relation))
        };
        keys.any(|key| {
            // SAFETY: see above.
            let (count, columns) = unsafe { ((*key).nkeys, (*key).conkey) };
            let columns = columns.iter().take(usize::try_from(count).unwrap_or(0));
            let first = pg_sys::FirstLowInvalidHeapAttributeNumber;
            columns
                .into_iter()
                .any(|column| self.has_changed(i32::from(*column) - first))
        })
    }

    fn is_idle(&self, trigger: &pg_sys::Trigger) -> bool {
        if skipped(trigger) == Skipped::ReferencesUnchanged {
            return is_ours(trigger) && !self.changes_references();
        }
        let Some(columns) = columns(trigger) else {
            return false;
        };
        let any = columns.iter().any(|column| self.has_changed(*column));
        let all = columns.iter().all(|column| self.has_changed(*column));
        let unchanged = self.alone && !any;
        match skipped(trigger) {
            Skipped::Never | Skipped::InEnginesDelete | Skipped::ReferencesUnchanged => false,
            Skipped::Unchanged => unchanged,
            Skipped::UnchangedOrSetByEngine => {
                unchanged || self.is_engine || self.alone && self.converts && all
            }
            Skipped::UnchangedOrCheckedByEngine => unchanged || self.passes_guard,
        }
    }

    fn leave_out(&self, description: &mut pg_sys::TriggerDesc) {
        let own = triggers_of(description);
        if !own.iter().any(may_be_idle) {
            return;
        }
        for trigger in own.iter_mut() {
            if self.is_idle(trigger) {
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

fn is_known_without_shared_columns(table: pg_sys::Oid) -> bool {
    cache::kept().is_some_and(|graph| {
        let table = graph.table_or_root(table);
        table.is_some_and(|table| !graph.shares_columns(table))
    })
}

/// The engine's own DELETE passes the trigger that answers a plain one.
fn leave_out_of_delete(description: &mut pg_sys::TriggerDesc) {
    let own = triggers_of(description);
    for trigger in own.iter_mut() {
        if skipped(trigger) == Skipped::InEnginesDelete && is_ours(trigger) {
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

fn triggers_of(description: &mut pg_sys::TriggerDesc) -> &mut [pg_sys::Trigger] {
    let count = usize::try_from(description.numtriggers).unwrap_or(0);
    if description.triggers.is_null() {
        return &mut [];
    }
    // SAFETY: a description holds that many triggers; the caller's is its own.
    unsafe { std::slice::from_raw_parts_mut(description.triggers, count) }
}

/// Which statements go without the trigger, if it is the one that its name says.
fn skipped(trigger: &pg_sys::Trigger) -> Skipped {
    own_triggers::named(name(trigger)).map_or(Skipped::Never, |own| own.skipped)
}

/// Whether an UPDATE may go without it, by its name.
fn may_be_idle(trigger: &pg_sys::Trigger) -> bool {
    !matches!(skipped(trigger), Skipped::Never | Skipped::InEnginesDelete)
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
pub fn only_ours_change_rows(relation: &pg_sys::RelationData) -> bool {
    // SAFETY: an open relation has a descriptor, which has constraints or NULL.
    let constraints = unsafe { (*relation.rd_att).constr.as_ref() };
    let computes = constraints.is_some_and(|constraints| constraints.has_generated_stored);
    !computes && !triggers(relation).iter().any(is_foreign)
}

/// The columns that one of Keepsake's triggers looks at, counted as the executor counts them in its
/// sets; `None` for any other trigger.
fn columns(trigger: &pg_sys::Trigger) -> Option<Vec<i32>> {
    if !may_be_idle(trigger) || trigger.tgqual.is_null() {
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
