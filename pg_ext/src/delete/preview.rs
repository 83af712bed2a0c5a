//! What a soft delete would do, without doing it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use pgrx::AnyElement;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::access::target_row::{self, Key, key_from_any};
use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::graph::catalog;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome, required};
use crate::model::reference::{OnDelete, Reference};
use crate::model::row_id::{RowId, as_arguments};
use crate::model::table::Table;
use crate::registry::archived;
use crate::spi::session::{Session, with_reading_session};

/// What `soft_delete(relation, key)` would do now, a row for each table and way: `delete`; `set
/// null` and `set default` with their reference; and `restrict`, with the reference whose rows
/// would refuse it. Nothing for a row that is deleted already. Takes no lock and writes nothing.
///
/// # Errors
/// As `soft_delete`, but for 23503 and 40001.
#[pg_extern]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns from the type as it is written"
)]
fn plan_delete(
    relation: Option<Regclass>,
    key: Option<AnyElement>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(table_name, String),
            name!(reference, Option<String>),
            name!(row_count, i64),
        ),
    >,
    ErrorReport,
> {
    let oid = required(relation, "relation")?.oid();
    let key = required(key, "key")?;
    let key = key_from_any(&key);
    let steps = with_reading_session(|session| preview(session, oid, key))?;
    Ok(TableIterator::new(steps))
}

/// The same, with the key as text in the form that the key's type reads.
#[pg_extern(name = "plan_delete")]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns from the type as it is written"
)]
fn plan_delete_text(
    relation: Option<Regclass>,
    key: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(action, String),
            name!(table_name, String),
            name!(reference, Option<String>),
            name!(row_count, i64),
        ),
    >,
    ErrorReport,
> {
    let oid = required(relation, "relation")?.oid();
    let key = Key::Text(required(key, "key")?);
    let steps = with_reading_session(|session| preview(session, oid, key))?;
    Ok(TableIterator::new(steps))
}

type Step = (String, String, Option<String>, i64);

fn preview(session: &mut Session<'_, '_>, oid: pg_sys::Oid, key: Key<'_>) -> Outcome<Vec<Step>> {
    let archived = archived::has_archive(session, oid)?;
    let graph = if archived {
        Rc::new(catalog::read_all(session)?)
    } else {
        cache::current(session)?
    };
    let root = graph.table(oid).filter(|_| archived);
    let root = root.map_or_else(|| graph.managed(session, oid), Ok)?;
    let row = target_row::find(session, root, key)?.ok_or_else(|| Failure::RowNotFound {
        table: root.shown.clone(),
    })?;
    if row.deletion.is_some() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT t.tableoid, t.ctid FROM {} AS t WHERE {}",
        root.rows(),
        row.condition(root)
    );
    let roots = RowId::read_all(session.as_owner(root, &sql, &row.args())?)?;
    let mut reached = Reached::default();
    reached.add(root, roots);
    for group in graph.parents_first() {
        reached.follow(session, &graph, &group)?;
    }
    steps(session, &graph, &reached)
}

/// The rows that the deletion would remove.
#[derive(Default)]
struct Reached {
    rows: HashMap<pg_sys::Oid, Vec<RowId>>,
    known: HashSet<RowId>,
}

impl Reached {
    /// Takes in those of the rows that are new, and answers with them.
    fn add(&mut self, table: &Table, rows: Vec<RowId>) -> Vec<RowId> {
        let new: Vec<RowId> = rows
            .into_iter()
            .filter(|row| self.known.insert(*row))
            .collect();
        self.rows.entry(table.oid).or_default().extend(&new);
        new
    }

    fn contains(&self, row: &RowId) -> bool {
        self.known.contains(row)
    }

    /// Follows the cascading references into a group of tables until nothing new is found.
    fn follow(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        group: &[&Table],
    ) -> Outcome<()> {
        let mut front = self.rows.clone();
        while !front.is_empty() {
            let mut next: HashMap<pg_sys::Oid, Vec<RowId>> = HashMap::new();
            for child in group {
                for (reference, parent) in graph.all_references_of(child.oid) {
                    let Some(rows) = front.get(&parent.oid) else {
                        continue;
                    };
                    if takes_along(reference, child, parent) {
                        let found = referring(session, reference, child, parent, rows)?;
                        let new = self.add(child, found);
                        next.entry(child.oid).or_default().extend(new);
                    }
                }
            }
            next.retain(|_, rows| !rows.is_empty());
            front = next;
        }
        Ok(())
    }
}

/// Whether rows of `child` go with those of `parent` that they refer to: where PostgreSQL deletes, by every cascading reference.
fn takes_along(reference: &Reference, child: &Table, parent: &Table) -> bool {
    reference.on_delete == OnDelete::Cascade && (child.managed || parent.archived)
}

/// The rows of `child`, live ones where it is managed, that refer to these of `parent`; with the
/// deleted ones, too, along a reference that lets go.
fn referring(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    rows: &[RowId],
) -> Outcome<Vec<RowId>> {
    reference.check_readable(child, parent)?;
    let live = if child.managed && !reference.on_delete.sets_columns() {
        " AND c.deleted_at IS NULL"
    } else {
        ""
    };
    let sql = format!(
        "SELECT c.tableoid, c.ctid
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS f (relation, row)
         JOIN {parents} AS p ON p.ctid OPERATOR(pg_catalog.=) f.row AND p.tableoid OPERATOR(pg_catalog.=) f.relation
         JOIN {children} AS c ON {joins}{live}",
        parents = parent.rows(),
        children = child.rows(),
        joins = reference.joins("c", "p"),
    );
    let arguments = as_arguments(rows);
    RowId::read_all(session.as_owner(child, &sql, &arguments)?)
}

fn steps(session: &mut Session<'_, '_>, graph: &Graph, reached: &Reached) -> Outcome<Vec<Step>> {
    let mut steps: BTreeMap<(u8, String, Option<String>), i64> = BTreeMap::new();
    for (oid, rows) in &reached.rows {
        let Some(parent) = graph.table(*oid).filter(|_| !rows.is_empty()) else {
            continue;
        };
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        steps.insert((0, parent.shown.clone(), None), count);
        for (reference, child) in graph.references_to(*oid) {
            if takes_along(reference, child, parent) {
                continue;
            }
            let others = referring(session, reference, child, parent, rows)?
                .into_iter()
                .filter(|row| reference.on_delete.sets_columns() || !reached.contains(row))
                .count();
            if others > 0 {
                let what = match reference.on_delete {
                    OnDelete::SetNull => 1,
                    OnDelete::SetDefault => 2,
                    OnDelete::Cascade | OnDelete::Restrict => 3,
                };
                let step = (what, child.shown.clone(), Some(reference.name.clone()));
                *steps.entry(step).or_default() += i64::try_from(others).unwrap_or(i64::MAX);
            }
        }
    }
    let actions = ["delete", "set null", "set default", "restrict"];
    Ok(steps
        .into_iter()
        .map(|((what, table, reference), count)| {
            let action = actions.get(usize::from(what)).copied().unwrap_or_default();
            (action.to_owned(), table, reference, count)
        })
        .collect())
}
