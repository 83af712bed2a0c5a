//! Adopted rows that stay in their table: they are marked, and the registry learns of their deletions.

use pgrx::{Uuid, pg_sys};

use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::intercept::guard;
use crate::manage::adopt::{self, Adopt, Reading, Row};
use crate::model::error::{Failure, Outcome};
use crate::model::reference::{OnDelete, Reference};
use crate::model::row_id::{RowId, as_arguments};
use crate::model::sql::Ident;
use crate::model::table::Table;
use crate::registry::deletion_group::new_deletion;
use crate::spi::session::Session;

const RECORD: &str = include_str!("record_adopted.sql");
const COUNT: &str = "
    INSERT INTO keepsake.deletion_table AS d (deletion_id, relation, row_count)
    SELECT id, $1, count(*) FROM unnest($2) AS n (id) GROUP BY id
    ON CONFLICT (deletion_id, relation) DO UPDATE SET row_count = d.row_count + excluded.row_count";
const SETTLED: &str =
    "SELECT 1 FROM keepsake.deletion WHERE id = ANY ($1) AND state <> 'deleted' LIMIT 1";

const OF_ANOTHER: &str = "
    SELECT 1 FROM unnest($1, $2) AS n (id, tenant) JOIN keepsake.deletion d ON d.id = n.id
    WHERE n.tenant IS NOT NULL AND n.tenant IS DISTINCT FROM d.tenant LIMIT 1";

/// Makes deletions of the rows that `adopt` means, which have no `deletion_id`, or one of `foreign`.
pub fn adopt(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    adopt: Adopt<'_>,
    foreign: Vec<Uuid>,
) -> Outcome<()> {
    let graph = cache::near(session, oid)?;
    let table = graph.managed(session, oid)?;
    let reading = Reading {
        table,
        adopt,
        unless: " AND (t.deletion_id IS NULL OR t.deletion_id = ANY ($1))",
        known_group: Some("t.deletion_id"),
        parents: if adopt.group.is_none() {
            parents(&graph, table)
        } else {
            Vec::new()
        },
        own: graph
            .references_of(oid)
            .filter(|(reference, parent)| parent.oid == oid && takes_along(reference))
            .map(|(reference, _)| reference)
            .collect(),
    };
    let mut live = adopt.live_values(table)?;
    let marks = ["deleted_at", "deletion_id"].map(|mark| Ident(mark.into()));
    live.retain(|(column, _)| !marks.contains(column));
    let mut unmarked = live.clone();
    unmarked.extend(marks.map(|mark| (mark, None)));
    reading.check_live(session, &unmarked, &[foreign.clone().into()])?;
    let sql = reading.sql(session)?;
    // Rows that have a reference or a place in common with none of this call's get ids of their own.
    let salt = new_deletion().to_string();
    session.write_in_windows(
        table,
        (&sql, &[foreign.into()]),
        adopt::WINDOW,
        |session, found| {
            let rows = found.filter_map(|row| Row::read(&row).transpose());
            let rows = rows.collect::<Outcome<Vec<Row>>>()?;
            mark(session, table, &rows, &salt, &adopt::assignments(&live))
        },
    )?;
    check_references(session, oid)
}

/// Whether a soft delete of the parent takes the child along, or was kept from by it.
fn takes_along(reference: &Reference) -> bool {
    reference.on_delete == OnDelete::Cascade || reference.on_delete == OnDelete::Restrict
}

/// Queries for the deletion of a parent of row `m`, if that was deleted at the same time.
fn parents(graph: &Graph, table: &Table) -> Vec<String> {
    graph
        .references_of(table.oid)
        .filter(|(reference, parent)| {
            parent.oid != table.oid
                && parent.owner == table.owner
                && !reference.lost
                && takes_along(reference)
        })
        .map(|(reference, parent)| {
            format!(
                "(SELECT p.deletion_id FROM {rows} AS p WHERE {joins} AND p.deletion_id IS NOT NULL
                  AND p.deleted_at OPERATOR(pg_catalog.=) m.keepsake_time)",
                rows = parent.rows(),
                joins = reference.joins_by_parent_key("m", "p"),
            )
        })
        .collect()
}

