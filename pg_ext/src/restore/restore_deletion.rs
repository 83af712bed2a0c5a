//! Restore: undo of one deletion, exact or not at all; or, when asked, of all of it that has a place.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, PgSqlErrorCode, Uuid};
use serde_json::{Value, json};

use crate::access::caller::Caller;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::conflict::Conflict;
use crate::model::error::{Failure, Outcome, required};
use crate::model::on_conflict::OnConflict;
use crate::model::row_id::{RowId, is_among};
use crate::model::row_set::RowSet;
use crate::model::sql::join;
use crate::model::table::Table;
use crate::postgres::subtransaction::{Caught, Raised, attempt_unless};
use crate::registry::deletion::{self, Deletion, State};
use crate::restore::beneath_archived;
use crate::restore::find_conflicts::{self, Parents};
use crate::restore::handed_over::HandedOver;
use crate::restore::set_null_undo;
use crate::restore::skip_conflicts::{self, Skipped};
use crate::restore::survey::{Lock, Survey, live_references, survey};
use crate::restore_archived::restore_archive::{self, Restored};
use crate::restore_archived::work::Root;
use crate::spi::session::{Session, with_reading_session, with_session};

/// Makes live again exactly the rows that `deletion` removed, and says which:
/// `{"deletion_id", "restored": [{"table", "rows"}], "passed": [{"table", "rows", "deletion_id"}]}`.
/// Rows that another still-deleted parent removes as well pass to that parent's deletion. A second
/// call changes nothing and answers with empty lists.
///
/// `on_conflict` says what becomes of rows that would break a constraint or come back under a
/// deleted parent: `fail` restores nothing; `skip` leaves them, and the rows that refer to them,
/// in the deletion, and adds `"skipped": [{"table", "rows"}]` and `"conflicts"` to the answer. The
/// deletion then stays open, and a later call restores the rest. `parents` is `fail`, but archived
/// rows that the restored ones refer to come back with them, where the caller may restore those.
///
/// # Errors
/// 23000 with every conflict in DETAIL as a JSON array; P0002 when there is no such deletion; 55000
/// when its purge has begun; 42501 without the DELETE privilege; 40001 to be retried.
#[pg_extern]
fn restore(
    deletion: Option<Uuid>,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<Option<JsonB>, ErrorReport> {
    let on_conflict = OnConflict::named(required(on_conflict, "on_conflict")?)?;
    let Some(deletion) = deletion else {
        return Ok(None);
    };
    let report = with_session(|session| run(session, deletion, on_conflict))?;
    Ok(Some(JsonB(report)))
}

/// Every conflict that `restore(deletion)` would meet now; none when it would succeed. `key`,
/// `key_values` and `holder` are null where the caller could not read the row himself.
///
/// # Errors
/// As `restore`, but for 23000.
#[pg_extern]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns from the type as it is written"
)]
fn restore_conflicts(
    deletion: Uuid,
) -> Result<
    TableIterator<
        'static,
        (
            name!(kind, String),
            name!(table_name, String),
            name!(key, Option<JsonB>),
            name!(constraint_name, Option<String>),
            name!(key_values, Option<JsonB>),
            name!(holder, Option<JsonB>),
        ),
    >,
    ErrorReport,
> {
    let readable = |value: Value| (!value.is_null()).then_some(JsonB(value));
    let conflicts = with_reading_session(|session| preview(session, deletion))?;
    Ok(TableIterator::new(conflicts.into_iter().map(
        move |conflict| {
            (
                conflict.kind.to_owned(),
                conflict.table,
                readable(conflict.key),
                conflict.constraint,
                readable(conflict.values),
                readable(conflict.holder),
            )
        },
    )))
}

