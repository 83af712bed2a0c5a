//! Restore: undo of one deletion, exact or not at all.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Value, json};

use crate::conflict::{self, Conflict};
use crate::deletion::{self, Deletion, State};
use crate::error::{Failure, Outcome};
use crate::graph::{Graph, OnDelete, Table};
use crate::held::Held;
use crate::session::{Session, with_reading_session, with_session};

/// Makes live again exactly the rows that `deletion` removed, and says which:
/// `{"deletion_id", "restored": [{"table", "rows"}], "passed": [{"table", "rows", "deletion_id"}]}`.
/// Rows that another still-deleted parent removes as well pass to that parent's deletion. A second
/// call changes nothing and answers with empty lists.
///
/// # Errors
/// 23000 with every conflict in DETAIL as a JSON array, when bringing the rows back would break a
/// constraint or put a row under a deleted parent; P0002 when there is no such deletion; 55000
/// when its purge has begun; 42501 without the DELETE privilege.
#[pg_extern]
fn restore(deletion: Uuid) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(with_session(|session| run(session, deletion))?))
}

/// Every conflict that `restore(deletion)` would meet now; none when it would succeed. `holder` is
/// null where the caller may not see the row that holds the place.
///
/// # Errors
/// As `restore`, but for 23000.
#[pg_extern]
#[expect(
    clippy::type_complexity,
    reason = "pgrx reads the columns from the type as it is written"
)]
fn restore_conflicts(
    deletion: Uuid,
) -> Result<
    TableIterator<
        'static,
        (
            name!(kind, String),
            name!(table_name, String),
            name!(key, JsonB),
            name!(constraint_name, String),
            name!(key_values, JsonB),
            name!(holder, Option<JsonB>),
        ),
    >,
    ErrorReport,
> {
    let conflicts = with_reading_session(|session| preview(session, deletion))?;
    Ok(TableIterator::new(conflicts.into_iter().map(|conflict| {
        let holder = if conflict.holder.is_null() {
            None
        } else {
            Some(JsonB(conflict.holder))
        };
        (
            conflict.kind.to_owned(),
            conflict.table,
            JsonB(conflict.key),
            conflict.constraint,
            JsonB(conflict.values),
            holder,
        )
    })))
}

fn preview(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Vec<Conflict>> {
    let graph = Graph::current(session)?;
    let deletion = Deletion::authorised(session, &graph, id, false)?;
    if !still_deleted(&deletion)? {
        return Ok(Vec::new());
    }
    let tables = deletion::holding(session, &graph, &[id])?;
    let held = find_held(session, &graph, &tables, &deletion)?;
    conflict::find_all(session, &graph, &tables, id, &held)
}

fn run(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Value> {
    let graph = Graph::current(session)?;
    let deletion = Deletion::authorised(session, &graph, id, true)?;
    if !still_deleted(&deletion)? {
        return Ok(json!({ "deletion_id": id.to_string(), "restored": [], "passed": [] }));
    }
    let tables = deletion::holding(session, &graph, &[id])?;
    lock_parents(session, &graph, &tables, id)?;
    lock_rows(session, &tables, id)?;
    let held = lock_holders(session, &graph, &tables, &deletion)?;
    let conflicts = conflict::find_all(session, &graph, &tables, id, &held)?;
    if !conflicts.is_empty() {
        return Err(Failure::RestoreConflicts { conflicts });
    }
    let mut passed = Vec::new();
    let mut restored = Vec::new();
    for table in tables.iter().flatten() {
        passed.extend(pass_on(session, table, id, &held)?);
        restored.extend(revive(session, table, id)?);
    }
    session.registry(
        "UPDATE keepsake.deletion SET state = 'restored', settled_at = now() WHERE id = $1",
        &[id.into()],
    )?;
    Ok(json!({ "deletion_id": id.to_string(), "restored": restored, "passed": passed }))
}

fn still_deleted(deletion: &Deletion) -> Outcome<bool> {
    match deletion.state {
        State::Deleted => Ok(true),
        State::Restored => Ok(false),
        State::Purging | State::Purged => Err(Failure::Purged {
            deletion: deletion.id.to_string(),
        }),
    }
}

/// Locks every row that a row of the deletion refers to, as a foreign key's check would: a
/// deletion of that parent now waits for this restore, or this restore for it.
fn lock_parents(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
) -> Outcome<()> {
    for child in tables.iter().flatten() {
        for (reference, parent) in graph.references_of(child.oid) {
            if reference.on_delete == OnDelete::Detach {
                continue;
            }
            reference.check_readable(child, parent)?;
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {parent} AS p WHERE p.deletion_id IS DISTINCT FROM $1
                 AND EXISTS (SELECT FROM {child} AS c WHERE c.deletion_id = $1 AND {joins})
                 ORDER BY {key} FOR KEY SHARE OF p) AS locked",
                parent = parent.rows(),
                child = child.rows(),
                joins = reference.joins_by_parent_key("c", "p"),
                key = parent.key_columns("p"),
            );
            session.as_owner(parent, &sql, &[deletion.into()])?;
        }
    }
    Ok(())
}

