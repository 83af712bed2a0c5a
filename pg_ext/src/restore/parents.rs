//! Deleted parents that come back before the rows that refer to them (`on_conflict => 'parents'`), where one of both is kept in place.
//! Archived parents of archived rows are `restore_archived`'s own business.
//!
//! Each is restored alone, with the parents that it needs itself, where the caller may and nothing stands in its way. What then still lacks a parent,
//! the restore that asked for it reports.

use std::collections::{BTreeMap, HashMap};

use pgrx::{Uuid, pg_sys};
use serde_json::Value;

use crate::access::target_row;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::deleted_row::DeletedRow;
use crate::model::error::{Failure, Outcome};
use crate::model::on_conflict::OnConflict;
use crate::model::row_id::RowId;
use crate::model::row_set::RowSet;
use crate::model::table::Table;
use crate::postgres::subtransaction::{Caught, attempt_unless};
use crate::registry::deletion::{self, Deletion, State};
use crate::restore::archived_parents::{self, Returning};
use crate::restore::in_place::{self, Extent};
use crate::restore::survey::live_references;
use crate::restore_archived::restore_archive::{self, What};
use crate::spi::session::Session;

/// How many parents may be above each other in different deletions.
const MOST_ABOVE: usize = 64;

/// Lines of a restore's answer: which rows came back.
type Lines = Vec<Value>;

/// The deletions whose rows are waiting for parents.
#[derive(Debug, Default)]
pub struct Parents {
    waiting: Vec<Uuid>,
    /// Rows that did not come back, by deletion. Others may need the same ones: to try them for each would take a time that doubles with each deletion
    /// that is above another in two ways.
    failed: HashMap<Uuid, Vec<RowSet>>,
}

impl Parents {
    /// For the restore of rows of this deletion.
    pub fn of(deletion: Uuid) -> Self {
        Self {
            waiting: vec![deletion],
            failed: HashMap::new(),
        }
    }

    /// Restores those that archived rows lack.
    pub fn bring_for_archived(
        &mut self,
        session: &mut Session<'_, '_>,
        what: What<'_>,
    ) -> Outcome<Lines> {
        let lacking = restore_archive::parents_in_place(session, what)?;
        self.bring(session, lacking, Vec::new())
    }

    /// Restores those that a deletion's rows in place lack: all of these, or some.
    pub fn bring_for_in_place(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        deletion: Uuid,
        rows: Option<&RowSet>,
    ) -> Outcome<Lines> {
        let tables = deletion::holding(session, graph, &[deletion])?;
        let (mut in_place, mut archived) = (Vec::new(), Vec::new());
        for child in tables.iter().flatten() {
            in_place.extend(lacking_in_place(session, graph, child, deletion, rows)?);
            archived.extend(lacking_archived(session, graph, child, deletion, rows)?);
        }
        self.bring(session, in_place, archived)
    }

    fn bring(
        &mut self,
        session: &mut Session<'_, '_>,
        in_place: Vec<DeletedRow>,
        archived: Vec<DeletedRow>,
    ) -> Outcome<Lines> {
        let mut lines = Vec::new();
        if self.waiting.len() > MOST_ABOVE {
            return Ok(lines);
        }
        // In the order of time, as whoever else locks several deletions.
        let mut of_deletion: BTreeMap<[u8; 16], RowSet> = BTreeMap::new();
        for one in in_place {
            let rows = of_deletion.entry(*one.deletion.as_bytes()).or_default();
            rows.insert(one.table, one.row);
        }
        for (id, rows) in of_deletion {
            let id = Uuid::from_bytes(id);
            if self.waiting.len() == 1 {
                // What came back for good may have been what the others lacked.
                self.failed.clear();
            }
            let has_failed = self.failed.get(&id).is_some_and(|of| of.contains(&rows));
            if self.waiting.contains(&id) || has_failed {
                continue;
            }
            self.waiting.push(id);
            let came = attempt(|| self.bring_in_place(session, id, &rows))?;
            self.waiting.pop();
            if came.is_empty() {
                self.failed.entry(id).or_default().push(rows);
            }
            lines.extend(came);
        }
        let mut of_table: BTreeMap<u32, Vec<DeletedRow>> = BTreeMap::new();
        for one in archived {
            let rows = of_table.entry(one.table.to_u32()).or_default();
            rows.push(one);
        }
        for (table, rows) in of_table {
            lines.extend(attempt(|| {
                self.bring_archived(session, table.into(), &rows)
            })?);
        }
        Ok(lines)
    }

    fn bring_in_place(
        &mut self,
        session: &mut Session<'_, '_>,
        id: Uuid,
        rows: &RowSet,
    ) -> Outcome<Lines> {
        let deletion = Deletion::read(session, id, true)?;
        let Some(deletion) = deletion.filter(|one| one.state == State::Deleted) else {
            return Ok(Vec::new());
        };
        let graph = cache::current(session)?;
        let tables = deletion::holding(session, &graph, &[id])?;
        let rows = with_those_above(session, &graph, &tables, id, rows)?;
        for table in tables.iter().flatten() {
            let among = rows.among(table.oid, "t");
            if rows.count(table.oid) > 0
                && !target_row::may_delete_those(session, table, id, &among)?
            {
                return Ok(Vec::new());
            }
        }
        let mut lines = self.bring_for_in_place(session, &graph, id, Some(&rows))?;
        let graph = cache::current(session)?;
        let extent = Extent::Only(&rows);
        let answer = in_place::run(session, &graph, &deletion, OnConflict::Parents, extent)?;
        lines.splice(0..0, restored(&answer));
        Ok(lines)
    }