fn preview(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Vec<Conflict>> {
    let graph = cache::current(session)?;
    if restore_archive::concerns(session, id)? {
        return look_at_both(session, &graph, id);
    }
    let deletion = Deletion::authorised(session, &graph, id, false)?;
    if !still_deleted(&deletion)? {
        return Ok(Vec::new());
    }
    look(session, &graph, &deletion)
}

/// The conflicts of a deletion with archived rows. Those of rows in place are looked for as if their archived parents were there.
fn look_at_both(session: &mut Session<'_, '_>, graph: &Graph, id: Uuid) -> Outcome<Vec<Conflict>> {
    if deletion::holding(session, graph, &[id])?.is_empty() {
        return restore_archive::preview(session, id, Root::Archived);
    }
    let not_found = || Failure::DeletionNotFound {
        deletion: id.to_string(),
    };
    let mut deletion = Deletion::read(session, id, false)?.ok_or_else(not_found)?;
    if deletion.state == State::Restored && deletion.same_tenant {
        return Ok(Vec::new());
    }
    let mut conflicts = if root_in_place(graph, &deletion).is_some() {
        deletion = Deletion::authorised(session, graph, id, false)?;
        restore_archive::preview(session, id, Root::InPlace)?
    } else if restore_archive::holds_rows(session, id)? {
        restore_archive::preview(session, id, Root::Archived)?
    } else if deletion.may_delete_rows(session, graph)? {
        Vec::new()
    } else {
        return Err(not_found());
    };
    if still_deleted(&deletion)? {
        conflicts.extend(look(session, graph, &deletion)?);
    }
    Ok(conflicts)
}

/// The conflicts of the rows that are kept in place.
fn look(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
) -> Outcome<Vec<Conflict>> {
    let id = deletion.id;
    let tables = deletion::holding(session, graph, &[id])?;
    let surveyed = survey(session, graph, &tables, id, Lock::Nothing)?;
    let handed_over = find_handed_over(session, graph, &tables, deletion, surveyed.parents)?;
    let found = find_conflicts::find_all(
        session,
        graph,
        &tables,
        id,
        &handed_over.rows(),
        surveyed.parents,
    )?;
    find_conflicts::shown(session, graph, found)
}

/// How often a race that PostgreSQL decides is looked at anew before it is reported as it is.
const ATTEMPTS: usize = 3;

fn run(session: &mut Session<'_, '_>, id: Uuid, on_conflict: OnConflict) -> Outcome<Value> {
    let graph = cache::current(session)?;
    if !restore_archive::concerns(session, id)? {
        let deletion = Deletion::authorised(session, &graph, id, true)?;
        return run_in_place(session, &graph, &deletion, on_conflict, Extent::Whole);
    }
    if deletion::holding(session, &graph, &[id])?.is_empty() {
        let restored = restore_archive::run(session, id, on_conflict, Root::Archived)?;
        return with_beneath(session, restored, Some(id), on_conflict);
    }
    run_both(session, &graph, id, on_conflict)
}

/// Adds to a restore of archived rows what hung on them and is kept in place, of all deletions that they came back from but one.
pub fn with_beneath(
    session: &mut Session<'_, '_>,
    restored: Restored,
    but_for: Option<Uuid>,
    on_conflict: OnConflict,
) -> Outcome<Value> {
    let Restored {
        mut answer,
        mut from,
    } = restored;
    let graph = cache::current(session)?;
    // In the order of time, as whoever else locks several of them.
    from.sort_by_key(|id| *id.as_bytes());
    for id in from.into_iter().filter(|id| Some(*id) != but_for) {
        if deletion::holding(session, &graph, &[id])?.is_empty() {
            continue;
        }
        if let Some(deletion) = Deletion::read(session, id, true)? {
            let rest = run_in_place(session, &graph, &deletion, on_conflict, Extent::Beneath)?;
            add_to(&mut answer, &rest);
        }
    }
    Ok(answer)
}

/// Adds to one answer the rows of another, which refer to its own: they come first, as in a deletion of one kind.
fn add_to(answer: &mut Value, rest: &Value) {
    for list in ["restored", "passed", "skipped", "superseded", "conflicts"] {
        let Some(more) = rest.get(list).and_then(Value::as_array) else {
            continue;
        };
        let known = answer.get(list).and_then(Value::as_array);
        let lines = more.iter().chain(known.into_iter().flatten()).cloned();
        answer[list] = lines.collect::<Vec<Value>>().into();
    }
}

/// Which of a deletion's rows in place are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All.
    Whole,
    /// Those that hang on rows that came back from an archive.
    Beneath,
}

