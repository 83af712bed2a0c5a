//! Deletions that a plain statement makes: a `DELETE` that the planner converted, one that only the
//! trigger met, or an `UPDATE … SET deleted_at`.
//!
//! A row trigger marks the rows, or collects them, as the statement goes over them; when it has
//! ended, a statement trigger makes one deletion of them all and carries it out.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::tupdesc::PgTupleDesc;
use pgrx::{PgTrigger, Uuid, pg_sys};

use crate::cascade;
use crate::catalog;
use crate::engine_write::EngineWrite;
use crate::error::{Failure, Outcome, raise_unless_ok};
use crate::executor::{self, Writes};
use crate::graph::{Graph, Table};
use crate::guard::{self, TriggerReturn, is_deleted, relation};
use crate::hold;
use crate::policy::OnPlainDelete;
use crate::root_row;
use crate::row_id::{RowId, as_arguments};
use crate::run_as;
use crate::session::{Session, with_reading_session, with_session};
use crate::soft_delete::{new_deletion, record, roots_of};

/// What a statement that still runs has deleted of one table.
struct Statement {
    table: pg_sys::Oid,
    /// How deep it is nested in others.
    depth: usize,
    subtransaction: pg_sys::SubTransactionId,
    rows: Rows,
}

enum Rows {
    /// Marked already with this deletion. Whether the rights to delete them have been checked.
    Marked { deletion: Uuid, checked: bool },
    /// Locked, and to be marked at the end.
    Collected(Vec<RowId>),
}

thread_local! {
    static STATEMENTS: RefCell<Vec<Statement>> = const { RefCell::new(Vec::new()) };
    /// What a statement that began before this library was loaded does to partitioned tables.
    static BEGUN: RefCell<Vec<(pg_sys::Oid, Writes)>> = const { RefCell::new(Vec::new()) };
}

/// Forgets what statements did that are undone. Once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, with functions that live as long as the backend.
    unsafe {
        pg_sys::RegisterXactCallback(Some(forget_all), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(forget_undone), std::ptr::null_mut());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(
    _event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    STATEMENTS.with_borrow_mut(Vec::clear);
    BEGUN.with_borrow_mut(Vec::clear);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_undone(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        STATEMENTS.with_borrow_mut(|all| all.retain(|one| one.subtransaction < subtransaction));
        BEGUN.with_borrow_mut(Vec::clear);
    }
}

/// BEFORE UPDATE when `deleted_at` or `deletion_id` changes. A live row that gets a `deleted_at` is
/// deleted; a deleted one that gets another keeps its own; everything else is the engine's alone.
#[pg_trigger]
fn protect_state<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    match raise_unless_ok(deletion_of(trigger)) {
        None => Ok(trigger.new()),
        Some((since, deletion, columns)) => Ok(Some(marked(trigger, columns, since, deletion))),
    }
}

/// When and by which deletion a row is deleted, and the columns that say so.
type Marks = (pg_sys::TimestampTz, Uuid, [i16; 2]);

/// The marks that the row is to have; `None` where the engine sets them itself.
fn deletion_of(trigger: &PgTrigger<'_>) -> Outcome<Option<Marks>> {
    let relation = relation(trigger)?;
    if EngineWrite::is_to(relation) {
        return Ok(None);
    }
    let graph = Graph::known()?;
    let Some(table) = graph.table_or_root(relation) else {
        return Ok(None);
    };
    let Some(columns) = graph
        .marks_of(relation)
        .filter(|_| !EngineWrite::is_to(table.oid))
    else {
        return Ok(None);
    };
    let data = trigger.trigger_data();
    let row = RowChange {
        // SAFETY: in a BEFORE UPDATE row trigger the relation is open.
        descriptor: unsafe { (*data.tg_relation).rd_att },
        old: data.tg_trigtuple,
        new: data.tg_newtuple,
    };
    match (row.is_null(row.old, columns), row.is_null(row.new, columns)) {
        ([true, true], [false, true]) => {
            let deletion = join_statement(&graph, table)?;
            // SAFETY: reads a backend-local variable.
            let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
            Ok(Some((now, deletion, columns)))
        }
        ([false, false], [false, false]) => row.kept(columns).map_or_else(
            || {
                Err(Failure::StateWrittenByHand {
                    table: table.shown.clone(),
                })
            },
            |marks| Ok(Some(marks)),
        ),
        _ => Err(Failure::StateWrittenByHand {
            table: table.shown.clone(),
        }),
    }
}

