//! Rows in place that refer by a declared reference to a table with an archive: whether their parents are live, and if not, which
//! deletion has them.

use pgrx::{JsonB, Uuid, pg_sys};
use serde_json::Value;

use crate::graph::reference_graph::Graph;
use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::Found;
use crate::model::reference::Reference;
use crate::model::row_id::RowId;
use crate::model::row_set::RowSet;
use crate::model::sql::{Literal, join};
use crate::model::table::Table;
use crate::restore_archived::archived_rows::Archived;
use crate::restore_archived::work::{Scope, open};
use crate::spi::session::Session;

/// A row of a deletion whose parent is not live.
#[derive(Debug)]
pub struct Lost<'graph> {
    /// Its table.
    pub child: &'graph Table,
    /// Its address.
    pub row: RowId,
    /// The deletion that has the parent, if any has.
    pub holder: Option<Uuid>,
    /// The parent's table and its place in the archive, where it is in it.
    pub parent: Option<(pg_sys::Oid, RowId)>,
    reference: &'graph Reference,
    key: Value,
    values: Value,
    parent_key: Value,
}

/// Which archived parents count as live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returning {
    /// None: those that come back have been restored.
    Nothing,
    /// Those of the same deletion, which would come back first.
    SameDeletion,
}

/// Locks the live parents as a foreign key's check would: a deletion of theirs now waits for this restore, or this restore for it.
pub fn lock(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: &Table,
    deletion: Uuid,
) -> Outcome<()> {
    for (reference, parent) in graph.archived_references_of(child.oid) {
        reference.check_readable(child, parent)?;
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM (
                 SELECT 1 FROM {parents} AS p
                 WHERE EXISTS (SELECT FROM {children} AS c WHERE c.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins})
                 ORDER BY {key} FOR KEY SHARE OF p) AS locked",
            parents = parent.rows(),
            children = child.rows(),
            joins = reference.joins_by_parent_key("c", "p"),
            key = parent.key_columns("p"),
        );
        session.as_owner(parent, &sql, &[deletion.into()])?;
    }
    Ok(())
}

/// The rows of a deletion in one table whose parents are not live, but for those that stay deleted anyway.
pub fn lost<'graph>(
    session: &mut Session<'_, '_>,
    graph: &'graph Graph,
    child: &'graph Table,
    deletion: Uuid,
    stays: &RowSet,
    returning: Returning,
) -> Outcome<Vec<Lost<'graph>>> {
    let mut found = Vec::new();
    for (reference, parent) in graph.archived_references_of(child.oid) {
        reference.check_readable(child, parent)?;
        let archives = open(session, vec![parent.oid], Scope::Preview)?;
        let Some(archive) = archives.first() else {
            continue;
        };
        let sql = lost_sql(reference, child, archive, stays, returning);
        for row in session.over_archives(&archive.table, &sql, &[deletion.into()])? {
            let Some(address) = RowId::read(&row, 1)? else {
                continue;
            };
            let json = |ordinal| -> Outcome<Value> {
                Ok(row
                    .get::<JsonB>(ordinal)?
                    .map_or(Value::Null, |json| json.0))
            };
            found.push(Lost {
                child,
                row: address,
                reference,
                key: json(3)?,
                values: json(4)?,
                holder: row.get(5)?,
                parent_key: json(6)?,
                parent: RowId::read(&row, 7)?.map(|row| (parent.oid, row)),
            });
        }
    }
    Ok(found)
}

/// The rows are found by their deletion, which OFFSET tells the planner: of a table without statistics it knows nothing better than of any
/// other condition.
fn lost_sql(
    reference: &Reference,
    child: &Table,
    archive: &Archived,
    stays: &RowSet,
    returning: Returning,
) -> String {
    let values = reference
        .child_columns()
        .into_iter()
        .map(|column| format!("{}, c.{column}", Literal(&column.0)));
    let joins = reference.joins_by_parent_key("c", "p");
    let returns = match returning {
        Returning::Nothing => String::new(),
        Returning::SameDeletion => format!(
            " AND NOT EXISTS (SELECT FROM keepsake_archived AS p WHERE p.keepsake_deletion OPERATOR(pg_catalog.=) $1 AND {joins})"
        ),
    };
    format!(
        "WITH keepsake_archived AS NOT MATERIALIZED ({archived})
         SELECT c.tableoid, c.ctid, {child_key}, pg_catalog.jsonb_build_object({values}), h.keepsake_deletion, h.keepsake_key,
                h.keepsake_relation, h.keepsake_ctid
         FROM (SELECT t.tableoid, t.ctid, t.* FROM {children} AS t WHERE t.deletion_id OPERATOR(pg_catalog.=) $1 OFFSET 0) AS c
         LEFT JOIN LATERAL (
             SELECT p.keepsake_deletion, {parent_key} AS keepsake_key, p.keepsake_relation, p.keepsake_ctid FROM keepsake_archived AS p
             WHERE {joins} ORDER BY p.keepsake_deletion DESC, p.keepsake_seq DESC LIMIT 1) AS h ON true
         WHERE {set}{not_staying}
           AND NOT EXISTS (SELECT FROM {parents} AS p WHERE {joins}){returns}
         ORDER BY 3",
        archived = archive.source_of_all(),
        child_key = child.key_json("c"),
        values = join(values, ", "),
        parent_key = archive.key_json("p"),
        children = child.rows(),
        parents = archive.table.rows(),
        set = reference.is_set("c"),
        not_staying = stays.excluding(child.oid, "c"),
    )
}

impl Lost<'_> {
    /// The conflict that it is. Whoever may read the row reads the key of its parent in it.
    pub fn conflict(self) -> Found {
        let row = (self.child.oid, self.row);
        Found {
            conflict: Conflict {
                kind: if self.holder.is_some() {
                    "parent_deleted"
                } else {
                    "parent_missing"
                },
                table: self.child.shown.clone(),
                key: self.key,
                constraint: Some(self.reference.name.clone()),
                values: self.values,
                holder: self.parent_key,
                deletion_id: None,
            },
            row,
            holder: Some(row),
            among_restored: false,
        }
    }
}