/// A deletion with rows in archives and in place: those of its root's kind come first, since the others refer to them.
fn run_both(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    id: Uuid,
    on_conflict: OnConflict,
) -> Outcome<Value> {
    let not_found = || Failure::DeletionNotFound {
        deletion: id.to_string(),
    };
    let deletion = Deletion::read(session, id, true)?.ok_or_else(not_found)?;
    // No row of it is left to ask about the caller; its tenant is.
    if deletion.state == State::Restored && deletion.same_tenant {
        return Ok(Report::default().into_json(&deletion, on_conflict, Vec::new()));
    }
    let restores_none = |answer: &Value| {
        let restored = answer.get("restored").and_then(Value::as_array);
        on_conflict == OnConflict::Skip && restored.is_none_or(Vec::is_empty)
    };
    let root_in_place = graph
        .table(deletion.root_table)
        .is_some_and(|root| root.managed);
    // A restore has brought the root back before, and skipped these.
    if !root_in_place && !restore_archive::holds_rows(session, id)? {
        if !deletion.may_delete_rows(session, graph)? {
            return Err(not_found());
        }
        return run_in_place(session, graph, &deletion, on_conflict, Extent::Whole);
    }
    if root_in_place {
        let deletion = Deletion::authorised(session, graph, id, true)?;
        let mut answer = run_in_place(session, graph, &deletion, on_conflict, Extent::Whole)?;
        if !restores_none(&answer) {
            let rest = restore_archive::run(session, id, on_conflict, Root::InPlace)?;
            add_to(&mut answer, &rest.answer);
        }
        return Ok(answer);
    }
    let restored = restore_archive::run(session, id, on_conflict, Root::Archived);
    let mut restored =
        restored.or_else(|failure| with_those_in_place(session, graph, &deletion, failure))?;
    if restores_none(&restored.answer) {
        let skipped = skipped_in_place(session, graph, id)?;
        add_to(&mut restored.answer, &json!({ "skipped": skipped }));
        return Ok(restored.answer);
    }
    let rest = run_in_place(session, graph, &deletion, on_conflict, Extent::Whole)?;
    add_to(&mut restored.answer, &rest);
    with_beneath(session, restored, Some(id), on_conflict)
}

/// The rows in place of a deletion that is skipped as a whole, by table.
fn skipped_in_place(session: &mut Session<'_, '_>, graph: &Graph, id: Uuid) -> Outcome<Vec<Value>> {
    let counts = session.registry(
        "SELECT relation::oid, row_count - purged FROM keepsake.deletion_table WHERE deletion_id = $1 ORDER BY relation::oid",
        &[id.into()],
    )?;
    let mut lines = Vec::new();
    for row in counts {
        let table = row.get(1)?.and_then(|oid| graph.table(oid));
        if let Some(table) = table.filter(|table| table.managed) {
            lines.extend(line(&table.shown, row.get(2)?.unwrap_or(0)));
        }
    }
    Ok(lines)
}

/// Adds to the conflicts of archived rows those that the deletion's rows in place would meet: the caller is told of all at once.
fn with_those_in_place(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
    failure: Failure,
) -> Outcome<Restored> {
    let Failure::RestoreConflicts { mut conflicts } = failure else {
        return Err(failure);
    };
    if still_deleted(deletion)? {
        conflicts.extend(look(session, graph, deletion)?);
    }
    Err(Failure::RestoreConflicts { conflicts })
}