/// The row of a BEFORE UPDATE trigger, before and after.
struct RowChange {
    descriptor: pg_sys::TupleDesc,
    old: pg_sys::HeapTuple,
    new: pg_sys::HeapTuple,
}

impl RowChange {
    /// Which of the columns are NULL; read from the row's bitmap, since this is asked of every row
    /// of a statement.
    fn is_null(&self, row: pg_sys::HeapTuple, columns: [i16; 2]) -> [bool; 2] {
        columns.map(|column| {
            let index = usize::try_from(column - 1).unwrap_or(0);
            // SAFETY: the row is one of the trigger's; a tuple's header holds a bit for each of its
            // columns where it has NULLs, set for those that are not (htup_details.h). A column
            // added after the row was written is not in it, and ours have no default.
            unsafe {
                let header = (*row).t_data;
                let count = u32::from((*header).t_infomask2) & pg_sys::HEAP_NATTS_MASK;
                if index >= count as usize {
                    return true;
                }
                if u32::from((*header).t_infomask) & pg_sys::HEAP_HASNULL == 0 {
                    return false;
                }
                let bits = (&raw const (*header).t_bits).cast::<u8>();
                *bits.add(index >> 3) & (1 << (index & 7)) == 0
            }
        })
    }

    /// The marks that the row had, when its `deletion_id` stays.
    fn kept(&self, columns: [i16; 2]) -> Option<Marks> {
        // SAFETY: both rows are the trigger's and described by the descriptor; the columns have
        // these types.
        unsafe {
            let value = |row, column: i16| {
                let mut is_null = false;
                let column = i32::from(column);
                pg_sys::SPI_getbinval(row, self.descriptor, column, &raw mut is_null)
            };
            let since = pg_sys::TimestampTz::from_datum(value(self.old, columns[0]), false)?;
            let old = Uuid::from_datum(value(self.old, columns[1]), false)?;
            let new = Uuid::from_datum(value(self.new, columns[1]), false)?;
            (old == new).then_some((since, old, columns))
        }
    }
}

/// The new row of the trigger with these marks.
fn marked<'a>(
    trigger: &'a PgTrigger<'a>,
    columns: [i16; 2],
    since: pg_sys::TimestampTz,
    deletion: Uuid,
) -> PgHeapTuple<'a, AllocatedByPostgres> {
    let data = trigger.trigger_data();
    let mut id = *deletion.as_bytes();
    // SAFETY: the values are of the columns' types, a uuid being a pointer to its bytes, which are
    // copied; the row is made in the memory of the trigger's call, where the executor expects it.
    unsafe {
        let descriptor = (*data.tg_relation).rd_att;
        let mut values = [
            pg_sys::Datum::from(since),
            pg_sys::Datum::from(id.as_mut_ptr()),
        ];
        let tuple = pg_sys::heap_modify_tuple_by_cols(
            data.tg_newtuple,
            descriptor,
            2,
            columns.map(i32::from).as_mut_ptr(),
            values.as_mut_ptr(),
            [false; 2].as_mut_ptr(),
        );
        PgHeapTuple::from_heap_tuple(PgTupleDesc::from_pg_unchecked(descriptor), tuple)
    }
}

