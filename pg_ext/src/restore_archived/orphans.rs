//! Archived rows that would come back without a parent, and what refers to rows that do not come back.

use std::collections::BTreeSet;

use pgrx::{Uuid, pg_sys};
use serde_json::Value;

use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::Found;
use crate::model::row_id::RowId;
use crate::model::sql::join;
use crate::restore_archived::archived_rows::{Archived, Rows, read_json};
use crate::restore_archived::foreign_keys::{ForeignKey, Keep};
use crate::restore_archived::row_choice::Set;
use crate::spi::session::Session;

/// A row of the set whose parent is not live, nor in the set.
#[derive(Debug)]
pub struct Orphan {
    /// Its table and its place in the archive.
    pub row: (pg_sys::Oid, RowId),
    /// The deletion that has it.
    pub deletion: Option<Uuid>,
    /// Which foreign key says so, by its place among the keys.
    pub key: usize,
    /// The deletion that has the parent, if any has.
    pub holder: Option<Uuid>,
    /// The parent's place in its archive, where it is in one.
    pub parent: Option<(pg_sys::Oid, RowId)>,
    /// The parent, where it is kept in place.
    pub parent_in_place: Option<(pg_sys::Oid, RowId)>,
    /// The parent's key.
    pub parent_key: Value,
}

/// A search for orphans by one foreign key.
struct Search<'a> {
    key: &'a ForeignKey,
    child: &'a Archived,
    /// The parents' table, where its rows are archived.
    parent: Option<&'a Archived>,
    set: &'a Set,
}

impl Search<'_> {
    fn parent_columns(&self, alias: &str) -> String {
        let pairs = self.key.reference.pairs.iter();
        join(pairs.map(|pair| format!("{alias}.{}", pair.parent)), ", ")
    }

    /// The rows that have no parent, as `keepsake_orphans`, and the archived parents, as `keepsake_elsewhere`.
    fn with(&self) -> String {
        let reference = &self.key.reference;
        let columns = reference.child_columns().into_iter();
        let inside = self.parent.map_or_else(String::new, |parent| {
            format!(
                ", keepsake_inside AS NOT MATERIALIZED (SELECT s.keepsake_relation, s.keepsake_ctid, {columns} FROM ({inside}) AS s),
                 keepsake_elsewhere AS NOT MATERIALIZED (
                     SELECT s.keepsake_relation, s.keepsake_ctid, s.keepsake_deletion, s.keepsake_seq, {key} AS keepsake_key, {columns}
                     FROM ({all}) AS s)",
                columns = self.parent_columns("s"),
                inside = parent.source(&self.set.rows(parent.table.oid)),
                key = parent.key_json("s"),
                all = parent.source_of_all(),
            )
        });
        format!(
            "WITH keepsake_rows AS MATERIALIZED (
                 SELECT s.keepsake_relation, s.keepsake_ctid, s.keepsake_deletion, {columns} FROM ({source}) AS s WHERE {is_set}){inside},
             keepsake_orphans AS MATERIALIZED (
                 SELECT c.* FROM keepsake_rows AS c WHERE {lacks})",
            columns = join(columns.map(|column| format!("s.{column}")), ", "),
            source = self.child.source(&self.set.rows(self.child.table.oid)),
            is_set = reference.is_set("s"),
            lacks = self.lacks(),
        )
    }

    /// The condition that row `c` lacks a parent: that none is live, and none in the set.
    fn lacks(&self) -> String {
        let reference = &self.key.reference;
        let live = self.key.live_parents();
        let joins = reference.joins("c", "p");
        match (self.parent, reference.pairs.last()) {
            (None, _) | (_, None) => format!("NOT {}", reference.is_found("c", &live)),
            (Some(_), Some(period)) if reference.has_period => {
                let both = format!(
                    "(SELECT p.{range} FROM {live} UNION ALL SELECT p.{range} FROM keepsake_inside AS p WHERE {joins}) AS p",
                    range = period.parent,
                );
                format!("NOT {}", reference.is_found("c", &both))
            }
            (Some(_), Some(_)) => format!(
                "NOT {} AND NOT EXISTS (SELECT FROM keepsake_inside AS p WHERE {joins})",
                reference.is_found("c", &live),
            ),
        }
    }

    /// For each orphan `c`, the deletion that has its parent: `h`.
    fn holder(&self) -> String {
        let joins = self.key.reference.joins("c", "p");
        match (self.key.keep, self.parent) {
            // Each of those that are not live holds a part of its range.
            (Keep::Archive, Some(_)) if self.key.reference.has_period => format!(
                "LEFT JOIN LATERAL (
                     SELECT p.keepsake_deletion, p.keepsake_relation, p.keepsake_ctid, p.keepsake_key FROM keepsake_elsewhere AS p
                     WHERE {joins} AND NOT EXISTS (
                         SELECT FROM keepsake_inside AS i
                         WHERE i.keepsake_ctid OPERATOR(pg_catalog.=) p.keepsake_ctid AND i.keepsake_relation OPERATOR(pg_catalog.=) p.keepsake_relation)
                 ) AS h ON true"
            ),
            (Keep::Archive, Some(_)) => format!(
                "LEFT JOIN LATERAL (
                     SELECT p.keepsake_deletion, p.keepsake_relation, p.keepsake_ctid, p.keepsake_key FROM keepsake_elsewhere AS p
                     WHERE {joins} ORDER BY p.keepsake_deletion DESC, p.keepsake_seq DESC LIMIT 1) AS h ON true"
            ),
            (Keep::InPlace, _) => format!(
                "LEFT JOIN LATERAL (
                     SELECT p.deletion_id AS keepsake_deletion, p.tableoid AS keepsake_relation,
                            p.ctid AS keepsake_ctid, NULL::pg_catalog.jsonb AS keepsake_key
                     FROM {} AS p WHERE {joins}{which}) AS h ON true",
                self.key.parent.rows(),
                // As above; those that are live, or come back next, hold the rest of its range.
                which = if self.key.reference.has_period {
                    format!(" AND NOT {}", self.key.is_live("p"))
                } else {
                    " LIMIT 1".into()
                },
            ),
            _ => "CROSS JOIN (SELECT NULL::pg_catalog.uuid AS keepsake_deletion, NULL::pg_catalog.oid AS keepsake_relation,
                                     NULL::pg_catalog.tid AS keepsake_ctid, NULL::pg_catalog.jsonb AS keepsake_key) AS h"
                .to_owned(),
        }
    }
}