/// Restores the rows that are kept in place, for a caller who may.
fn run_in_place(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
    on_conflict: OnConflict,
    extent: Extent,
) -> Outcome<Value> {
    if !still_deleted(deletion)? {
        return Ok(Report::default().into_json(deletion, on_conflict, Vec::new()));
    }
    let tables = deletion::holding(session, graph, &[deletion.id])?;
    let mut raced = None;
    // A lock costs a WAL record for each row, and what it guards against is rare. A row that moves to
    // another partition passes the guard.
    let moves = tables.iter().flatten().any(|table| table.partitioned);
    let lock = on_conflict == OnConflict::Skip || extent == Extent::Beneath || moves;
    for _ in 0..ATTEMPTS {
        // Somebody may take a place between our look and our write: then PostgreSQL refuses, all is
        // undone, and the next look says who.
        let tried = attempt_unless(passes, || {
            bring_back(
                session,
                graph,
                &tables,
                deletion,
                (on_conflict, extent),
                lock,
            )
        });
        match tried {
            Ok(answer) => return Ok(answer),
            Err(Caught::Failure(failure)) => return Err(failure),
            Err(Caught::Error {
                code,
                table,
                constraint,
                ..
            }) => {
                let table = table.unwrap_or_default();
                raced = Some(Conflict::from_error(code, table, constraint));
            }
        }
        if session.keeps_its_snapshot() {
            break;
        }
    }
    Err(Failure::RestoreConflicts {
        conflicts: raced.into_iter().collect(),
    })
}

/// Whether an error is none of a conflict's.
fn passes(raised: Raised) -> bool {
    !matches!(
        raised.code,
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
            | PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION
            | PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
    )
}

/// Looks and writes, in one subtransaction: locks of the surrounding one would turn into a
/// multixact on each row. With `lock`, or where some rows stay, the rows are locked before they are
/// looked at: those are told apart by their addresses, which an UPDATE changes. Else nobody can make
/// them refer to other parents meanwhile: that takes a lock of the deletion (see `guard`).
fn bring_back(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: &Deletion,
    (on_conflict, extent): (OnConflict, Extent),
    lock: bool,
) -> Outcome<Value> {
    let id = deletion.id;
    let mut surveyed = survey(session, graph, tables, id, Lock::of(lock))?;
    if surveyed.parents.deleted && !lock {
        surveyed = survey(session, graph, tables, id, Lock::RowsAndParents)?;
    }
    let handed_over = lock_holders(session, graph, tables, deletion, surveyed.parents)?;
    let mut staying = handed_over.rows();
    let left = match extent {
        Extent::Whole => RowSet::default(),
        Extent::Beneath => beneath_archived::elsewhere(session, graph, tables, id, &staying)?,
    };
    staying.extend(&left);
    let parents = surveyed.parents;
    let mut skipped = match on_conflict {
        OnConflict::Skip => skip_conflicts::find(session, graph, tables, id, &staying, parents)?,
        OnConflict::Fail | OnConflict::Parents => {
            let found = find_conflicts::find_all(session, graph, tables, id, &staying, parents)?;
            if !found.is_empty() {
                let conflicts = find_conflicts::shown(session, graph, found)?;
                return Err(Failure::RestoreConflicts { conflicts });
            }
            Skipped::default()
        }
    };
    let conflicts = find_conflicts::shown(session, graph, skipped.conflicts)?;
    if skips_root(session, graph, deletion, &skipped.rows)? {
        let report = Report::nothing(&surveyed);
        return Ok(report.into_json(deletion, on_conflict, conflicts));
    }
    refuse_unseen_parents(session, graph, tables, id, &[&staying, &skipped.rows])?;
    let reported = skipped.rows.clone();
    skipped.rows.extend(&left);
    let mut revived = Vec::new();
    // Parents first: a trigger of the children's may want to find them.
    for group in tables.iter().rev() {
        for table in group.iter().rev() {
            let passed = hand_over(session, table, id, &handed_over)?;
            let left = skipped.rows.count(table.oid);
            let due =
                surveyed.rows_of(table) - passed.iter().map(|(_, rows)| rows).sum::<i64>() - left;
            revived.push((*table, due, passed));
        }
        let due: Vec<(&Table, i64)> = revived
            .iter()
            .rev()
            .take(group.len())
            .map(|(table, due, ..)| (*table, *due))
            .collect();
        revive(session, graph, &due, id, &skipped.rows)?;
    }
    let mut report = Report::default();
    for (table, due, passed) in revived.into_iter().rev() {
        report.note(table, due, passed, reported.count(table.oid));
    }
    set_null_undo::put_back(session, graph, id)?;
    resolve(session, tables, id, &skipped.rows)?;
    Ok(report.into_json(deletion, on_conflict, conflicts))
}

