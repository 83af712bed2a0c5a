//! Restores rows that are kept in place: looks for all that stands in their way, then writes.

use pgrx::{PgSqlErrorCode, Uuid};
use serde_json::Value;

use crate::access::caller::Caller;
use crate::graph::reference_graph::Graph;
use crate::model::conflict::Conflict;
use crate::model::error::{Failure, Outcome};
use crate::model::on_conflict::OnConflict;
use crate::model::row_id::RowId;
use crate::model::row_set::RowSet;
use crate::model::table::Table;
use crate::postgres::subtransaction::{Caught, Raised, attempt_unless};
use crate::registry::deletion::{self, Deletion};
use crate::restore::beneath_archived;
use crate::restore::find_conflicts;
use crate::restore::hand_over::{hand_over, lock_holders};
use crate::restore::report::Report;
use crate::restore::revive::revive;
use crate::restore::set_null_undo;
use crate::restore::skip_conflicts::{self, Skipped};
use crate::restore::survey::{Lock, live_references, survey};
use crate::restore_archived::restore_archive;
use crate::spi::session::Session;

/// Which of a deletion's rows in place are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Whole,
    /// Those that hang on rows that came back from an archive.
    Beneath,
}

/// Of a deletion that holds no more rows than this the plans are kept: they take longer to make than to run.
const FEW: i64 = 1_000;

/// How often a race that PostgreSQL decides is looked at anew before it is reported as it is.
const ATTEMPTS: usize = 3;

/// Restores the rows that are kept in place, for a caller who may.
pub fn run(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
    on_conflict: OnConflict,
    extent: Extent,
) -> Outcome<Value> {
    if !deletion.can_be_restored()? {
        return Ok(Report::default().into_json(deletion, on_conflict, Vec::new()));
    }
    let tables = deletion::holding(session, graph, &[deletion.id])?;
    let mut raced = None;
    let few = deletion::rows_of(session, deletion.id)? <= FEW;
    // A lock costs a WAL record for each row, and what it guards against is rare. A row that moves to
    // another partition passes the guard.
    let moves = tables.iter().flatten().any(|table| table.partitioned);
    let lock = on_conflict == OnConflict::Skip || extent == Extent::Beneath || moves;
    for _ in 0..ATTEMPTS {
        // Somebody may take a place between our look and our write: then PostgreSQL refuses, all is
        // undone, and the next look says who.
        session.keep_plans(few);
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
        session.keep_plans(false);
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
    let parents = surveyed.parents;
    let some_may_stay = parents.deleted || parents.missing || extent == Extent::Beneath;
    if some_may_stay || on_conflict == OnConflict::Skip {
        // The statements name the rows that stay, so each is another one.
        session.keep_plans(false);
    }
    let handed_over = lock_holders(session, graph, tables, deletion, parents)?;
    let mut staying = handed_over.rows();
    let left = match extent {
        Extent::Whole => RowSet::default(),
        Extent::Beneath => beneath_archived::elsewhere(session, graph, tables, id, &staying)?,
    };
    staying.extend(&left);
    let mut skipped = match on_conflict {
        OnConflict::Skip => skip_conflicts::find(session, graph, tables, id, &staying, parents)?,
        OnConflict::Fail | OnConflict::Parents => {
            let found = find_conflicts::find_all(session, graph, tables, id, &staying, parents)?;
            if !found.is_empty() {
                session.keep_plans(false);
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
        session.registry_kept(
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

/// Whether the root is among the rows to skip, or every root, where there are several.
fn skips_root(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
    skipped: &RowSet,
) -> Outcome<bool> {
    let Some(root) = deletion
        .root_in_place(graph)
        .filter(|root| skipped.count(root.oid) > 0)
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