/// The deletion of the statement that marks a row of `table`; made with its first row.
fn join_statement(graph: &Graph, table: &Table) -> Outcome<Uuid> {
    if is_reached_by_inheritance(graph, table) {
        return Err(Failure::StateWrittenByHand {
            table: table.shown.clone(),
        });
    }
    // Where the statement updates the table as well, whose row this is cannot be told.
    let checked = writes_to(graph, table).is_some_and(|writes| writes.converts && !writes.updates);
    if !checked && table.policy == Some(OnPlainDelete::Reject) {
        return Err(Failure::StateWrittenByHand {
            table: table.shown.clone(),
        });
    }
    Ok(STATEMENTS.with_borrow_mut(|statements| {
        let known = statements.iter().find_map(|one| match one.rows {
            Rows::Marked {
                deletion,
                checked: same,
            } if one.is_of(table) && same == checked => Some(deletion),
            _ => None,
        });
        known.unwrap_or_else(|| {
            let deletion = new_deletion();
            statements.push(Statement::of(table, Rows::Marked { deletion, checked }));
            deletion
        })
    }))
}

/// The deletion that a converted DELETE makes, for the rows of `relation` that it marks without a
/// trigger (see `planner`).
///
/// # Errors
/// 55000 in any other statement.
#[pg_extern(volatile, parallel_unsafe, strict)]
fn deletion_of_statement(relation: pg_sys::Oid) -> Result<Uuid, ErrorReport> {
    let depth = executor::depth();
    let known = STATEMENTS.with_borrow(|statements| {
        statements.iter().find_map(|one| match one.rows {
            Rows::Marked {
                deletion,
                checked: true,
            } if one.table == relation && one.depth == depth => Some(deletion),
            _ => None,
        })
    });
    Ok(known.map_or_else(|| begin_deletion(relation), Ok)?)
}

fn begin_deletion(relation: pg_sys::Oid) -> Outcome<Uuid> {
    let graph = Graph::known()?;
    let Some(table) = graph.table_or_root(relation) else {
        let table = with_reading_session(|session| catalog::shown(session, relation))?;
        return Err(Failure::NotManaged { table });
    };
    if writes_to(&graph, table).is_some_and(|writes| writes.converts && !writes.updates) {
        return join_statement(&graph, table);
    }
    Err(Failure::StateWrittenByHand {
        table: table.shown.clone(),
    })
}

/// Whether a statement that still runs is making this deletion.
pub fn is_making(id: Uuid) -> bool {
    STATEMENTS.with_borrow(|statements| {
        let made =
            |one: &Statement| matches!(one.rows, Rows::Marked { deletion, .. } if deletion == id);
        statements.iter().any(made)
    })
}

impl Statement {
    fn of(table: &Table, rows: Rows) -> Self {
        Self {
            table: table.oid,
            depth: executor::depth(),
            // SAFETY: reads a backend-local variable.
            subtransaction: unsafe { pg_sys::GetCurrentSubTransactionId() },
            rows,
        }
    }

    /// Whether it is the statement now running, on this table. A trigger of the table's may run
    /// another one before the row it is fired for is written: that one is not to end this one.
    fn is_of(&self, table: &Table) -> bool {
        self.table == table.oid && self.depth == executor::depth()
    }

    /// Whether a trigger that is fired after a statement on the table is fired after this one, too.
    /// The triggers of a foreign key's action wait for the statement that caused it; and a statement
    /// that began before this library was loaded (0) ends in it (1).
    fn has_ended(&self, table: &Table) -> bool {
        self.table == table.oid && (self.depth == 0 || self.depth >= executor::depth())
    }
}

/// BEFORE DELETE where the policy is to convert, and the planner did not (the library was not
/// loaded yet, or the DELETE is part of a MERGE): keeps the row, to be marked at the end.
#[pg_trigger]
fn convert_delete<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    decide(trigger, |table, row, is_deleted| {
        if !is_deleted {
            collect(table, row);
        }
        Ok(false)
    })
}

/// BEFORE DELETE where the policy is to refuse.
#[pg_trigger]
fn refuse_delete<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    decide(trigger, |table, _, is_deleted| {
        // What is deleted already is passed over, as everywhere.
        if is_deleted {
            Ok(false)
        } else {
            Err(plain_delete(table))
        }
    })
}

/// BEFORE DELETE where the policy is to allow: live rows go for good, deleted ones wait for purge.
#[pg_trigger]
fn allow_delete<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    decide(trigger, |table, _, is_deleted| {
        if !is_deleted {
            with_session(|session| {
                hold::refuse_if_held(session, table, trigger)?;
                guard::refuse_if_declared(session, table, trigger)
            })?;
        }
        Ok(!is_deleted)
    })
}

