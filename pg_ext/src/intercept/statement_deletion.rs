//! Deletions that a plain statement makes: a `DELETE` that the planner converted, one that only the
//! trigger met, or an `UPDATE … SET deleted_at`.
//!
//! A row trigger marks the rows, or collects them, as the statement goes over them; when it has
//! ended, a statement trigger makes one deletion of them all and carries it out.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};

use crate::access::target_row;
use crate::call::own_triggers::{self, Carrier};
use crate::call::trigger_call::{
    AfterChange, Answer, BeforeChange, BeforeDelete, BeforeUpdate, Call, Updated,
};
use crate::call::trigger_row::Row;
use crate::delete::cascade;
use crate::delete::record::{record, roots_of};
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::hold::in_force;
use crate::intercept::guard;
use crate::intercept::skip_triggers::only_ours_change_rows;
use crate::model::error::{Failure, Outcome};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::row_id::{RowId, as_arguments};
use crate::model::table::Table;
use crate::postgres::statement_stack::{self, Writes};
use crate::postgres::table_triggers::{name, triggers};
use crate::registry::deletion_group::{How, new_deletion};
use crate::registry::unregistered;
use crate::run_as::engine_write::EngineWrite;
use crate::run_as::role;
use crate::spi::session::{Session, with_session};

/// What a statement that still runs has deleted of one table.
struct Statement {
    table: pg_sys::Oid,
    /// How deep it is nested in others.
    depth: usize,
    subtransaction: pg_sys::SubTransactionId,
    rows: Rows,
}

enum Rows {
    /// Marked already with this deletion. Whether the rights to delete them have been checked, and whether they are locked as a DELETE locks
    /// them: a MERGE locks as for an UPDATE.
    Marked {
        deletion: Uuid,
        checked: bool,
        locked: bool,
    },
    /// Locked, and to be marked at the end.
    Collected(Vec<RowId>),
}

thread_local! {
    static STATEMENTS: RefCell<Vec<Statement>> = const { RefCell::new(Vec::new()) };
    static BEGUN: RefCell<Vec<Begun>> = const { RefCell::new(Vec::new()) };
}

/// What a statement that began before this library was loaded does to a partitioned table.
struct Begun {
    table: pg_sys::Oid,
    subtransaction: pg_sys::SubTransactionId,
    writes: Writes,
}

fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
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
        BEGUN.with_borrow_mut(|all| all.retain(|one| one.subtransaction < subtransaction));
    }
}

/// BEFORE UPDATE when `deleted_at` or `deletion_id` changes. A live row that gets a `deleted_at` is
/// deleted; a deleted one that gets another keeps its own; everything else is the engine's alone.
#[pg_extern]
fn protect_state(call: Call<'_, BeforeUpdate>) -> Result<Answer<'_>, ErrorReport> {
    Ok(Answer::row(protected(&call)?))
}

/// The row as it is to be written: with the marks that it gets, or as it is where the engine sets them.
fn protected<'call>(call: &Call<'call, BeforeUpdate>) -> Outcome<Row<'call>> {
    let Updated { old, new } = call.rows;
    if EngineWrite::is_to(call.relation) {
        return Ok(new);
    }
    let graph = cache::known()?;
    let Some(table) = graph.managed_or_root(call.relation) else {
        return Err(lost_registration(call.relation)?);
    };
    if EngineWrite::is_to(table.oid) {
        return Ok(new);
    }
    let columns = graph.marks_of(call.relation);
    let marks = columns.and_then(|columns| old.marks(columns).zip(new.marks(columns)));
    let (was, is) = marks.ok_or_else(|| table.lost_marks())?;
    match (was.are_null(), is.are_null()) {
        ([true, true], [false, true]) => {
            let deletion = join_statement(&graph, table, only_ours_change_rows(call.opened()))?;
            // SAFETY: reads a backend-local variable.
            let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
            Ok(is.set(now, deletion))
        }
        ([false, false], [false, false]) => was
            .read()
            .zip(is.read())
            .filter(|((_, old), (_, new))| old == new)
            .map(|((since, deletion), _)| is.set(since, deletion))
            .ok_or_else(|| written_by_hand(table)),
        _ => Err(written_by_hand(table)),
    }
}

