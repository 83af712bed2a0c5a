//! Soft delete: one deletion, its root, and everything that cascades from it.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};

use crate::access::target_row::{self, Key, TargetRow, key_from_any};
use crate::archive::{removal, setting};
use crate::call::arguments::Regclass;
use crate::delete::cascade;
use crate::delete::record::{record, roots_of};
use crate::graph::cache;
use crate::graph::catalog;
use crate::model::error::{Failure, Outcome, required};
use crate::model::table::Table;
use crate::registry::archived;
use crate::registry::deletion_group::{How, new_deletion};
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
    let oid = required(relation, "relation")?.oid();
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
    let oid = required(relation, "relation")?.oid();
    let key = Key::Text(required(key, "key")?);
    Ok(with_session(|session| run(session, oid, key, reason))?)
}

fn run(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: Key<'_>,
    reason: Option<&str>,
) -> Outcome<Uuid> {
    if archived::has_archive(session, oid)? {
        return archive(session, oid, key, reason);
    }
    let graph = cache::current(session)?;
    let root = graph.managed(session, oid)?;
    let not_found = || Failure::RowNotFound {
        table: root.shown.clone(),
    };
    // What concerns the root alone, which is one row.
    session.keep_plans(true);
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
    session.keep_plans(false);
    let (roots, key) = roots_of(session, root, deletion)?;
    if roots != 1 {
        return Err(Failure::Prevented {
            table: root.shown.clone(),
        });
    }
    record(root, deletion, key, reason, How::Call)?;
    cascade::carry_out(session, graph, oid, roots, deletion)?;
    Ok(deletion)
}

/// Deletes a row of a table with an archive: PostgreSQL's own DELETE, by the caller's rights to the row, as the table's owner,
/// whose triggers fire.
fn archive(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: Key<'_>,
    reason: Option<&str>,
) -> Outcome<Uuid> {
    let missing = || Failure::RowNotFound {
        table: "pg_class".into(),
    };
    let root = catalog::table(session, oid)?.ok_or_else(missing)?;
    let not_found = || Failure::RowNotFound {
        table: root.shown.clone(),
    };
    let row = target_row::find(session, &root, key)?.ok_or_else(not_found)?;
    let sql = format!(
        "DELETE FROM {} AS t WHERE {}",
        root.rows(),
        row.condition(&root)
    );
    if !setting::is_on() {
        return Err(Failure::BadArgument {
            what: "keepsake.capture is off: the row would be deleted for good".into(),
            fix: "Use DELETE, or SET keepsake.capture = on.".into(),
        });
    }
    let deletion = removal::alone(reason, || session.write(&root, &sql, &row.args()).map(drop))?;
    deletion.ok_or_else(not_found)
}

/// Locks the root against whoever would refer to it. `None`: it is gone; `Some(Some(_))`: it has
/// been deleted meanwhile.
fn lock_root(
    session: &mut Session<'_, '_>,
    root: &Table,
    row: &TargetRow<'_>,
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

fn mark_root(
    session: &mut Session<'_, '_>,
    root: &Table,
    deletion: Uuid,
    row: &TargetRow<'_>,
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