/// Lets the engine's own deletes pass, and rows that an UPDATE moves to another partition; asks
/// `policy` whether the others go. A foreign key's action that the policy would keep from a row is
/// refused: swallowing it would corrupt that key.
fn decide<'a>(
    trigger: &'a PgTrigger<'a>,
    policy: impl FnOnce(&Table, RowId, bool) -> Outcome<bool>,
) -> TriggerReturn<'a> {
    let goes = raise_unless_ok(goes(trigger, policy));
    Ok(if goes { trigger.old() } else { None })
}

fn goes(
    trigger: &PgTrigger<'_>,
    policy: impl FnOnce(&Table, RowId, bool) -> Outcome<bool>,
) -> Outcome<bool> {
    let relation = relation(trigger)?;
    if EngineWrite::is_to(relation) {
        return Ok(true);
    }
    let graph = Graph::known()?;
    let Some(table) = graph.table_or_root(relation) else {
        return Ok(true);
    };
    if EngineWrite::is_to(table.oid) || is_moved(&graph, table)? {
        return Ok(true);
    }
    let (row, is_deleted) = old_row(trigger);
    if table.policy == Some(OnPlainDelete::Convert) && is_reached_by_inheritance(&graph, table) {
        return Err(plain_delete(table));
    }
    let is_action = run_as::in_foreign_key_action(executor::reads_like_a_foreign_key_action());
    if is_action && (table.policy != Some(OnPlainDelete::Allow) || is_deleted) {
        return Err(plain_delete(table));
    }
    policy(table, row, is_deleted)
}

fn plain_delete(table: &Table) -> Failure {
    Failure::PlainDelete {
        table: table.shown.clone(),
    }
}

/// Where the row of a DELETE trigger is, and whether it is deleted already.
fn old_row(trigger: &PgTrigger<'_>) -> (RowId, bool) {
    let tuple = trigger.trigger_data().tg_trigtuple;
    // SAFETY: in a BEFORE DELETE row trigger the tuple is valid.
    let address = unsafe { RowId::new((*tuple).t_tableOid, (*tuple).t_self) };
    (address, is_deleted(trigger))
}

/// What the innermost statement does to the table or its partitions.
fn writes_to(graph: &Graph, table: &Table) -> Option<Writes> {
    executor::current_writes(|oid| {
        graph
            .table_or_root(oid)
            .is_some_and(|root| root.oid == table.oid)
    })
}

/// Whether the statement names another table, which this one has come to inherit from: then nothing
/// tells of its end here.
fn is_reached_by_inheritance(graph: &Graph, table: &Table) -> bool {
    executor::depth() > 0 && writes_to(graph, table).is_none()
}

/// Whether the row is deleted here because an UPDATE inserts it into another partition.
fn is_moved(graph: &Graph, table: &Table) -> Outcome<bool> {
    if !table.partitioned {
        return Ok(false);
    }
    let begun = || {
        let begun = BEGUN.with_borrow(|all| all.iter().find(|one| one.0 == table.oid).copied());
        begun.filter(|_| executor::depth() == 0)
    };
    let writes = writes_to(graph, table)
        .or_else(|| begun().map(|(_, writes)| writes))
        .unwrap_or_default();
    let moves = writes.updates || writes.converts;
    if moves && writes.deletes && table.policy == Some(OnPlainDelete::Convert) {
        return Err(Failure::MovesAndDeletes {
            table: table.shown.clone(),
        });
    }
    Ok(moves && !writes.deletes)
}

/// BEFORE UPDATE or DELETE of a partitioned table, once a statement.
#[pg_trigger]
fn begin_update<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    if executor::depth() == 0 {
        raise_unless_ok(begin(trigger));
    }
    Ok(None)
}

