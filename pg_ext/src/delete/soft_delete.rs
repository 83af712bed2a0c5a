//! Soft delete: one deletion, its root, and everything that cascades from it.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB, Uuid};

use crate::access::caller::Caller;
use crate::access::target_row::{self, Key, RootRow, key_from_any};
use crate::call::arguments::Regclass;
use crate::delete::cascade;
use crate::graph::reference_graph::{Graph, Table};
use crate::manage::manage_table::oid_of;
use crate::model::error::{Failure, Outcome, required};
use crate::registry::locks::{Lock, Mode};
use crate::spi::session::{Session, with_session};

/// Soft-deletes the row of `table` with this key and every row that refers to it by a cascading
/// reference, in one deletion whose id it returns. `key` is a value of the primary key's type, or
/// jsonb with a member for each of its columns. A row that is deleted already keeps its deletion,
/// whose id is returned.
///
/// # Errors
/// P0002 when there is no such row; 23503 when live rows restrict the deletion; 42501 without the
/// DELETE privilege; 55000 when the table is not managed; 40001 to be retried.
#[pg_extern]
fn soft_delete(
    relation: Option<Regclass>,
    key: Option<AnyElement>,
    reason: default!(Option<&str>, "NULL"),
) -> Result<Uuid, ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let key = required(key, "key")?;
    let key = key_from_any(&key);
    Ok(with_session(|session| run(session, oid, key, reason))?)
}

/// The same, with the key as text in the form that the key's type reads.
#[pg_extern(name = "soft_delete")]
fn soft_delete_text(
    relation: Option<Regclass>,
    key: Option<&str>,
    reason: default!(Option<&str>, "NULL"),
) -> Result<Uuid, ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let key = Key::Text(required(key, "key")?);
    Ok(with_session(|session| run(session, oid, key, reason))?)
}

fn run(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: Key<'_>,
    reason: Option<&str>,
) -> Outcome<Uuid> {
    let graph = Graph::current(session)?;
    let root = graph.managed(session, oid)?;
    let not_found = || Failure::RowNotFound {
        table: root.shown.clone(),
    };
    let row = target_row::find(session, root, key)?.ok_or_else(not_found)?;
    if let Some(deletion) = row.deletion {
        return Ok(deletion);
    }
    // The row may have changed hands since it was read: only the lock says.
    if let Some(deletion) = lock_root(session, root, &row)?.ok_or_else(not_found)? {
        return Ok(deletion);
    }
    let deletion = new_deletion();
    mark_root(session, root, deletion, &row)?;
    let (roots, key) = roots_of(session, root, deletion)?;
    if roots != 1 {
        return Err(Failure::Prevented {
            table: root.shown.clone(),
        });
    }
    record(session, root, deletion, key, reason)?;
    cascade::carry_out(session, graph, oid, roots, deletion)?;
    Ok(deletion)
}

/// Locks the root against whoever would refer to it. `None`: it is gone; `Some(Some(_))`: it has
/// been deleted meanwhile.
fn lock_root(
    session: &mut Session<'_, '_>,
    root: &Table,
    row: &RootRow<'_>,
) -> Outcome<Option<Option<Uuid>>> {
    let sql = format!(
        "SELECT t.deletion_id FROM {} AS t WHERE {} FOR UPDATE",
        root.rows(),
        row.condition(root)
    );
    let mut rows = session.as_owner(root, &sql, &row.args())?;
    match rows.next() {
        None => Ok(None),
        Some(row) => Ok(Some(row.get(1)?)),
    }
}

const RECORD: &str = include_str!("record_deletion.sql");

/// The id of a deletion to be: in the order of time.
pub fn new_deletion() -> Uuid {
    Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// Enters a deletion in the registry. `key` is its root's, or `None` when it has several roots.
pub fn record(
    session: &mut Session<'_, '_>,
    root: &Table,
    deletion: Uuid,
    key: Option<JsonB>,
    reason: Option<&str>,
) -> Outcome<()> {
    // Read before the rights change: the extension's owner is not who deletes.
    let caller = Caller::of(session)?;
    Lock::Retention(root.oid).take(Mode::Shared);
    session.registry(
        RECORD,
        &[
            deletion.into(),
            root.oid.into(),
            key.into(),
            reason.into(),
            caller.role.into(),
            caller.session_role.into(),
        ],
    )?;
    Ok(())
}

fn mark_root(
    session: &mut Session<'_, '_>,
    root: &Table,
    deletion: Uuid,
    row: &RootRow<'_>,
) -> Outcome<()> {
    let mut args = row.args();
    args.push(deletion.into());
    let sql = format!(
        "UPDATE {rows} AS t SET deleted_at = pg_catalog.now(), deletion_id = ${last} WHERE {condition}",
        rows = root.rows(),
        last = args.len(),
        condition = row.condition(root),
    );
    session.write(root, &sql, &args)?;
    Ok(())
}

/// How many rows of its root's table a deletion has marked, and the key of the only one as it is
/// now: a trigger of the table may have changed it.
pub fn roots_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<(usize, Option<JsonB>)> {
    let of_deletion = format!("FROM {} AS t WHERE t.deletion_id = $1", table.rows());
    let count = format!("SELECT count(*) {of_deletion}");
    let count: i64 = session
        .as_owner(table, &count, &[deletion.into()])?
        .first()
        .get_one()?
        .unwrap_or(0);
    let key = if count == 1 {
        let key = format!("SELECT {} {of_deletion}", table.key_json("t"));
        let found = session.as_owner(table, &key, &[deletion.into()])?;
        found.first().get_one()?
    } else {
        None
    };
    Ok((usize::try_from(count).unwrap_or(0), key))
}
