//! The rows that a restore leaves deleted when it is to skip what conflicts.

use pgrx::Uuid;

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::found_conflict::{Found, losers};
use crate::model::reference::Reference;
use crate::model::row_id::RowId;
use crate::model::row_set::RowSet;
use crate::model::table::Table;
use crate::restore::find_conflicts::{self, Parents};
use crate::spi::session::Session;

/// What is skipped, and why.
#[derive(Debug, Default)]
pub struct Skipped {
    /// Rows that conflict, and rows that refer to them.
    pub rows: RowSet,
    /// The conflicts.
    pub conflicts: Vec<Found>,
}

/// Finds them. `staying` rows stay deleted anyway.
pub fn find(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    staying: &RowSet,
    parents: Parents,
) -> Outcome<Skipped> {
    let mut skipped = Skipped::default();
    let mut stays = staying.clone();
    loop {
        let found = find_conflicts::find_all(session, graph, tables, deletion, &stays, parents)?;
        let losing = losers(found);
        if losing.is_empty() {
            return Ok(skipped);
        }
        for loser in losing {
            let (table, row) = loser.row;
            stays.insert(table, row);
            skipped.rows.insert(table, row);
            skipped.conflicts.push(loser);
        }
        for group in tables.iter().rev() {
            while add_dependents(
                session,
                graph,
                group,
                deletion,
                &mut stays,
                &mut skipped.rows,
            )? {}
        }
    }
}

/// Adds the rows of the deletion that refer to one of `rows`, until none is new.
pub fn add_all_dependents(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    rows: &mut RowSet,
) -> Outcome<()> {
    for group in tables.iter().rev() {
        loop {
            let mut known = rows.clone();
            if !add_dependents(session, graph, group, deletion, &mut known, rows)? {
                break;
            }
        }
    }
    Ok(())
}

fn add_dependents(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    deletion: Uuid,
    stays: &mut RowSet,
    skipped: &mut RowSet,
) -> Outcome<bool> {
    let mut grew = false;
    for child in group {
        for (reference, parent) in graph.references_of(child.oid) {
            if reference.lets_go(child) || skipped.count(parent.oid) == 0 {
                continue;
            }
            for row in dependents(session, reference, child, parent, deletion, skipped)? {
                if stays.insert(child.oid, row) {
                    grew |= skipped.insert(child.oid, row);
                }
            }
        }
    }
    Ok(grew)
}

/// Rows of the deletion that refer to a skipped row.
fn dependents(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
    skipped: &RowSet,
) -> Outcome<Vec<RowId>> {
    reference.check_readable(child, parent)?;
    let sql = format!(
        "SELECT c.tableoid, c.ctid FROM {child} AS c JOIN {parent} AS p ON {joins}
         WHERE c.deletion_id = $1 AND {among}",
        child = child.rows(),
        parent = parent.rows(),
        joins = reference.joins_by_parent_key("c", "p"),
        among = skipped.among(parent.oid, "p"),
    );
    let mut found = Vec::new();
    for row in session.as_owner(child, &sql, &[deletion.into()])? {
        found.extend(RowId::read(&row, 1)?);
    }
    Ok(found)
}
