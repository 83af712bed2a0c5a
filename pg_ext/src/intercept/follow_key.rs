//! Deleted rows that refer to a key that changes.
//!
//! They are still in their table, so the foreign key would keep the key as it is, although a row that is gone would not. The
//! trigger comes before the foreign key's own.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};

use crate::call::trigger_call::{AfterUpdate, Answer, Call, Updated};
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::intercept::guard::keep_unresolved;
use crate::model::error::Outcome;
use crate::model::reference::{Pair, Reference};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::spi::session::{Session, first_column, with_session};

/// AFTER UPDATE of a key: the deleted rows that refer to it refer to the new one.
#[pg_extern]
fn follow_key(call: Call<'_, AfterUpdate>) -> Result<Answer<'_>, ErrorReport> {
    let graph = cache::known()?;
    if let Some(parent) = graph.managed_or_root(call.relation) {
        let moved: Vec<_> = referring(&graph, parent.oid)
            .filter(|(reference, child)| {
                is_moved(&call.rows, reference) && !knows_by(child, reference)
            })
            .collect();
        if !moved.is_empty() {
            with_session(|session| -> Outcome<()> {
                for (reference, child) in moved {
                    reference.check_readable(child, parent)?;
                    follow(session, &call.rows, reference, child)?;
                }
                Ok(())
            })?;
        }
    }
    Ok(Answer::nothing())
}

/// The foreign keys of tables kept in place that refer to a table. Not one with a PERIOD: the range of a deleted row is its own, and its parents
/// only cover it, so the foreign key keeps them as they are.
fn referring(graph: &Graph, parent: pg_sys::Oid) -> impl Iterator<Item = (&Reference, &Table)> {
    graph.references_to(parent).filter(|(reference, child)| {
        child.managed && !reference.is_declared() && !reference.has_period
    })
}

/// Whether a column that the reference refers to has changed, by so much as a bit.
fn is_moved(rows: &Updated<'_>, reference: &Reference) -> bool {
    reference.pairs.iter().any(|pair| has_moved(rows, pair))
}

fn has_moved(rows: &Updated<'_>, pair: &Pair) -> bool {
    !rows.old.has_same(rows.new, &pair.parent.0)
}

/// Whether the referring columns are of the key by which the registry knows a deleted row: that stays.
fn knows_by(child: &Table, reference: &Reference) -> bool {
    let mut key = child.key.iter();
    key.any(|key| reference.pairs.iter().any(|pair| pair.child == key.name))
}

fn follow(
    session: &mut Session<'_, '_>,
    rows: &Updated<'_>,
    reference: &Reference,
    child: &Table,
) -> Outcome<()> {
    let mut values = Vec::with_capacity(2 * reference.pairs.len());
    let mut was = Vec::new();
    for pair in &reference.pairs {
        values.push(rows.old.argument(&pair.parent.0)?);
        was.push(format!("${} AS {}", values.len(), pair.parent));
    }
    let refer = format!(
        "{joins} AND c.deletion_id IS NOT NULL",
        joins = reference.joins("c", "p"),
    );
    let (children, was) = (child.rows(), join(was, ", "));
    let deletions = format!(
        "SELECT DISTINCT c.deletion_id FROM (SELECT {was}) AS p, {children} AS c WHERE {refer}"
    );
    let deletions: Vec<Uuid> = first_column(session.as_owner(child, &deletions, &values)?)?;
    if deletions.is_empty() {
        return Ok(());
    }
    for deletion in deletions {
        keep_unresolved(session, child, deletion)?;
    }
    let mut set = Vec::new();
    // What is equal in another spelling stays as the deleted row has it.
    let moved = reference.pairs.iter().filter(|pair| has_moved(rows, pair));
    for pair in moved {
        values.push(rows.new.argument(&pair.parent.0)?);
        set.push(format!("{} = ${}", pair.child, values.len()));
    }
    let set = join(set, ", ");
    let update = format!("UPDATE {children} AS c SET {set} FROM (SELECT {was}) AS p WHERE {refer}");
    session.write(child, &update, &values)?;
    Ok(())
}
