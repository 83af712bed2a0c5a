//! Soft delete: one deletion, its root, and everything that cascades from it.

use std::collections::HashMap;

use pgrx::PgRelation;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};

use crate::error::{Failure, Outcome, required};
use crate::graph::{Graph, OnDelete, Reference, Table};
use crate::manage::oid_of;
use crate::root_row::{self, Key, RootRow, key_from_any};
use crate::session::{Session, with_session};

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
    relation: Option<PgRelation>,
    key: Option<AnyElement>,
    reason: default!(Option<&str>, "NULL"),
) -> Result<Uuid, ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let key = key_from_any(&required(key, "key")?);
    Ok(with_session(|session| run(session, oid, key, reason))?)
}

/// The same, with the key as text in the form that the key's type reads.
#[pg_extern(name = "soft_delete")]
fn soft_delete_text(
    relation: Option<PgRelation>,
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
    let row = root_row::find(session, root, key)?.ok_or_else(not_found)?;
    if let Some(deletion) = row.deletion {
        return Ok(deletion);
    }
    // The row may have changed hands since it was read: only the lock says.
    if let Some(deletion) = lock_root(session, root, &row)?.ok_or_else(not_found)? {
        return Ok(deletion);
    }
    let deletion = Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes());
    mark_root(session, root, deletion, &row)?;
    record(session, root, deletion, row, reason)?;
    let removed = cascade(session, &graph, root, deletion)?;
    refuse_if_referred(session, &graph, root, &removed, deletion)?;
    count_rows(session, &removed, deletion)?;
    Ok(deletion)
}

/// Locks the root against whoever would refer to it. `None`: it is gone; `Some(Some(_))`: it has
/// been deleted meanwhile.
fn lock_root(
    session: &mut Session<'_, '_>,
    root: &Table,
    row: &RootRow,
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

const RECORD: &str = include_str!("../sql/record_deletion.sql");

fn record(
    session: &mut Session<'_, '_>,
    root: &Table,
    deletion: Uuid,
    row: RootRow,
    reason: Option<&str>,
) -> Outcome<()> {
    // Read before the rights change: the extension's owner is not who deletes.
    let caller = session
        .catalog("SELECT current_user::text", &[])?
        .first()
        .get_one::<String>()?;
    session.registry(
        RECORD,
        &[
            deletion.into(),
            root.oid.into(),
            row.key.into(),
            reason.into(),
            caller.into(),
        ],
    )?;
    Ok(())
}

fn mark_root(
    session: &mut Session<'_, '_>,
    root: &Table,
    deletion: Uuid,
    row: &RootRow,
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
    let marked = format!(
        "SELECT 1 FROM {} AS t WHERE t.deletion_id = $1",
        root.rows()
    );
    if session.exists(root, &marked, deletion)? {
        Ok(())
    } else {
        Err(Failure::Prevented {
            table: root.shown.clone(),
        })
    }
}

/// How many rows of each table a deletion removed.
type Removed = HashMap<pg_sys::Oid, usize>;

/// Carries the deletion down the graph, parents before children; a group of tables that refer to
/// each other is gone over until nothing more is found.
fn cascade(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    root: &Table,
    deletion: Uuid,
) -> Outcome<Removed> {
    let mut removed = Removed::from([(root.oid, 1)]);
    for group in graph.parents_first() {
        let repeats = graph.is_cycle(&group);
        while cascade_into(session, graph, &group, deletion, &mut removed)? > 0 && repeats {}
    }
    Ok(removed)
}

fn cascade_into(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    deletion: Uuid,
    removed: &mut Removed,
) -> Outcome<usize> {
    let mut found = 0;
    for child in group.iter().filter(|table| table.managed) {
        for (reference, parent) in graph.references_of(child.oid) {
            if reference.on_delete == OnDelete::Cascade && removed.contains_key(&parent.oid) {
                let rows = cascade_along(session, graph, reference, child, parent, deletion)?;
                if rows > 0 {
                    *removed.entry(child.oid).or_default() += rows;
                }
                found += rows;
            }
        }
    }
    Ok(found)
}

/// One step: lock the live children, then mark them. Two statements, because one that had waited
/// for a lock would still not see the rows committed while it waited.
fn cascade_along(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<usize> {
    reference.check_readable(child, parent)?;
    let (children, parents) = (child.rows(), parent.rows());
    let condition = format!(
        "p.deletion_id OPERATOR(pg_catalog.=) $1 AND {} AND c.deleted_at IS NULL",
        reference.joins("c", "p")
    );
    let found = format!(
        "SELECT 1 FROM {children} AS c WHERE c.deleted_at IS NULL
         AND EXISTS (SELECT FROM {parents} AS p WHERE {condition})"
    );
    if graph.references_to(child.oid).next().is_some() {
        let lock = format!(
            "SELECT count(*) FROM ({found} ORDER BY {key} FOR UPDATE OF c) AS locked",
            key = child.key_columns("c"),
        );
        session.as_owner(child, &lock, &[deletion.into()])?;
    }
    let mark = format!(
        "UPDATE {children} AS c SET deleted_at = pg_catalog.now(), deletion_id = $1
         FROM {parents} AS p WHERE {condition}"
    );
    let rows = session.write(child, &mark, &[deletion.into()])?.len();
    if child.may_prevent_update && session.exists(child, &found, deletion)? {
        return Err(Failure::Prevented {
            table: child.shown.clone(),
        });
    }
    Ok(rows)
}

/// After the cascade nothing live may refer to what was removed. What does is a row that restricts
/// the deletion, or, under an old snapshot, a child that the cascade could not see.
fn refuse_if_referred(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    root: &Table,
    removed: &Removed,
    deletion: Uuid,
) -> Outcome<()> {
    let mut referrers = Vec::new();
    for parent in removed.keys().filter_map(|oid| graph.table(*oid)) {
        for (reference, child) in graph.references_to(parent.oid) {
            let cascades = reference.on_delete == OnDelete::Cascade && child.managed;
            let settled = cascades && !session.keeps_its_snapshot();
            if reference.on_delete == OnDelete::Detach || settled {
                continue;
            }
            reference.check_readable(child, parent)?;
            if !is_referred(session, reference, child, parent, deletion)? {
                continue;
            }
            if cascades {
                return Err(Failure::ConcurrentChild {
                    table: root.shown.clone(),
                });
            }
            referrers.push(format!(
                "{} (constraint \"{}\")",
                child.shown, reference.name
            ));
        }
    }
    if referrers.is_empty() {
        Ok(())
    } else {
        referrers.sort();
        Err(Failure::Blocked {
            table: root.shown.clone(),
            referrers,
        })
    }
}

fn is_referred(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<bool> {
    let sql = format!(
        "SELECT 1 FROM {parent} AS p JOIN {child} AS c ON {joins}
         WHERE p.deletion_id OPERATOR(pg_catalog.=) $1 AND {live} LIMIT 1",
        parent = parent.rows(),
        child = child.rows(),
        joins = reference.joins("c", "p"),
        live = if child.managed {
            "c.deleted_at IS NULL"
        } else {
            "true"
        },
    );
    session.exists_now((child.oid, child.owner), &sql, &[deletion.into()])
}

/// Writes down how many rows of each table the deletion holds.
fn count_rows(session: &mut Session<'_, '_>, removed: &Removed, deletion: Uuid) -> Outcome<()> {
    for (table, rows) in removed {
        let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
        session.registry(
            "INSERT INTO keepsake.deletion_table (deletion_id, relation, row_count) VALUES ($1, $2, $3)",
            &[deletion.into(), (*table).into(), rows.into()],
        )?;
    }
    Ok(())
}
