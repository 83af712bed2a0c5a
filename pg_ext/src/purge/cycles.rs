//! The purge of rows that refer to each other in a cycle: none of them can go first, so all go in
//! one statement, however many they are.

use std::collections::{HashMap, HashSet};

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;

use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::row_id::{RowId, as_arguments};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::purge::gone::Gone;
use crate::spi::session::Session;

/// Deletes those rows of the deletions in this group of tables that nothing refers to but each
/// other. The statement is run as the owner of the group's first table, who needs the DELETE and
/// SELECT privileges on the others.
pub fn purge(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    deletions: &[Uuid],
) -> Outcome<Gone> {
    let mut rows = lock(session, group, deletions)?;
    let staying = staying(session, graph, group, &rows)?;
    for rows in &mut rows {
        rows.retain(|row| !staying.contains(row));
    }
    if rows.iter().all(Vec::is_empty) {
        return Ok(Gone::new());
    }
    delete(session, group, &rows)
}

/// The rows of each table, locked.
fn lock(
    session: &mut Session<'_, '_>,
    group: &[&Table],
    deletions: &[Uuid],
) -> Outcome<Vec<Vec<RowId>>> {
    let of_table = |table: &&Table| {
        let sql = format!(
            "SELECT t.tableoid, t.ctid FROM {} AS t
             WHERE t.deletion_id = ANY ($1) AND t.deleted_at IS NOT NULL FOR UPDATE SKIP LOCKED",
            table.rows()
        );
        let found = session.as_owner(table, &sql, &[deletions.to_vec().into()])?;
        RowId::read_all(found)
    };
    group.iter().map(of_table).collect()
}

/// The rows that have to stay: what a row outside refers to, and what such a row refers to in turn.
fn staying(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    rows: &[Vec<RowId>],
) -> Outcome<HashSet<RowId>> {
    let inside: HashSet<RowId> = rows.iter().flatten().copied().collect();
    let mut refers_to: HashMap<RowId, Vec<RowId>> = HashMap::new();
    let mut front = Vec::new();
    for (parent, rows) in group.iter().zip(rows) {
        for (reference, child) in graph.references_to(parent.oid) {
            if reference.lets_go(child) || rows.is_empty() {
                continue;
            }
            reference.check_readable(child, parent)?;
            let sql = format!(
                "SELECT p.tableoid, p.ctid, c.tableoid, c.ctid
                 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS f (relation, row)
                 JOIN {parents} AS p ON p.ctid OPERATOR(pg_catalog.=) f.row AND p.tableoid OPERATOR(pg_catalog.=) f.relation
                 JOIN {children} AS c ON {joins}",
                parents = parent.rows(),
                children = child.rows(),
                joins = reference.joins("c", "p"),
            );
            for row in session.as_owner(child, &sql, &as_arguments(rows))? {
                match (RowId::read(&row, 1)?, RowId::read(&row, 3)?) {
                    (Some(parent), Some(child)) if inside.contains(&child) => {
                        refers_to.entry(child).or_default().push(parent);
                    }
                    (Some(parent), _) => front.push(parent),
                    (None, _) => {}
                }
            }
        }
    }
    let mut staying = HashSet::new();
    while let Some(row) = front.pop() {
        if staying.insert(row) {
            front.extend(refers_to.remove(&row).into_iter().flatten());
        }
    }
    Ok(staying)
}

/// One statement for all tables: foreign keys are checked at its end, when nothing is left to refer.
fn delete(session: &mut Session<'_, '_>, group: &[&Table], rows: &[Vec<RowId>]) -> Outcome<Gone> {
    refuse_several_owners(group)?;
    let (mut with, mut counts) = (Vec::new(), Vec::new());
    let mut arguments: Vec<DatumWithOid<'static>> = Vec::new();
    for (n, (table, rows)) in group.iter().zip(rows).enumerate() {
        arguments.extend(as_arguments(rows));
        with.push(format!(
            "gone{n} AS (
                 DELETE FROM {rows} AS t USING ROWS FROM (pg_catalog.unnest(${first}), pg_catalog.unnest(${second})) AS f (relation, row)
                 WHERE t.ctid OPERATOR(pg_catalog.=) f.row AND t.tableoid OPERATOR(pg_catalog.=) f.relation
                 RETURNING t.deletion_id)",
            rows = table.rows(),
            first = arguments.len() - 1,
            second = arguments.len(),
        ));
        counts.push(format!(
            "SELECT {n}::pg_catalog.int8, g.deletion_id, pg_catalog.count(*) FROM gone{n} AS g GROUP BY g.deletion_id"
        ));
    }
    let sql = format!("WITH {} {}", with.join(", "), counts.join(" UNION ALL "));
    let mut gone = Gone::new();
    for row in session.write_to_all(group, &sql, &arguments)? {
        let table = row
            .get::<i64>(1)?
            .and_then(|n| group.get(usize::try_from(n).ok()?));
        if let (Some(table), Some(deletion), Some(count)) =
            (table, row.get::<Uuid>(2)?, row.get::<i64>(3)?)
        {
            gone.insert((*deletion.as_bytes(), table.oid), count);
        }
    }
    Ok(gone)
}

/// Triggers of one owner's table would run with the rights of another.
fn refuse_several_owners(group: &[&Table]) -> Outcome<()> {
    let first = group.first().map(|table| table.owner);
    if group.iter().all(|table| Some(table.owner) == first) {
        return Ok(());
    }
    Err(Failure::OwnersDiffer {
        tables: join(group.iter().map(|table| &table.shown), ", "),
    })
}