/// Takes rows out of a set that would be brought along and lack another parent. What was asked for stays: all rows of some deletions, and
/// some by themselves.
pub fn leave_behind(
    session: &mut Session<'_, '_>,
    (tables, archives, keys): (&[Archived], &[Archived], &[ForeignKey]),
    (whole, roots): (&[Uuid], &Set),
    set: &mut Set,
) -> Outcome<()> {
    loop {
        let mut left = false;
        for key in keys.iter().enumerate() {
            for orphan in orphans(session, tables, archives, key, set)? {
                let (table, row) = orphan.row;
                let is_asked_for = orphan
                    .deletion
                    .is_none_or(|deletion| whole.contains(&deletion))
                    || roots.rows(table).also.contains(&row);
                left |= !is_asked_for && set.remove(table, row);
            }
        }
        if !left {
            return Ok(());
        }
    }
}

/// The rows of a table that lack a parent by one foreign key. `archives` are the tables with archives that it may refer to.
pub fn orphans(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    archives: &[Archived],
    (number, key): (usize, &ForeignKey),
    set: &Set,
) -> Outcome<Vec<Orphan>> {
    let child = tables
        .iter()
        .find(|one| one.table.oid == key.reference.child);
    let Some(child) = child.filter(|one| !set.rows(one.table.oid).is_empty()) else {
        return Ok(Vec::new());
    };
    let search = Search {
        key,
        child,
        parent: archives.iter().find(|one| one.table.oid == key.parent.oid),
        set,
    };
    let sql = format!(
        "{with} SELECT c.keepsake_relation, c.keepsake_ctid, c.keepsake_deletion,
                h.keepsake_deletion, h.keepsake_relation, h.keepsake_ctid, h.keepsake_key
         FROM keepsake_orphans AS c {holder}",
        with = search.with(),
        holder = search.holder(),
    );
    let mut found = Vec::new();
    for row in session.over_archives(&key.parent, &sql, &[])? {
        let Some(place) = RowId::read(&row, 1)? else {
            continue;
        };
        let parent = RowId::read(&row, 5)?.map(|parent| (key.parent.oid, parent));
        let (parent, parent_in_place) = match key.keep {
            Keep::InPlace => (None, parent),
            Keep::Archive | Keep::Nothing => (parent, None),
        };
        found.push(Orphan {
            row: (child.table.oid, place),
            key: number,
            deletion: row.get(3)?,
            holder: row.get(4)?,
            parent,
            parent_in_place,
            parent_key: read_json(&row, 7)?,
        });
    }
    Ok(found)
}

/// The conflict that an orphan is.
pub fn of_orphan(orphan: &Orphan, keys: &[ForeignKey], tables: &[Archived]) -> Option<Found> {
    let key = keys.get(orphan.key)?;
    let child = tables.iter().find(|one| one.table.oid == orphan.row.0)?;
    Some(Found {
        conflict: Conflict {
            kind: if orphan.holder.is_some() {
                "parent_deleted"
            } else {
                "parent_missing"
            },
            table: child.table.shown.clone(),
            key: Value::Null,
            constraint: Some(key.reference.name.clone()),
            values: Value::Null,
            holder: orphan.parent_key.clone(),
            deletion_id: orphan.holder.map(|id| id.to_string()),
        },
        row: orphan.row,
        holder: orphan.parent,
        among_restored: false,
    })
}

/// The rows of the set that refer to one of `rows`: they have no place without it.
pub fn dependents(
    session: &mut Session<'_, '_>,
    key: &ForeignKey,
    (child, parent): (&Archived, &Archived),
    set: &Set,
    rows: &BTreeSet<RowId>,
) -> Outcome<Vec<RowId>> {
    let staying = Rows {
        also: rows.clone(),
        ..Rows::default()
    };
    let columns = key
        .reference
        .pairs
        .iter()
        .map(|pair| format!("s.{}", pair.parent));
    let sql = format!(
        "WITH keepsake_parents AS NOT MATERIALIZED (SELECT {columns} FROM ({parents}) AS s)
         SELECT c.keepsake_relation, c.keepsake_ctid FROM ({children}) AS c
         WHERE EXISTS (SELECT FROM keepsake_parents AS p WHERE {joins})",
        columns = join(columns, ", "),
        parents = parent.source(&staying),
        children = child.source(&set.rows(child.table.oid)),
        joins = key.reference.joins("c", "p"),
    );
    RowId::read_all(session.over_archives(&child.table, &sql, &[])?)
}