fn begin(trigger: &PgTrigger<'_>) -> Outcome<()> {
    let graph = Graph::known()?;
    let Some(table) = graph.table_or_root(relation(trigger)?) else {
        return Ok(());
    };
    let deletes = trigger.event().fired_by_delete();
    BEGUN.with_borrow_mut(|begun| {
        if !begun.iter().any(|one| one.0 == table.oid) {
            begun.push((table.oid, Writes::default()));
        }
        for (_, writes) in begun.iter_mut().filter(|one| one.0 == table.oid) {
            writes.deletes |= deletes;
            writes.updates |= !deletes;
        }
    });
    Ok(())
}

fn collect(table: &Table, row: RowId) {
    STATEMENTS.with_borrow_mut(|statements| {
        let mut ours = statements.iter_mut().filter(|one| one.is_of(table));
        let collected = ours.find_map(|one| match &mut one.rows {
            Rows::Collected(rows) => Some(rows),
            Rows::Marked { .. } => None,
        });
        match collected {
            Some(rows) => rows.push(row),
            None => statements.push(Statement::of(table, Rows::Collected(vec![row]))),
        }
    });
}

/// AFTER UPDATE or DELETE, once a statement: carries out what its rows began.
#[pg_trigger]
fn finish_statement<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    if STATEMENTS.with_borrow(Vec::is_empty) && BEGUN.with_borrow(Vec::is_empty) {
        return Ok(None);
    }
    raise_unless_ok(with_session(|session| {
        let graph = Graph::current(session)?;
        let Some(table) = graph.table_or_root(relation(trigger)?) else {
            return Ok(());
        };
        BEGUN.with_borrow_mut(|begun| begun.retain(|one| one.0 != table.oid));
        let ended = STATEMENTS.with_borrow_mut(|statements| {
            let all = std::mem::take(statements);
            let (ended, others) = all.into_iter().partition(|one| one.has_ended(table));
            *statements = others;
            let ended: Vec<Statement> = ended;
            ended
        });
        ended
            .into_iter()
            .try_for_each(|statement| finish(session, &graph, table, statement.rows))
    }));
    Ok(None)
}

fn finish(
    session: &mut Session<'_, '_>,
    graph: &Rc<Graph>,
    table: &Table,
    rows: Rows,
) -> Outcome<()> {
    let (deletion, checked) = match rows {
        Rows::Marked { deletion, checked } => (deletion, checked),
        Rows::Collected(rows) => (mark(session, table, &rows)?, true),
    };
    let (roots, key) = roots_of(session, table, deletion)?;
    if roots == 0 {
        return Ok(());
    }
    if !checked {
        if !root_row::may_delete_all(session, table, deletion)? {
            return Err(Failure::MayNotDelete {
                table: table.shown.clone(),
            });
        }
    }
    // The rows of a converted DELETE are locked so already, but for those of such a table.
    if !checked || table.key_is_watched {
        lock(session, table, deletion)?;
    }
    record(session, table, deletion, key, None)?;
    cascade::carry_out(session, Rc::clone(graph), table.oid, roots, deletion)
}

/// Marks rows that their DELETE has locked.
fn mark(session: &mut Session<'_, '_>, table: &Table, rows: &[RowId]) -> Outcome<Uuid> {
    let deletion = new_deletion();
    let sql = format!(
        "UPDATE {rows} AS t SET deleted_at = pg_catalog.now(), deletion_id = $3
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS f (relation, row)
         WHERE t.ctid OPERATOR(pg_catalog.=) f.row AND t.tableoid OPERATOR(pg_catalog.=) f.relation",
        rows = table.rows(),
    );
    let [relations, addresses] = as_arguments(rows);
    let arguments: [DatumWithOid<'_>; 3] = [relations, addresses, deletion.into()];
    if session.write(table, &sql, &arguments)?.len() == rows.len() {
        return Ok(deletion);
    }
    Err(Failure::Prevented {
        table: table.shown.clone(),
    })
}

/// An UPDATE locks its rows against other writers, not against rows that come to refer to them.
fn lock(session: &mut Session<'_, '_>, table: &Table, deletion: Uuid) -> Outcome<()> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} AS t WHERE t.deletion_id = $1 ORDER BY {} FOR UPDATE) AS locked",
        table.rows(),
        table.key_columns("t"),
    );
    session.as_owner(table, &sql, &[deletion.into()])?;
    Ok(())
}
