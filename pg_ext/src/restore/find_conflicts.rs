//! What stands in the way of a restore, found before anything is written: each row of the deletion
//! is judged as it would be when live.

use std::collections::{HashMap, HashSet};

use pgrx::spi::SpiHeapTupleData;
use pgrx::{JsonB, Uuid, pg_sys};
use serde_json::Value;

use crate::access::privileges;
use crate::graph::reference_graph::Graph;
use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::{Found, later_of_each};
use crate::model::reference::Reference;
use crate::model::row_id::RowId;
use crate::model::row_set::RowSet;
use crate::model::sql::{Literal, join};
use crate::model::table::Table;
use crate::restore::archived_parents::{self, Lost, Returning};
use crate::restore::live_constraint::{self, LiveConstraint};
use crate::spi::session::Session;

/// What is known of the references of the rows that would come back.
#[derive(Clone, Copy, Debug)]
pub struct Parents {
    /// A parent outside the deletion is deleted.
    pub deleted: bool,
    /// A parent is not there at all, or in an archive.
    pub missing: bool,
    /// Which archived parents count as live.
    pub returning: Returning,
}

/// Every conflict that restoring `deletion` would meet. `stays` are its rows that stay deleted.
pub fn find_all(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    stays: &RowSet,
    parents: Parents,
) -> Outcome<Vec<Found>> {
    let constraints = live_constraint::of_all(session, tables)?;
    let mut found = Vec::new();
    for table in tables.iter().flatten() {
        let mut search = Search {
            session,
            table,
            deletion,
            stays,
            found: &mut found,
        };
        for constraint in constraints
            .get(&table.oid)
            .iter()
            .flat_map(|all| all.iter())
        {
            search.constraint(constraint)?;
        }
        for (reference, parent) in graph.references_of(table.oid) {
            if !reference.lets_go(table) {
                search.parents(reference, parent, parents)?;
            }
        }
        if parents.missing {
            let returning = parents.returning;
            let lost = archived_parents::lost(session, graph, table, deletion, stays, returning)?;
            found.extend(lost.into_iter().map(Lost::conflict));
        }
    }
    Ok(found)
}

/// The conflicts as the caller may read them.
pub fn shown(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    found: Vec<Found>,
) -> Outcome<Vec<Conflict>> {
    let mut asked: HashMap<pg_sys::Oid, HashSet<RowId>> = HashMap::new();
    for one in &found {
        for (table, row) in [Some(one.row), one.holder].into_iter().flatten() {
            asked.entry(table).or_default().insert(row);
        }
    }
    let mut seen = RowSet::default();
    for (table, rows) in asked {
        if let Some(table) = graph.table(table) {
            for row in privileges::readable(session, table, rows)? {
                seen.insert(table.oid, row);
            }
        }
    }
    let sees = |(table, row)| seen.contains(table, row);
    let hide = |mut one: Found| {
        if !sees(one.row) {
            one.conflict.key = Value::Null;
            one.conflict.values = Value::Null;
        }
        if !one.holder.is_some_and(sees) {
            one.conflict.holder = Value::Null;
        }
        one.conflict
    };
    Ok(found.into_iter().map(hide).collect())
}

/// The search for conflicts of one table.
struct Search<'a, 'session, 'conn> {
    session: &'a mut Session<'session, 'conn>,
    table: &'a Table,
    deletion: Uuid,
    stays: &'a RowSet,
    found: &'a mut Vec<Found>,
}

