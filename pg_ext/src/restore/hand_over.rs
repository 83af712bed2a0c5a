//! Hands rows of a deletion over to the deletions that also remove their parents.

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::row_id::is_among;
use crate::model::table::Table;
use crate::registry::deletion::Deletion;
use crate::restore::find_conflicts::Parents;
use crate::restore::handed_over::HandedOver;
use crate::restore::revive::all_changed;
use crate::spi::session::Session;

/// Finds the rows to hand over and locks the deletions they would pass to, so that none of those is
/// restored or purged between this look and the passing; looks again until the two agree.
pub fn lock_holders(
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

pub fn find_handed_over(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: &Deletion,
    parents: Parents,
) -> Outcome<HandedOver> {
    if !parents.deleted {
        return Ok(HandedOver::default());
    }
    let root = deletion.root_in_place(graph);
    let is_root = root.and_then(|_| deletion.is_root());
    let root = root.zip(is_root.as_deref());
    HandedOver::find(session, graph, tables, root, deletion.id)
}

/// Hands the rows of `table` over to the deletions that hold them, with their time, so that they
/// expire together.
pub fn hand_over(
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
