//! The conflicts that a restore would meet, without restoring.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::Value;

use crate::access::trust;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::conflict::Conflict;
use crate::model::error::{Failure, Outcome};
use crate::registry::deletion::{self, Deletion, State};
use crate::restore::archived_children;
use crate::restore::find_conflicts;
use crate::restore::hand_over;
use crate::restore::survey::{Lock, survey};
use crate::restore_archived::restore_archive;
use crate::restore_archived::work::Root;
use crate::spi::session::{Session, with_reading_session};

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
    trust::name_deletion(session, id)?;
    let graph = cache::current(session)?;
    if restore_archive::concerns(session, id)? {
        return look_at_both(session, &graph, id);
    }
    let deletion = Deletion::authorised(session, &graph, id, false)?;
    if !deletion.can_be_restored()? {
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
    let mut conflicts = if deletion.root_in_place(graph).is_some() {
        deletion = Deletion::authorised(session, graph, id, false)?;
        restore_archive::preview(session, id, Root::InPlace)?
    } else if restore_archive::holds_rows(session, id)? {
        let root = archived_root(session, graph, &deletion)?;
        restore_archive::preview(session, id, root)?
    } else if deletion.may_delete_rows(session, graph)? {
        Vec::new()
    } else {
        return Err(not_found());
    };
    if deletion.can_be_restored()? {
        conflicts.extend(look(session, graph, &deletion)?);
    }
    Ok(conflicts)
}

/// Whether the rows in archives can count on those in place that come back next: none of these passes to another deletion.
fn archived_root(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
) -> Outcome<Root> {
    let tables = deletion::holding(session, graph, &[deletion.id])?;
    if !archived_children::are_possible(graph, &tables) {
        return Ok(Root::Archived);
    }
    let surveyed = survey(session, graph, &tables, deletion.id, Lock::Nothing)?;
    let parents = surveyed.parents;
    let passing = hand_over::find_handed_over(session, graph, &tables, deletion, parents)?;
    Ok(if passing.rows().is_empty() {
        Root::ArchivedFirst
    } else {
        Root::Archived
    })
}

/// The conflicts of the rows that are kept in place.
pub fn look(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletion: &Deletion,
) -> Outcome<Vec<Conflict>> {
    let id = deletion.id;
    let tables = deletion::holding(session, graph, &[id])?;
    let surveyed = survey(session, graph, &tables, id, Lock::Nothing)?;
    let handed_over =
        hand_over::find_handed_over(session, graph, &tables, deletion, surveyed.parents)?;
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