impl Search<'_, '_, '_> {
    fn constraint(&mut self, constraint: &LiveConstraint) -> Outcome<()> {
        let (kind, name) = (constraint.entry.kind(), &constraint.name);
        let among = constraint.among_restored(self.table, self.stays);
        let among = self.look(kind, name, &among, Some(self.table))?;
        let one_by_one = self.session.keeps_plans();
        let others = constraint.against_others(self.table, self.stays, one_by_one);
        let others = self.look(kind, name, &others, Some(self.table))?;
        self.found.extend(others);
        self.found.extend(later_of_each(among));
        Ok(())
    }

    fn parents(&mut self, reference: &Reference, parent: &Table, parents: Parents) -> Outcome<()> {
        reference.check_readable(self.table, parent)?;
        if parents.deleted || self.stays.count(parent.oid) > 0 {
            let sql = under_deleted_parent(reference, self.table, parent, self.stays);
            let deleted = self.look("parent_deleted", &reference.name, &sql, Some(parent))?;
            self.found.extend(deleted);
        }
        if parents.missing {
            let sql = without_parent(reference, self.table, parent, self.stays);
            let missing = self.look("parent_missing", &reference.name, &sql, None)?;
            self.found.extend(missing);
        }
        Ok(())
    }

    /// Runs one search, whose argument is the deletion.
    fn look(
        &mut self,
        kind: &'static str,
        constraint: &str,
        sql: &str,
        holders: Option<&Table>,
    ) -> Outcome<Vec<Found>> {
        let holders = holders.unwrap_or(self.table).oid;
        let args = [self.deletion.into()];
        let rows = self.session.as_owner_in_schema(self.table, sql, &args)?;
        let mut found = Vec::new();
        for row in rows {
            let Some(address) = RowId::read(&row, 1)? else {
                continue;
            };
            found.push(Found {
                conflict: Conflict {
                    kind,
                    table: self.table.shown.clone(),
                    key: json(&row, 3)?,
                    constraint: Some(constraint.to_owned()),
                    values: json(&row, 4)?,
                    holder: json(&row, 5)?,
                    deletion_id: None,
                },
                row: (self.table.oid, address),
                holder: RowId::read(&row, 6)?.map(|holder| (holders, holder)),
                among_restored: false,
            });
        }
        Ok(found)
    }
}

fn json(row: &SpiHeapTupleData<'_>, ordinal: usize) -> Outcome<Value> {
    let value = row.get::<JsonB>(ordinal)?;
    Ok(value.map_or(Value::Null, |value| value.0))
}

/// Rows that would come back live under a parent that stays deleted.
fn under_deleted_parent(
    reference: &Reference,
    child: &Table,
    parent: &Table,
    stays: &RowSet,
) -> String {
    format!(
        "SELECT c.tableoid, c.ctid, {child_key}, {values}, {parent_key}, p.tableoid, p.ctid
         FROM {child} AS c JOIN {parent} AS p ON {joins}
         WHERE c.deletion_id OPERATOR(pg_catalog.=) $1{not_staying}
           AND ((p.deleted_at IS NOT NULL AND p.deletion_id IS DISTINCT FROM $1) OR {staying_parent})
         ORDER BY 3, 5",
        child_key = child.key_json("c"),
        values = values(reference),
        parent_key = parent.key_json("p"),
        child = child.rows(),
        parent = parent.rows(),
        joins = reference.joins_by_parent_key("c", "p"),
        not_staying = stays.excluding(child.oid, "c"),
        staying_parent = stays.among(parent.oid, "p"),
    )
}

/// Rows that would come back live without the parent that they refer to.
fn without_parent(reference: &Reference, child: &Table, parent: &Table, stays: &RowSet) -> String {
    format!(
        "SELECT c.tableoid, c.ctid, {child_key}, {values}, NULL::pg_catalog.jsonb, NULL::pg_catalog.oid, NULL::pg_catalog.tid
         FROM {child} AS c
         WHERE c.deletion_id OPERATOR(pg_catalog.=) $1{not_staying} AND {set}
           AND NOT {found}
         ORDER BY 3",
        child_key = child.key_json("c"),
        values = values(reference),
        child = child.rows(),
        not_staying = stays.excluding(child.oid, "c"),
        set = reference.is_set("c"),
        found = reference.is_found(
            "c",
            &format!(
                "{} AS p WHERE {}",
                parent.rows(),
                reference.joins_by_parent_key("c", "p")
            )
        ),
    )
}

fn values(reference: &Reference) -> String {
    let values = reference
        .child_columns()
        .into_iter()
        .map(|column| format!("{}, c.{column}", Literal(&column.0)));
    format!("pg_catalog.jsonb_build_object({})", join(values, ", "))
}