/// Writes down what became of the deletion: restored, or what is left of it.
fn resolve(
    session: &mut Session<'_, '_>,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    skipped: &RowSet,
) -> Outcome<()> {
    if skipped.is_empty() && !restore_archive::holds_rows(session, deletion)? {
        let caller = Caller::of(session)?;
        session.registry(
            "UPDATE keepsake.deletion SET state = 'restored', settled_at = now(),
                 settled_role = $2::text::name, settled_session_role = $3::text::name WHERE id = $1",
            &[
                deletion.into(),
                caller.role.into(),
                caller.session_role.into(),
            ],
        )?;
        return Ok(());
    }
    for table in tables.iter().flatten() {
        let left = skipped.count(table.oid);
        session.registry(
            "UPDATE keepsake.deletion_table SET row_count = purged + $3 WHERE deletion_id = $1 AND relation = $2",
            &[deletion.into(), table.oid.into(), left.into()],
        )?;
    }
    Ok(())
}

/// What a restore did, table by table.
#[derive(Default)]
struct Report {
    restored: Vec<Value>,
    passed: Vec<Value>,
    skipped: Vec<Value>,
}

impl Report {
    /// Of a restore that left every row where it was.
    fn nothing(surveyed: &Survey) -> Self {
        let mut report = Self::default();
        for (_, table, rows) in surveyed.rows.iter().rev() {
            report.skipped.extend(line(table, *rows));
        }
        report
    }

    fn note(&mut self, table: &Table, restored: i64, passed: Vec<(Uuid, i64)>, skipped: i64) {
        self.restored.extend(line(&table.shown, restored));
        self.skipped.extend(line(&table.shown, skipped));
        self.passed.extend(passed.into_iter().map(|(holder, rows)| {
            json!({ "table": table.shown, "rows": rows, "deletion_id": holder.to_string() })
        }));
    }

    fn into_json(
        self,
        deletion: &Deletion,
        on_conflict: OnConflict,
        conflicts: Vec<Conflict>,
    ) -> Value {
        let mut answer = json!({
            "deletion_id": deletion.id.to_string(), "restored": self.restored, "passed": self.passed,
        });
        if on_conflict == OnConflict::Skip {
            answer["skipped"] = self.skipped.into();
            answer["conflicts"] = Conflict::to_json(&conflicts);
        }
        answer
    }
}

fn line(table: &str, rows: i64) -> Option<Value> {
    (rows > 0).then(|| json!({ "table": table, "rows": rows }))
}

fn still_deleted(deletion: &Deletion) -> Outcome<bool> {
    match deletion.state {
        State::Deleted => Ok(true),
        State::Restored => Ok(false),
        State::Purging | State::Purged => Err(Failure::Purged {
            deletion: deletion.id.to_string(),
        }),
    }
}