/// Locks the rows of the deletion, so that the addresses by which held rows are known stay theirs.
fn lock_rows(session: &mut Session<'_, '_>, tables: &[Vec<&Table>], deletion: Uuid) -> Outcome<()> {
    for table in tables.iter().rev().flatten() {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} AS t WHERE t.deletion_id = $1 ORDER BY {} FOR UPDATE) AS locked",
            table.rows(),
            table.key_columns("t"),
        );
        session.as_owner(table, &sql, &[deletion.into()])?;
    }
    Ok(())
}

/// Finds the held rows and locks the deletions they would pass to, so that none of those is
/// restored or purged between this look and the passing; looks again until the two agree.
fn lock_holders(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: &Deletion,
) -> Outcome<Held> {
    let mut held = find_held(session, graph, tables, deletion)?;
    loop {
        let holders = held.deletions();
        if holders.is_empty() {
            return Ok(held);
        }
        session.registry(
            "SELECT 1 FROM keepsake.deletion WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
            &[holders.clone().into()],
        )?;
        held = find_held(session, graph, tables, deletion)?;
        if held
            .deletions()
            .iter()
            .all(|holder| holders.contains(holder))
        {
            return Ok(held);
        }
    }
}

fn find_held(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: &Deletion,
) -> Outcome<Held> {
    let root = graph.managed(session, deletion.root_table)?;
    let is_root = deletion.is_root(root);
    Held::find(session, graph, tables, (root, &is_root), deletion.id)
}

/// Passes the held rows of `table` to the deletions that hold them, with their time, so that they
/// expire together.
fn pass_on(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
    held: &Held,
) -> Outcome<Vec<Value>> {
    let mut passed = Vec::new();
    for (holder, rows) in held.passed(table.oid) {
        let holder = Uuid::from_bytes(holder);
        let since: Option<TimestampWithTimeZone> = session
            .registry(
                "SELECT deleted_at FROM keepsake.deletion WHERE id = $1",
                &[holder.into()],
            )?
            .first()
            .get_one()?;
        let (tids, deletions) = held.arrays(table.oid);
        let sql = format!(
            "UPDATE {} AS t SET deletion_id = $4, deleted_at = coalesce($5, t.deleted_at)
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS h (row, deletion)
             WHERE t.ctid OPERATOR(pg_catalog.=) h.row AND h.deletion OPERATOR(pg_catalog.=) $4
               AND t.deletion_id OPERATOR(pg_catalog.=) $3",
            table.rows()
        );
        let args = [
            tids,
            deletions,
            deletion.into(),
            holder.into(),
            since.into(),
        ];
        let changed = session.write(table, &sql, &args)?.len();
        if i64::try_from(changed) != Ok(rows) {
            return Err(Failure::Prevented {
                table: table.shown.clone(),
            });
        }
        session.registry(
            "WITH given AS (
                 UPDATE keepsake.deletion_table SET row_count = row_count - $4
                 WHERE deletion_id = $1 AND relation = $3)
             INSERT INTO keepsake.deletion_table (deletion_id, relation, row_count) VALUES ($2, $3, $4)
             ON CONFLICT (deletion_id, relation) DO UPDATE SET row_count = deletion_table.row_count + $4",
            &[deletion.into(), holder.into(), table.oid.into(), rows.into()],
        )?;
        passed
            .push(json!({ "table": table.shown, "rows": rows, "deletion_id": holder.to_string() }));
    }
    Ok(passed)
}

fn revive(session: &mut Session<'_, '_>, table: &Table, deletion: Uuid) -> Outcome<Option<Value>> {
    let of_deletion = "WHERE t.deletion_id OPERATOR(pg_catalog.=) $1";
    let target = table.rows();
    let sql =
        format!("UPDATE {target} AS t SET deleted_at = NULL, deletion_id = NULL {of_deletion}");
    let rows = session.write(table, &sql, &[deletion.into()])?.len();
    let left = format!("SELECT 1 FROM {target} AS t {of_deletion}");
    if session.exists(table, &left, deletion)? {
        return Err(Failure::Prevented {
            table: table.shown.clone(),
        });
    }
    Ok((rows > 0).then(|| json!({ "table": table.shown, "rows": rows })))
}
