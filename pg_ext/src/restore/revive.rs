//! Makes deleted rows live again.

use pgrx::Uuid;

use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::row_set::RowSet;
use crate::model::sql::join;
use crate::model::table::Table;
use crate::spi::session::Session;

/// Makes the rows of a group of tables live that neither passed nor are skipped: as many as are due of each. Where tables refer to each
/// other and have triggers that look at a row before it is live, level by level.
pub fn revive(
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
    session.write_counted(table, &sql, &[deletion.into()])
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
pub fn all_changed(table: &Table, changed: usize, due: i64) -> Outcome<()> {
    if i64::try_from(changed) == Ok(due) {
        return Ok(());
    }
    Err(Failure::Prevented {
        table: table.shown.clone(),
    })
}