/// Finds the rows to hand over and locks the deletions they would pass to, so that none of those is
/// restored or purged between this look and the passing; looks again until the two agree.
fn lock_holders(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: &Deletion,
    parents: Parents,
) -> Outcome<HandedOver> {
    let mut handed_over = find_handed_over(session, graph, tables, deletion, parents)?;
    loop {
        let holders = handed_over.deletions();
        if holders.is_empty() {
            return Ok(handed_over);
        }
        session.registry(
            "SELECT 1 FROM keepsake.deletion WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
            &[holders.clone().into()],
        )?;
        handed_over = find_handed_over(session, graph, tables, deletion, parents)?;
        if handed_over
            .deletions()
            .iter()
            .all(|holder| holders.contains(holder))
        {
            return Ok(handed_over);
        }
    }
}

fn find_handed_over(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: &Deletion,
    parents: Parents,
) -> Outcome<HandedOver> {
    if !parents.deleted {
        return Ok(HandedOver::default());
    }
    let root = root_in_place(graph, deletion);
    let is_root = root.and_then(|_| deletion.is_root());
    let root = root.zip(is_root.as_deref());
    HandedOver::find(session, graph, tables, root, deletion.id)
}

/// The table of the root, unless its rows are archived.
fn root_in_place<'graph>(graph: &'graph Graph, deletion: &Deletion) -> Option<&'graph Table> {
    graph.table(deletion.root_table).filter(|root| root.managed)
}

/// Whether the root is among the rows to skip, or every root, where there are several.
fn skips_root(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
    skipped: &RowSet,
) -> Outcome<bool> {
    let Some(root) = root_in_place(graph, deletion).filter(|root| skipped.count(root.oid) > 0)
    else {
        return Ok(false);
    };
    let sql = format!(
        "SELECT t.tableoid, t.ctid FROM {} AS t WHERE t.deletion_id = $1 AND {}",
        root.rows(),
        deletion.is_root().unwrap_or_else(|| "true".into()),
    );
    let mut found = false;
    for row in session.as_owner(root, &sql, &[deletion.id.into()])? {
        found = true;
        if let Some(row) = RowId::read(&row, 1)?
            && !skipped.contains(root.oid, row)
        {
            return Ok(false);
        }
    }
    Ok(found)
}