/// Its rows would be marked without a deletion, or go for good.
fn lost_registration(relation: pg_sys::Oid) -> Outcome<Failure> {
    let table = unregistered::shown(relation)?;
    Ok(Failure::NotManaged { table })
}

fn written_by_hand(table: &Table) -> Failure {
    Failure::StateWrittenByHand {
        table: table.shown.clone(),
    }
}

/// The deletion of the statement that marks a row of `table`; made with its first row. `alone`: whether no trigger of the table's own may have set
/// the mark.
fn join_statement(graph: &Graph, table: &Table, alone: bool) -> Outcome<Uuid> {
    table.check_marks()?;
    if is_reached_by_inheritance(graph, table) {
        return Err(written_by_hand(table));
    }
    let writes = writes_to(graph, table).unwrap_or_default();
    // Where the statement updates the table as well and may mark rows so, whose row this is cannot be told.
    let checked = writes.converts && !writes.unchecked && (alone || !writes.updates);
    if !checked && table.on_plain_delete == Some(OnPlainDelete::Reject) {
        return Err(written_by_hand(table));
    }
    Ok(STATEMENTS.with_borrow_mut(|statements| {
        let known = statements.iter().find_map(|one| match one.rows {
            Rows::Marked {
                deletion,
                checked: same,
                ..
            } if one.is_of(table) && same == checked => Some(deletion),
            _ => None,
        });
        known.unwrap_or_else(|| {
            let deletion = new_deletion();
            let locked = checked && !writes.merges && !writes.updates;
            let rows = Rows::Marked {
                deletion,
                checked,
                locked,
            };
            statements.push(Statement::of(table, rows));
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
    let depth = statement_stack::depth();
    let known = STATEMENTS.with_borrow(|statements| {
        statements.iter().find_map(|one| match one.rows {
            Rows::Marked {
                deletion,
                checked: true,
                ..
            } if one.table == relation && one.depth == depth => Some(deletion),
            _ => None,
        })
    });
    Ok(known.map_or_else(|| begin_deletion(relation), Ok)?)
}

fn begin_deletion(relation: pg_sys::Oid) -> Outcome<Uuid> {
    let graph = cache::known()?;
    let Some(table) = graph.managed_or_root(relation) else {
        return Err(lost_registration(relation)?);
    };
    if writes_to(&graph, table).is_some_and(|writes| writes.converts && !writes.updates) {
        return join_statement(&graph, table, true);
    }
    Err(written_by_hand(table))
}

/// Whether the innermost statement is the one that makes this deletion. Those that its triggers run do not see its rows.
pub fn is_making(id: Uuid) -> bool {
    let depth = statement_stack::depth();
    STATEMENTS.with_borrow(|statements| {
        let made = |one: &Statement| {
            one.depth == depth
                && matches!(one.rows, Rows::Marked { deletion, .. } if deletion == id)
        };
        statements.iter().any(made)
    })
}

impl Statement {
    fn of(table: &Table, rows: Rows) -> Self {
        Self {
            table: table.oid,
            depth: statement_stack::depth(),
            subtransaction: current_subtransaction(),
            rows,
        }
    }

    /// Whether it is the statement now running, on this table. A trigger of the table's may run
    /// another one before the row it is fired for is written: that one is not to end this one.
    fn is_of(&self, table: &Table) -> bool {
        self.table == table.oid && self.depth == statement_stack::depth()
    }

    /// Whether a trigger that is fired after a statement on the table is fired after this one, too.
    /// The triggers of a foreign key's action wait for the statement that caused it; and a statement
    /// that began before this library was loaded (0) ends in it (1).
    fn has_ended(&self, table: &Table) -> bool {
        self.table == table.oid && (self.depth == 0 || self.depth >= statement_stack::depth())
    }
}

/// BEFORE DELETE where the table's answer is to convert, and the planner did not (the library was not
/// loaded yet, or the DELETE is part of a MERGE): keeps the row, to be marked at the end.
#[pg_extern]
fn convert_delete(call: Call<'_, BeforeDelete>) -> Result<Answer<'_>, ErrorReport> {
    decide(&call, |table, row| {
        if row.deletion().is_none() {
            collect(table, row.address());
        }
        Ok(false)
    })
}

/// BEFORE DELETE where the table's answer is to refuse.
#[pg_extern]
fn refuse_delete(call: Call<'_, BeforeDelete>) -> Result<Answer<'_>, ErrorReport> {
    decide(&call, |table, row| {
        // What is deleted already is passed over, as everywhere.
        if row.deletion().is_some() {
            Ok(false)
        } else {
            Err(plain_delete(table))
        }
    })
}

/// BEFORE DELETE where the table's answer is to allow: live rows go for good, deleted ones wait for purge.
#[pg_extern]
fn allow_delete(call: Call<'_, BeforeDelete>) -> Result<Answer<'_>, ErrorReport> {
    decide(&call, |table, row| {
        let is_live = row.deletion().is_none();
        if is_live {
            with_session(|session| {
                in_force::refuse_if_held(session, table, row)?;
                guard::refuse_if_declared(session, table, row)
            })?;
        }
        Ok(is_live)
    })
}

/// Lets the engine's own deletes pass, and rows that an UPDATE moves to another partition; asks
/// `answer` whether the others go. A foreign key's action that this would keep from a row is
/// refused: swallowing it would corrupt that key.
fn decide<'call>(
    call: &Call<'call, BeforeDelete>,
    answer: impl FnOnce(&Table, Row<'call>) -> Outcome<bool>,
) -> Result<Answer<'call>, ErrorReport> {
    Ok(if goes(call, answer)? {
        Answer::row(call.rows.old)
    } else {
        Answer::nothing()
    })
}

fn goes<'call>(
    call: &Call<'call, BeforeDelete>,
    answer: impl FnOnce(&Table, Row<'call>) -> Outcome<bool>,
) -> Outcome<bool> {
    if EngineWrite::is_to(call.relation) {
        return Ok(true);
    }
    let graph = cache::known()?;
    let Some(table) = graph.managed_or_root(call.relation) else {
        return Err(lost_registration(call.relation)?);
    };
    if EngineWrite::is_to(table.oid) || is_moved(&graph, table)? {
        return Ok(true);
    }
    table.check_marks()?;
    let row = call.rows.old;
    if table.on_plain_delete == Some(OnPlainDelete::Convert)
        && is_reached_by_inheritance(&graph, table)
    {
        return Err(plain_delete(table));
    }
    let is_action = role::in_foreign_key_action(statement_stack::reads_like_a_foreign_key_action());
    let is_deleted = row.deletion().is_some();
    if is_action && (table.on_plain_delete != Some(OnPlainDelete::Allow) || is_deleted) {
        return Err(plain_delete(table));
    }
    answer(table, row)
}

fn plain_delete(table: &Table) -> Failure {
    Failure::PlainDelete {
        table: table.shown.clone(),
    }
}

/// What the innermost statement does to the table or its partitions.
fn writes_to(graph: &Graph, table: &Table) -> Option<Writes> {
    statement_stack::current_writes(|oid| {
        graph
            .table_or_root(oid)
            .is_some_and(|root| root.oid == table.oid)
    })
}

/// Whether the statement names another table, which this one has come to inherit from: then nothing
/// tells of its end here.
fn is_reached_by_inheritance(graph: &Graph, table: &Table) -> bool {
    statement_stack::depth() > 0 && writes_to(graph, table).is_none()
}

/// Whether the row is deleted here because an UPDATE inserts it into another partition.
fn is_moved(graph: &Graph, table: &Table) -> Outcome<bool> {
    if !table.partitioned {
        return Ok(false);
    }
    let begun = || {
        let begun = BEGUN.with_borrow(|all| {
            let begun = all.iter().find(|one| one.table == table.oid);
            begun.map(|one| one.writes)
        });
        begun.filter(|_| statement_stack::depth() == 0)
    };
    let writes = writes_to(graph, table).or_else(begun).unwrap_or_default();
    let moves = writes.updates || writes.converts;
    if moves && writes.deletes && table.on_plain_delete == Some(OnPlainDelete::Convert) {
        return Err(Failure::MovesAndDeletes {
            table: table.shown.clone(),
        });
    }
    Ok(moves && !writes.deletes)
}

/// BEFORE UPDATE or DELETE of a partitioned table, once a statement.
#[pg_extern]
fn begin_statement(call: Call<'_, BeforeChange>) -> Result<Answer<'_>, ErrorReport> {
    if statement_stack::depth() == 0 {
        begin(&call)?;
    }
    Ok(Answer::nothing())
}

fn begin(call: &Call<'_, BeforeChange>) -> Outcome<()> {
    let graph = cache::known()?;
    let Some(table) = graph.table_or_root(call.relation) else {
        return Ok(());
    };
    let deletes = call.is_delete();
    BEGUN.with_borrow_mut(|begun| {
        if !begun.iter().any(|one| one.table == table.oid) {
            begun.push(Begun {
                table: table.oid,
                subtransaction: current_subtransaction(),
                writes: Writes::default(),
            });
        }
        for one in begun.iter_mut().filter(|one| one.table == table.oid) {
            one.writes.deletes |= deletes;
            one.writes.updates |= !deletes;
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
#[pg_extern]
fn finish_statement(call: Call<'_, AfterChange>) -> Result<Answer<'_>, ErrorReport> {
    if call.is_delete() {
        refuse_unanswered(&call)?;
    }
    if !STATEMENTS.with_borrow(Vec::is_empty) || !BEGUN.with_borrow(Vec::is_empty) {
        with_session(|session| finish_all(session, call.relation))?;
    }
    Ok(Answer::nothing())
}

/// Undoes a DELETE of a table that has lost the trigger which answers it, where the planner did not refuse it.
fn refuse_unanswered(call: &Call<'_, AfterChange>) -> Outcome<()> {
    let answers = |trigger: &pg_sys::Trigger| {
        own_triggers::named(name(trigger))
            .is_some_and(|own| matches!(own.carrier, Carrier::OnPlainDelete(_)))
    };
    if EngineWrite::is_to(call.relation) || triggers(call.opened()).iter().any(answers) {
        return Ok(());
    }
    let graph = cache::known()?;
    match graph.managed_or_root(call.relation) {
        Some(table) if !EngineWrite::is_to(table.oid) => Err(Failure::Unguarded {
            table: table.shown.clone(),
        }),
        _ => Ok(()),
    }
}

fn finish_all(session: &mut Session<'_, '_>, relation: pg_sys::Oid) -> Outcome<()> {
    let graph = cache::current(session)?;
    let Some(table) = graph.table_or_root(relation) else {
        return Ok(());
    };
    BEGUN.with_borrow_mut(|begun| begun.retain(|one| one.table != table.oid));
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
}

fn finish(
    session: &mut Session<'_, '_>,
    graph: &Rc<Graph>,
    table: &Table,
    rows: Rows,
) -> Outcome<()> {
    let (deletion, checked, locked) = match rows {
        Rows::Marked {
            deletion,
            checked,
            locked,
        } => (deletion, checked, locked),
        Rows::Collected(rows) => {
            let rows = once(graph, table, rows)?;
            (mark(session, table, &rows)?, true, true)
        }
    };
    let (roots, key) = roots_of(session, table, deletion)?;
    if roots == 0 {
        return Ok(());
    }
    if !checked && !target_row::may_delete_marked(session, table, deletion)? {
        return Err(Failure::MayNotDelete {
            table: table.shown.clone(),
        });
    }
    // The rows of a converted DELETE are locked so already, but for those of such a table.
    if !locked || table.key_is_watched {
        lock(session, table, deletion)?;
    }
    record(table, deletion, key, None, How::Statement)?;
    cascade::carry_out(session, Rc::clone(graph), table.oid, roots, deletion)
}

/// The rows, each once. A join may meet a row again, which stays until the end; a MERGE may not.
fn once(graph: &Graph, table: &Table, rows: Vec<RowId>) -> Outcome<Vec<RowId>> {
    let count = rows.len();
    let rows: BTreeSet<RowId> = rows.into_iter().collect();
    if rows.len() < count && writes_to(graph, table).is_some_and(|writes| writes.merges) {
        return Err(Failure::MergedTwice);
    }
    Ok(rows.into_iter().collect())
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
