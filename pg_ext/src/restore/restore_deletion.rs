//! Restore: undo of one deletion, exact or not at all; or, when asked, of all of it that has a place.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Value, json};

use crate::access::trust;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome, required};
use crate::model::on_conflict::OnConflict;
use crate::registry::deletion::{self, Deletion, State};
use crate::restore::archived_children;
use crate::restore::in_place::{self, Extent};
use crate::restore::parents::{self, Parents};
use crate::restore::report::{Report, add_to, line};
use crate::restore::restore_conflicts;
use crate::restore_archived::restore_archive::{self, Restored, What};
use crate::restore_archived::work::Root;
use crate::spi::session::{Session, with_session};

/// Makes live again exactly the rows that `deletion` removed, and says which:
/// `{"deletion_id", "restored": [{"table", "rows"}], "passed": [{"table", "rows", "deletion_id"}]}`.
/// Rows that another still-deleted parent removes as well pass to that parent's deletion. A second
/// call changes nothing and answers with empty lists.
///
/// `on_conflict` says what becomes of rows that would break a constraint or come back under a
/// deleted parent: `fail` restores nothing; `skip` leaves them, and the rows that refer to them,
/// in the deletion, and adds `"skipped": [{"table", "rows"}]` and `"conflicts"` to the answer. The
/// deletion then stays open, and a later call restores the rest. `parents` is `fail`, but deleted
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

fn run(session: &mut Session<'_, '_>, id: Uuid, on_conflict: OnConflict) -> Outcome<Value> {
    trust::name_deletion(session, id)?;
    if on_conflict != OnConflict::Parents {
        return without_parents(session, id, on_conflict);
    }
    let above = bring_parents(session, id)?;
    let mut answer = without_parents(session, id, on_conflict)?;
    parents::add_to(&mut answer, above);
    Ok(answer)
}

/// Restores parents that the deletion's rows lack, where one of both is kept in place. Whether the caller may restore the deletion itself is asked
/// next: if not, all this is undone.
fn bring_parents(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Vec<Value>> {
    let graph = cache::current(session)?;
    let mut parents = Parents::of(id);
    let mut lines = Vec::new();
    let in_place = !deletion::holding(session, &graph, &[id])?.is_empty();
    let deletion = Deletion::read(session, id, in_place)?;
    if deletion.is_none_or(|one| one.state != State::Deleted) {
        return Ok(lines);
    }
    if in_place {
        lines.extend(parents.bring_for_in_place(session, &graph, id, None)?);
    }
    if restore_archive::holds_rows(session, id)? {
        let what = What::Deletion(id, Root::InPlace);
        lines.extend(parents.bring_for_archived(session, what)?);
    }
    Ok(lines)
}

fn without_parents(
    session: &mut Session<'_, '_>,
    id: Uuid,
    on_conflict: OnConflict,
) -> Outcome<Value> {
    let graph = cache::current(session)?;
    if !restore_archive::concerns(session, id)? {
        let deletion = Deletion::authorised(session, &graph, id, true)?;
        return in_place::run(session, &graph, &deletion, on_conflict, Extent::Whole);
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
            let rest = in_place::run(session, &graph, &deletion, on_conflict, Extent::Beneath)?;
            add_to(&mut answer, &rest);
        }
    }
    Ok(answer)
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
    let root_in_place = deletion.root_in_place(graph).is_some();
    // A restore has brought the root back before, and skipped these.
    if !root_in_place && !restore_archive::holds_rows(session, id)? {
        if !deletion.may_delete_rows(session, graph)? {
            return Err(not_found());
        }
        return in_place::run(session, graph, &deletion, on_conflict, Extent::Whole);
    }
    if root_in_place {
        let deletion = Deletion::authorised(session, graph, id, true)?;
        let mut answer = in_place::run(session, graph, &deletion, on_conflict, Extent::Whole)?;
        if !restores_none(&answer, on_conflict) {
            let rest = restore_archive::run(session, id, on_conflict, Root::InPlace)?;
            add_to(&mut answer, &rest.answer);
        }
        return Ok(answer);
    }
    archived_children::restore(session, graph, &[id], |session, root| {
        archived_first(session, graph, &deletion, on_conflict, root)
    })
}

fn restores_none(answer: &Value, on_conflict: OnConflict) -> bool {
    let restored = answer.get("restored").and_then(Value::as_array);
    on_conflict == OnConflict::Skip && restored.is_none_or(Vec::is_empty)
}

/// Restores the rows in archives, then those in place.
fn archived_first(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
    on_conflict: OnConflict,
    root: Root,
) -> Outcome<Value> {
    let id = deletion.id;
    let restored = restore_archive::run(session, id, on_conflict, root);
    let mut restored =
        restored.or_else(|failure| with_those_in_place(session, graph, deletion, failure))?;
    if restores_none(&restored.answer, on_conflict) {
        let skipped = skipped_in_place(session, graph, id)?;
        add_to(&mut restored.answer, &json!({ "skipped": skipped }));
        return Ok(restored.answer);
    }
    let rest = in_place::run(session, graph, deletion, on_conflict, Extent::Whole)?;
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
    if deletion.can_be_restored()? {
        conflicts.extend(restore_conflicts::look(session, graph, deletion)?);
    }
    Err(Failure::RestoreConflicts { conflicts })
}