/// Under an old snapshot a parent may have been deleted unseen. The newest one shows it, and the
/// transaction has to be retried.
fn refuse_unseen_parents(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    staying: &[&RowSet; 2],
) -> Outcome<()> {
    if !session.keeps_its_snapshot() {
        return Ok(());
    }
    for child in tables.iter().flatten() {
        for (reference, parent) in live_references(graph, child)? {
            let sql = format!(
                "SELECT 1 FROM {child} AS c JOIN {parent} AS p ON {joins}
                 WHERE c.deletion_id OPERATOR(pg_catalog.=) $1{handed_over}{skipped}
                   AND p.deleted_at IS NOT NULL AND p.deletion_id IS DISTINCT FROM $1 LIMIT 1",
                child = child.rows(),
                parent = parent.rows(),
                joins = reference.joins("c", "p"),
                handed_over = staying[0].excluding(child.oid, "c"),
                skipped = staying[1].excluding(child.oid, "c"),
            );
            if session.exists_now((child.oid, child.owner), &sql, &[deletion.into()])? {
                return Err(Failure::ConcurrentParent {
                    table: child.shown.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Hands the rows of `table` over to the deletions that hold them, with their time, so that they
/// expire together.
fn hand_over(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
    handed_over: &HandedOver,
) -> Outcome<Vec<(Uuid, i64)>> {
    let mut passed = Vec::new();
    for (holder, rows) in handed_over.by_deletion(table.oid) {
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let since: Option<TimestampWithTimeZone> = session
            .registry(
                "SELECT deleted_at FROM keepsake.deletion WHERE id = $1",
                &[holder.into()],
            )?
            .first()
            .get_one()?;
        let sql = format!(
            "UPDATE {} AS t SET deletion_id = $2, deleted_at = coalesce($3, t.deleted_at)
             WHERE t.deletion_id OPERATOR(pg_catalog.=) $1 AND {}",
            table.rows(),
            is_among(&rows, "t")
        );
        let args = [deletion.into(), holder.into(), since.into()];
        let changed = session.write(table, &sql, &args)?.len();
        all_changed(table, changed, count)?;
        session.registry(
            "WITH given AS (
                 UPDATE keepsake.deletion_table SET row_count = row_count - $4
                 WHERE deletion_id = $1 AND relation = $3)
             INSERT INTO keepsake.deletion_table (deletion_id, relation, row_count) VALUES ($2, $3, $4)
             ON CONFLICT (deletion_id, relation) DO UPDATE SET row_count = deletion_table.row_count + $4",
            &[deletion.into(), holder.into(), table.oid.into(), count.into()],
        )?;
        passed.push((holder, count));
    }
    Ok(passed)
}

/// Makes the rows of a group of tables live that neither passed nor are skipped: as many as are due of each. Where tables refer to each
/// other and have triggers that look at a row before it is live, level by level.
fn revive(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    due: &[(&Table, i64)],
    deletion: Uuid,
    skipped: &RowSet,
) -> Outcome<()> {
    let group: Vec<&Table> = due.iter().map(|(table, _)| *table).collect();
    let mut changed = vec![0; due.len()];
    if graph.is_cycle(&group) && group.iter().any(|table| table.may_prevent_update) {
        loop {
            let mut grew = false;
            for ((table, _), changed) in due.iter().zip(&mut changed) {
                let beneath_none = beneath_none(graph, table);
                let rows = revive_rows(session, table, deletion, skipped, &beneath_none)?;
                *changed += rows;
                grew |= rows > 0;
            }
            if !grew {
                break;
            }
        }
    }
    for ((table, due), mut changed) in due.iter().zip(changed) {
        changed += revive_rows(session, table, deletion, skipped, "")?;
        all_changed(table, changed, *due)?;
        if table.may_prevent_update {
            let left = format!(
                "SELECT count(*) FROM {} AS t WHERE t.deletion_id = $1",
                table.rows()
            );
            let left: Option<i64> = session
                .as_owner(table, &left, &[deletion.into()])?
                .first()
                .get_one()?;
            let left = usize::try_from(left.unwrap_or(0)).unwrap_or(usize::MAX);
            all_changed(table, left, skipped.count(table.oid))?;
        }
    }
    Ok(())
}

fn revive_rows(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
    skipped: &RowSet,
    which: &str,
) -> Outcome<usize> {
    let sql = format!(
        "UPDATE {} AS t SET deleted_at = NULL, deletion_id = NULL
         WHERE t.deletion_id OPERATOR(pg_catalog.=) $1{}{which}",
        table.rows(),
        skipped.excluding(table.oid, "t")
    );
    Ok(session.write(table, &sql, &[deletion.into()])?.len())
}

/// The condition that row `t` has no parent in the deletion, but for itself.
fn beneath_none(graph: &Graph, table: &Table) -> String {
    let references = graph
        .references_of(table.oid)
        .filter(|(reference, _)| !reference.lets_go(table));
    let terms = references.map(|(reference, parent)| {
        format!(
            " AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {joins} AND p.deletion_id OPERATOR(pg_catalog.=) $1
                  AND NOT (p.tableoid OPERATOR(pg_catalog.=) t.tableoid AND p.ctid OPERATOR(pg_catalog.=) t.ctid))",
            parent = parent.rows(),
            joins = reference.joins_by_parent_key("t", "p"),
        )
    });
    join(terms, "")
}

/// A trigger may have kept rows, or their marks, from the engine.
fn all_changed(table: &Table, changed: usize, due: i64) -> Outcome<()> {
    if i64::try_from(changed) == Ok(due) {
        return Ok(());
    }
    Err(Failure::Prevented {
        table: table.shown.clone(),
    })
}