    fn bring_archived(
        &mut self,
        session: &mut Session<'_, '_>,
        table: pg_sys::Oid,
        rows: &[DeletedRow],
    ) -> Outcome<Lines> {
        let mut lines = self.bring_for_archived(session, What::Rows(table, rows))?;
        let came = restore_archive::run_rows(session, table, rows)?;
        lines.splice(0..0, came.iter().flat_map(|came| restored(&came.answer)));
        Ok(lines)
    }
}

/// Adds the parents to the answer of the restore that they came back for.
pub fn add_to(answer: &mut Value, parents: Lines) {
    if !parents.is_empty() {
        let lines: Lines = restored(answer).chain(parents).collect();
        answer["restored"] = lines.into();
    }
}

fn restored(answer: &Value) -> impl Iterator<Item = Value> {
    let lines = answer.get("restored").and_then(Value::as_array).cloned();
    lines.unwrap_or_default().into_iter()
}

/// Restores parents, or none of them where the caller may not or something stands in their way.
fn attempt(work: impl FnOnce() -> Outcome<Lines>) -> Outcome<Lines> {
    match attempt_unless(|_| true, work) {
        Ok(lines) => Ok(lines),
        Err(Caught::Failure(
            Failure::RestoreConflicts { .. }
            | Failure::DeletionNotFound { .. }
            | Failure::MayNotDelete { .. }
            | Failure::MayNotInsert { .. },
        )) => Ok(Vec::new()),
        Err(Caught::Failure(failure)) => Err(failure),
        // None is caught.
        Err(Caught::Error { .. }) => Ok(Vec::new()),
    }
}

/// The parents of a deletion's rows in `child` that other deletions have, in place.
fn lacking_in_place(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: &Table,
    deletion: Uuid,
    rows: Option<&RowSet>,
) -> Outcome<Vec<DeletedRow>> {
    let mut found = Vec::new();
    for (reference, parent) in live_references(graph, child)? {
        let sql = format!(
            "SELECT DISTINCT p.tableoid, p.ctid, p.deletion_id FROM {children} AS c JOIN {parents} AS p ON {joins}
             WHERE c.deletion_id OPERATOR(pg_catalog.=) $1 AND {these}
               AND p.deleted_at IS NOT NULL AND p.deletion_id IS DISTINCT FROM $1",
            children = child.rows(),
            parents = parent.rows(),
            joins = reference.joins("c", "p"),
            these = rows.map_or_else(|| "true".into(), |rows| rows.among(child.oid, "c")),
        );
        for row in session.as_owner(child, &sql, &[deletion.into()])? {
            if let Some((row, holder)) = RowId::read(&row, 1)?.zip(row.get::<Uuid>(3)?) {
                found.push(DeletedRow {
                    deletion: holder,
                    table: parent.oid,
                    row,
                });
            }
        }
    }
    Ok(found)
}

/// The same of those that are in archives.
fn lacking_archived(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: &Table,
    deletion: Uuid,
    rows: Option<&RowSet>,
) -> Outcome<Vec<DeletedRow>> {
    let none = RowSet::default();
    let returning = Returning::SameDeletion;
    let lost = archived_parents::lost(session, graph, child, deletion, &none, returning)?;
    let those = lost
        .into_iter()
        .filter(|one| rows.is_none_or(|rows| rows.contains(child.oid, one.row)));
    let parents = those.filter_map(|one| {
        let (table, row) = one.parent?;
        Some(DeletedRow {
            deletion: one.holder?,
            table,
            row,
        })
    });
    Ok(parents.collect())
}

/// Rows of a deletion, with those above them that it has as well; they are locked.
fn with_those_above(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    rows: &RowSet,
) -> Outcome<RowSet> {
    let mut all = RowSet::default();
    let mut new = rows.clone();
    while !new.is_empty() {
        let mut above = RowSet::default();
        for child in tables.iter().flatten() {
            if new.count(child.oid) == 0 {
                continue;
            }
            let those = new.among(child.oid, "c");
            let lock = format!(
                "SELECT c.tableoid, c.ctid FROM {} AS c WHERE c.deletion_id OPERATOR(pg_catalog.=) $1 AND {those} FOR UPDATE",
                child.rows()
            );
            for row in RowId::read_all(session.as_owner(child, &lock, &[deletion.into()])?)? {
                all.insert(child.oid, row);
            }
            for (reference, parent) in live_references(graph, child)? {
                let sql = format!(
                    "SELECT DISTINCT p.tableoid, p.ctid FROM {children} AS c JOIN {parents} AS p ON {joins}
                     WHERE {those} AND p.deletion_id OPERATOR(pg_catalog.=) $1",
                    children = child.rows(),
                    parents = parent.rows(),
                    joins = reference.joins("c", "p"),
                );
                let found = session.as_owner(child, &sql, &[deletion.into()])?;
                for row in RowId::read_all(found)? {
                    if !all.contains(parent.oid, row) && !new.contains(parent.oid, row) {
                        above.insert(parent.oid, row);
                    }
                }
            }
        }
        new = above;
    }
    Ok(all)
}
