//! Leaves out of a statement those of Keepsake's row triggers that have nothing to do in it.
//!
//! Those on UPDATE only look at some columns. PostgreSQL calls them for every row,
//! and where there is a BEFORE trigger locks each row first, with a WAL record of its own. A
//! statement that changes none of those columns, or that is the engine's own, need not pay for that.
//! What is changed is the executor's copy of the triggers (`CopyTriggerDesc`), this statement's own.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::tupdesc::PgTupleDesc;

use crate::call::own_triggers::{self, Carrier, OwnTrigger, Skipped};
use crate::graph::cache;
use crate::intercept::parent_probe;
use crate::model::error::raise_unless_ok;
use crate::model::oid_map::OidMap;
use crate::postgres::pg_list::{integers, pointers};
use crate::postgres::query_plan::{modifications, plan, result_table};
use crate::postgres::statement_stack::write;
use crate::postgres::table_triggers::{name, triggers};
use crate::run_as::engine_write::EngineWrite;

/// What is known of a trigger, as long as it calls the same function.
#[derive(Clone, Copy)]
struct Known {
    function: pg_sys::Oid,
    own: Option<&'static OwnTrigger>,
}

/// The columns that the condition of a trigger names.
type Conditions = OidMap<(CString, Vec<i32>)>;

thread_local! {
    static KNOWN: RefCell<OidMap<Known>> = RefCell::default();
    static CONDITIONS: RefCell<Conditions> = RefCell::default();
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
            // SAFETY: the table is one of the query's, whose state is that of its executor, which has
            // opened it.
            let (changed, relation) = unsafe {
                let changed = pg_sys::ExecGetUpdatedCols(table, query.estate);
                (changed, &*(*table).ri_RelationDesc)
            };
            let update = || Update {
                changed,
                relation,
                alone: only_ours_change_rows(relation),
                is_engine,
                passes_guard,
                converts: writes.converts,
            };
            let has_ours = || triggers(relation).iter().any(is_one_of_ours);
            match modify.operation {
                pg_sys::CmdType::CMD_UPDATE if has_ours() => {
                    update().leave_out(description, |_| true);
                }
                pg_sys::CmdType::CMD_MERGE if has_ours() => {
                    update().leave_out(description, is_of_archive);
                }
                pg_sys::CmdType::CMD_DELETE if is_engine => leave_out_of_delete(description),
                pg_sys::CmdType::CMD_INSERT => {
                    leave_out_of_insert(description, modify, writes.ignores_conflicts);
                    if modify.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_UPDATE
                        && has_ours()
                    {
                        update().leave_out(description, is_of_archive);
                    }
                }
                _ => {}
            }
        }
    }
}

const PRIMARY_KEY: pg_sys::IndexAttrBitmapKind::Type =
    pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY;