/// The deletion that a row is to be of.
fn deletion_of(table: &Table, row: &Row, salt: &str) -> Uuid {
    if let Some(parents) = row.parents {
        return parents;
    }
    match row.group {
        Some(_) => adopt::group_id(table, row),
        None => adopt::id_of(&["row", salt, &format!("{:?}", row.top)]),
    }
}

fn mark(
    session: &mut Session<'_, '_>,
    table: &Table,
    rows: &[Row],
    salt: &str,
    live: &str,
) -> Outcome<()> {
    let ids: Vec<Uuid> = rows
        .iter()
        .map(|row| deletion_of(table, row, salt))
        .collect();
    let places: Vec<RowId> = rows.iter().map(|row| row.place).collect();
    let [parts, places] = as_arguments(&places);
    let sql = format!(
        "UPDATE {rows} AS t SET deleted_at = m.at::pg_catalog.timestamptz, deletion_id = m.id{live}
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)) AS m (part, place, at, id)
         WHERE t.ctid OPERATOR(pg_catalog.=) m.place AND t.tableoid OPERATOR(pg_catalog.=) m.part RETURNING 1",
        rows = table.rows(),
    );
    let times = adopt::column(rows, |row| row.time.clone());
    let args = [parts, places, times, ids.clone().into()];
    if session.write(table, &sql, &args)?.len() != rows.len() {
        return Err(Failure::Prevented {
            table: table.shown.clone(),
        });
    }
    record(session, table, rows, ids)
}

fn record(
    session: &mut Session<'_, '_>,
    table: &Table,
    rows: &[Row],
    ids: Vec<Uuid>,
) -> Outcome<()> {
    // A row beneath another is no root.
    let key = |row: &Row| row.key.clone().filter(|_| row.top == row.place);
    session.registry(
        RECORD,
        &[
            table.oid.into(),
            ids.clone().into(),
            adopt::column(rows, key),
            adopt::column(rows, |row| row.actor.clone()),
            adopt::column(rows, |row| row.tenant.clone()),
            adopt::column(rows, |row| row.time.clone()),
        ],
    )?;
    if !session.registry(SETTLED, &[ids.clone().into()])?.is_empty() {
        return Err(Failure::BadArgument {
            what: "adopt_group has the value of a deletion that was restored or purged".into(),
            fix: "Give these rows another value, or leave adopt_group out: then each is a deletion of its own.".into(),
        });
    }
    let tenants = adopt::column(rows, |row| row.tenant.clone());
    let others = session.registry(OF_ANOTHER, &[ids.clone().into(), tenants])?;
    if !others.is_empty() {
        return Err(Failure::BadArgument {
            what: "adopt_tenant is not that of the deleted row above, whose deletion the row would join".into(),
            fix: "Adopt both tables with the same adopt_tenant, or give adopt_group, so that each tenant has deletions of its own.".into(),
        });
    }
    session.registry(COUNT, &[table.oid.into(), ids.into()])?;
    Ok(())
}

/// Refuses if a live row refers to an adopted one, or to a deleted parent.
pub fn check_references(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let graph = cache::near(session, oid)?;
    let table = graph.managed(session, oid)?;
    let children = graph.references_to(table.oid).map(|(_, child)| child);
    for child in children.filter(|child| child.managed).chain([table]) {
        guard::check_existing(session, &graph, child.oid).map_err(|failure| match failure {
            Failure::DeadParent {
                child,
                parent,
                reference,
                ..
            } => Failure::CannotManage {
                table: table.shown.clone(),
                why: format!(
                    "Live rows of {child} refer to deleted rows of {parent} by \"{reference}\"."
                ),
                fix:
                    "Let adopt take these rows as well, or make them refer to live rows or to none."
                        .into(),
            },
            other => other,
        })?;
    }
    Ok(())
}
