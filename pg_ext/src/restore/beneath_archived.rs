//! Which rows in place hang on archived rows that came back, where not the whole deletion does.

use pgrx::Uuid;

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::row_id::RowId;
use crate::model::row_set::RowSet;
use crate::model::table::Table;
use crate::restore::skip_conflicts;
use crate::spi::session::Session;

/// The rows of a deletion that neither refer to a live row of a table with an archive nor hang on a row that does; without
/// those that are `staying` anyway.
pub fn elsewhere(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    staying: &RowSet,
) -> Outcome<RowSet> {
    let mut beneath = RowSet::default();
    for child in tables.iter().flatten() {
        for (reference, parent) in graph.archived_references_of(child.oid) {
            let sql = format!(
                "SELECT c.tableoid, c.ctid FROM {children} AS c
                 WHERE c.deletion_id OPERATOR(pg_catalog.=) $1 AND EXISTS (SELECT FROM {parents} AS p WHERE {joins})",
                children = child.rows(),
                parents = parent.rows(),
                joins = reference.joins_by_parent_key("c", "p"),
            );
            for row in RowId::read_all(session.as_owner(child, &sql, &[deletion.into()])?)? {
                beneath.insert(child.oid, row);
            }
        }
    }
    skip_conflicts::add_all_dependents(session, graph, tables, deletion, &mut beneath)?;
    all_but(session, tables, deletion, [&beneath, staying])
}

/// The rows of a deletion that are in neither set.
pub fn all_but(
    session: &mut Session<'_, '_>,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    but: [&RowSet; 2],
) -> Outcome<RowSet> {
    let mut others = RowSet::default();
    for table in tables.iter().flatten() {
        let sql = format!(
            "SELECT t.tableoid, t.ctid FROM {} AS t WHERE t.deletion_id OPERATOR(pg_catalog.=) $1{}{}",
            table.rows(),
            but[0].excluding(table.oid, "t"),
            but[1].excluding(table.oid, "t"),
        );
        for row in RowId::read_all(session.as_owner(table, &sql, &[deletion.into()])?)? {
            others.insert(table.oid, row);
        }
    }
    Ok(others)
}