/// Those that a foreign key can refer to.
const UNIQUE_KEYS: pg_sys::IndexAttrBitmapKind::Type =
    pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_KEY;

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

    fn changes_any(&self, columns: &[i32]) -> bool {
        columns.iter().any(|column| self.has_changed(*column))
    }

    /// Whether it changes a column of such keys. PostgreSQL's own caches say: under SERIALIZABLE, a look at the registry
    /// would stand against whoever writes to it.
    fn changes(&self, keys: pg_sys::IndexAttrBitmapKind::Type) -> bool {
        let relation = std::ptr::from_ref(self.relation).cast_mut();
        // SAFETY: the relation is open; the sets are its own and the executor's, or NULL, which is empty.
        unsafe {
            let keys = pg_sys::RelationGetIndexAttrBitmap(relation, keys);
            pg_sys::bms_overlap(keys, self.changed)
        }
    }

    /// Whether nothing but the statement itself can change a column of the primary key: no other trigger, and none is computed.
    fn leaves_key_alone(&self) -> bool {
        let relation = std::ptr::from_ref(self.relation).cast_mut();
        // SAFETY: the relation is open; its descriptor is not released here, and the set is its own or NULL, which is empty.
        let computes = || unsafe {
            let key = pg_sys::RelationGetIndexAttrBitmap(relation, PRIMARY_KEY);
            let shape = PgTupleDesc::from_pg_unchecked(self.relation.rd_att);
            let computed = shape.iter().filter(|column| column.attgenerated != 0);
            let first = pg_sys::FirstLowInvalidHeapAttributeNumber;
            computed
                .map(|column| i32::from(column.attnum) - first)
                .any(|column| pg_sys::bms_is_member(column, key))
        };
        self.alone || no_other_trigger_changes_rows(self.relation) && !computes()
    }

    /// Whether it changes a column of a foreign key.
    fn changes_foreign_keys(&self) -> bool {
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
        match skipped(trigger) {
            Skipped::Never
            | Skipped::InEnginesDelete
            | Skipped::WithoutOnConflict
            | Skipped::MarksLeftNull => false,
            Skipped::ForeignKeysUnchanged => !self.changes_foreign_keys(),
            Skipped::KeyUnchanged => self.leaves_key_alone() && !self.changes(PRIMARY_KEY),
            Skipped::UniqueKeysUnchanged => self.alone && !self.changes(UNIQUE_KEYS),
            Skipped::MarksUnchangedOrSetByEngine => {
                // What the condition names are the columns of old, whatever has their names by now.
                let marks = in_condition(trigger);
                let all = marks.iter().all(|column| self.has_changed(*column));
                self.is_engine || self.alone && (!self.changes_any(&marks) || self.converts && all)
            }
            Skipped::ReferencesUnchangedOrCheckedByEngine => {
                self.passes_guard
                    || self.alone && !self.changes_any(&referring_columns(self.relation))
            }
        }
    }

    /// Leaves out those that have nothing to do, of those that may be left out.
    fn leave_out(
        &self,
        description: &mut pg_sys::TriggerDesc,
        may_be: impl Fn(&pg_sys::Trigger) -> bool,
    ) {
        let own = triggers_of(description);
        for trigger in own.iter_mut().filter(|trigger| is_for_row(trigger)) {
            if may_be(trigger) && self.is_idle(trigger) {
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

/// Whether the trigger is one on UPDATE that tables with an archive have: it looks at nothing but what the statement changes, whatever else that does.
fn is_of_archive(trigger: &pg_sys::Trigger) -> bool {
    own(trigger)
        .is_some_and(|own| matches!(own.carrier, Carrier::Archived | Carrier::ArchivedReferring))
}

/// The columns by which a table refers to managed ones, counted as the executor counts them in its sets.
fn referring_columns(relation: &pg_sys::RelationData) -> Vec<i32> {
    if let Some(mut columns) = raise_unless_ok(parent_probe::referring_columns(relation)) {
        for column in &mut columns {
            *column -= pg_sys::FirstLowInvalidHeapAttributeNumber;
        }
        return columns;
    }
    let graph = raise_unless_ok(cache::known());
    let Some(table) = graph.table_or_root(relation.rd_id) else {
        return Vec::new();
    };
    graph
        .guarded_references_of(table.oid)
        .flat_map(|(reference, _)| reference.child_columns())
        .filter_map(|column| number(relation, &column.0))
        .collect()
}

/// The number of a column, counted so.
fn number(relation: &pg_sys::RelationData, column: &str) -> Option<i32> {
    // SAFETY: the descriptor of an open relation, which is not released here.
    let shape = unsafe { PgTupleDesc::from_pg_unchecked(relation.rd_att) };
    let found = shape
        .iter()
        .find(|one| !one.attisdropped && one.name() == column)?;
    Some(i32::from(found.attnum) - pg_sys::FirstLowInvalidHeapAttributeNumber)
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
    disable(own, Skipped::InEnginesDelete);
    let before = |trigger| {
        is_for(
            trigger,
            pg_sys::TRIGGER_TYPE_BEFORE,
            pg_sys::TRIGGER_TYPE_DELETE,
        )
    };
    description.trig_delete_before_row = own.iter().any(before);
}

/// An INSERT that passes over no conflict has nothing to do with deleted rows of its keys. One that leaves the marks NULL inserts live rows, if
/// no other trigger changes them.
fn leave_out_of_insert(
    description: &mut pg_sys::TriggerDesc,
    modify: &pg_sys::ModifyTable,
    ignores_conflicts: bool,
) {
    let own = triggers_of(description);
    let before = |trigger: &pg_sys::Trigger| {
        is_for(
            trigger,
            pg_sys::TRIGGER_TYPE_BEFORE,
            pg_sys::TRIGGER_TYPE_INSERT,
        )
    };
    let alone = !own
        .iter()
        .any(|trigger| before(trigger) && self::own(trigger).is_none());
    for trigger in own.iter_mut().filter(|trigger| before(trigger)) {
        let is_idle = match skipped(trigger) {
            Skipped::WithoutOnConflict => !ignores_conflicts,
            Skipped::MarksLeftNull => alone && leaves_null(modify, &in_condition(trigger)),
            _ => false,
        };
        if is_idle {
            trigger.tgenabled = pg_sys::TRIGGER_DISABLED as _;
        }
    }
    description.trig_insert_before_row = own.iter().any(before);
}

/// Whether an INSERT gives these columns, counted as in the executor's sets, no other value than NULL.
fn leaves_null(modify: &pg_sys::ModifyTable, columns: &[i32]) -> bool {
    // SAFETY: what an INSERT inserts is a plan beneath it, or NULL; the plan's targets are a list of entries, one for each column, and
    // an expression says by its tag that it is a constant.
    unsafe {
        let Some(source) = modify.plan.lefttree.as_ref() else {
            return false;
        };
        let is_null = |column: i32| {
            let number = column + pg_sys::FirstLowInvalidHeapAttributeNumber;
            pointers::<pg_sys::TargetEntry>(source.targetlist).any(|entry| {
                let value = (*entry).expr.cast::<pg_sys::Node>();
                !(*entry).resjunk
                    && i32::from((*entry).resno) == number
                    && pgrx::is_a(value, pg_sys::NodeTag::T_Const)
                    && (*value.cast::<pg_sys::Const>()).constisnull
            })
        };
        !columns.is_empty() && columns.iter().all(|column| is_null(*column))
    }
}

fn triggers_of(description: &mut pg_sys::TriggerDesc) -> &mut [pg_sys::Trigger] {
    let count = usize::try_from(description.numtriggers).unwrap_or(0);
    if description.triggers.is_null() {
        return &mut [];
    }
    // SAFETY: a description holds that many triggers; the caller's is its own.
    unsafe { std::slice::from_raw_parts_mut(description.triggers, count) }
}

/// Disables those of Keepsake's that such a statement goes without.
fn disable(triggers: &mut [pg_sys::Trigger], statement: Skipped) {
    for trigger in triggers.iter_mut() {
        if skipped(trigger) == statement {
            trigger.tgenabled = pg_sys::TRIGGER_DISABLED as _;
        }
    }
}

/// Which statements go without the trigger.
fn skipped(trigger: &pg_sys::Trigger) -> Skipped {
    own(trigger).map_or(Skipped::Never, |own| own.skipped)
}

/// Which one of Keepsake's it is, by its name and its function.
fn own(trigger: &pg_sys::Trigger) -> Option<&'static OwnTrigger> {
    let known = KNOWN.with_borrow(|known| known.get(&trigger.tgoid).copied());
    if let Some(Known { function, own }) = known
        && function == trigger.tgfoid
        && own.is_none_or(|own| own.name == name(trigger))
    {
        return own;
    }
    let known = Known {
        function: trigger.tgfoid,
        own: own_triggers::named(name(trigger)).filter(|_| is_ours(trigger)),
    };
    KNOWN.with_borrow_mut(|all| all.insert(trigger.tgoid, known));
    known.own
}

/// Whether it fires for each row of an UPDATE.
fn is_for_row(trigger: &pg_sys::Trigger) -> bool {
    const ROW_OF_UPDATE: u32 = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_UPDATE;
    trigger.tgtype as u32 & ROW_OF_UPDATE == ROW_OF_UPDATE
}

/// Whether it is one of Keepsake's that an UPDATE may go without.
fn is_one_of_ours(trigger: &pg_sys::Trigger) -> bool {
    is_for_row(trigger)
        && !matches!(
            skipped(trigger),
            Skipped::Never
                | Skipped::InEnginesDelete
                | Skipped::WithoutOnConflict
                | Skipped::MarksLeftNull
        )
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
    ) && !is_one_of_ours(trigger)
}

/// Whether an UPDATE writes rows of the table as it says itself, but for Keepsake's triggers: no
/// other trigger may change them, and no column is computed.
pub fn only_ours_change_rows(relation: &pg_sys::RelationData) -> bool {
    // SAFETY: an open relation has a descriptor, which has constraints or NULL.
    let constraints = unsafe { (*relation.rd_att).constr.as_ref() };
    let computes = constraints.is_some_and(|constraints| constraints.has_generated_stored);
    !computes && no_other_trigger_changes_rows(relation)
}

/// Whether no trigger but Keepsake's may change a row before an UPDATE writes it.
pub fn no_other_trigger_changes_rows(relation: &pg_sys::RelationData) -> bool {
    !triggers(relation).iter().any(is_foreign)
}

fn is_ours(trigger: &pg_sys::Trigger) -> bool {
    // SAFETY: looks into the system's caches, within a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        schema != pg_sys::InvalidOid && pg_sys::get_func_namespace(trigger.tgfoid) == schema
    }
}

/// The columns that the condition of a trigger names, counted so.
fn in_condition(trigger: &pg_sys::Trigger) -> Vec<i32> {
    if trigger.tgqual.is_null() {
        return Vec::new();
    }
    // SAFETY: a trigger's condition is a string, if it is not NULL.
    let condition = unsafe { CStr::from_ptr(trigger.tgqual) };
    CONDITIONS.with_borrow_mut(|known| {
        if let Some((same, columns)) = known.get(&trigger.tgoid)
            && same.as_c_str() == condition
        {
            return columns.clone();
        }
        let columns = columns_in(condition);
        known.insert(trigger.tgoid, (condition.to_owned(), columns.clone()));
        columns
    })
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
