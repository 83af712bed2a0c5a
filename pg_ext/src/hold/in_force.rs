//! Which holds are in force: what a purge asks, and what a trigger asks of one row.

use std::collections::{HashMap, HashSet};

use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};

use crate::call::trigger_row::Row;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Literal, join};
use crate::model::table::Table;
use crate::registry::locks::{Lock, Mode};
use crate::spi::session::{Session, first_cell, first_column};

/// Locks of tenants share so many places of the lock table, however many tenants there are.
const PLACES: i64 = 64;

/// Locks tenants until the transaction ends: a purge shares them, whoever holds one has it alone.
pub fn lock_tenants(session: &mut Session<'_, '_>, tenants: &[String], mode: Mode) -> Outcome<()> {
    if tenants.is_empty() {
        return Ok(());
    }
    let places: Vec<i64> = first_column(session.registry_kept(
        "SELECT DISTINCT (hashtext(t)::bigint & ($2 - 1)) + 1 FROM unnest($1) AS t ORDER BY 1",
        &[tenants.to_vec().into(), PLACES.into()],
    )?)?;
    for place in places {
        Lock::Tenants(u32::try_from(place).unwrap_or(1)).take(mode);
    }
    Ok(())
}

/// Which of these deletions are held; the caller has locked them. `by_row`: because of a row in them.
pub struct Holds {
    held: HashSet<[u8; 16]>,
    /// Those in which a single row is held.
    pub by_row: Vec<Uuid>,
}

impl Holds {
    /// Whether the deletion is held.
    pub fn contain(&self, deletion: Uuid) -> bool {
        self.held.contains(deletion.as_bytes())
    }
}

/// Locks the tenants of these deletions, which the caller has locked, and finds those that are held.
pub fn locked(session: &mut Session<'_, '_>, graph: &Graph, deletions: &[Uuid]) -> Outcome<Holds> {
    let tenants: Vec<String> = first_column(session.registry_kept(
        "SELECT DISTINCT tenant FROM keepsake.deletion WHERE id = ANY ($1)",
        &[deletions.to_vec().into()],
    )?)?;
    lock_tenants(session, &tenants, Mode::Shared)?;
    let holds = find(session, graph, deletions)?;
    refuse_unseen(session, deletions)?;
    Ok(holds)
}

/// Finds those of the deletions that are held.
pub fn find(session: &mut Session<'_, '_>, graph: &Graph, deletions: &[Uuid]) -> Outcome<Holds> {
    let whole: Vec<Uuid> = first_column(session.registry_kept(
        "SELECT d.id FROM keepsake.hold h JOIN keepsake.deletion d ON d.id = h.deletion_id OR d.tenant = h.tenant
         WHERE h.released_at IS NULL AND d.id = ANY ($1)",
        &[deletions.to_vec().into()],
    )?)?;
    let mut keys: HashMap<pg_sys::Oid, Vec<JsonB>> = HashMap::new();
    for row in session.registry_kept(
        "SELECT h.relation::oid, h.row_key FROM keepsake.hold h
         WHERE h.released_at IS NULL AND h.relation IN (
             SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = ANY ($1) AND t.purged < t.row_count)",
        &[deletions.to_vec().into()],
    )? {
        if let (Some(relation), Some(key)) = (row.get(1)?, row.get(2)?) {
            keys.entry(relation).or_default().push(key);
        }
    }
    let mut by_row = Vec::new();
    for (relation, keys) in keys {
        if let Some(table) = graph.table(relation) {
            by_row.extend(with_held_row(session, table, keys, deletions)?);
        }
    }
    let held = whole
        .iter()
        .chain(&by_row)
        .map(|id| *id.as_bytes())
        .collect();
    Ok(Holds { held, by_row })
}

/// Those of the deletions that hold a row with one of these keys. A hold from before a key column
/// was renamed no longer says which row: it covers them all.
fn with_held_row(
    session: &mut Session<'_, '_>,
    table: &Table,
    keys: Vec<JsonB>,
    deletions: &[Uuid],
) -> Outcome<Vec<Uuid>> {
    let names_key = |key: &JsonB| {
        table
            .key
            .iter()
            .all(|column| key.0.get(&column.name.0).is_some())
    };
    let condition = if keys.iter().all(names_key) {
        join(
            table.key.iter().map(|column| {
                format!(
                    "t.{name} {equals} (h.key OPERATOR(pg_catalog.->>) {member})::{type_sql}",
                    name = column.name,
                    equals = column.equals,
                    member = Literal(&column.name.0),
                    type_sql = column.type_sql,
                )
            }),
            " AND ",
        )
    } else {
        "true".into()
    };
    let sql = format!(
        "SELECT DISTINCT t.deletion_id FROM pg_catalog.unnest($1) AS h (key) JOIN {} AS t ON {condition}
         WHERE t.deletion_id = ANY ($2)",
        table.rows()
    );
    first_column(session.as_owner(table, &sql, &[keys.into(), deletions.to_vec().into()])?)
}

/// Under REPEATABLE READ and SERIALIZABLE: refuses when there are holds, or rows of these deletions,
/// that the transaction's snapshot does not show.
fn refuse_unseen(session: &mut Session<'_, '_>, deletions: &[Uuid]) -> Outcome<()> {
    if !session.keeps_its_snapshot() {
        return Ok(());
    }
    let holds: Option<Vec<i64>> = first_cell(session.registry(
        "SELECT coalesce(array_agg(id), '{}') FROM keepsake.hold WHERE released_at IS NULL",
        &[],
    )?)?;
    let rows: Option<Vec<i64>> = first_cell(session.registry(
        "SELECT array_agg((SELECT coalesce(sum(t.row_count), 0) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id)::bigint ORDER BY d.n)
         FROM unnest($1) WITH ORDINALITY AS d (id, n)",
        &[deletions.to_vec().into()],
    )?)?;
    let moved = session.registry_exists_now(
        "SELECT 1 FROM keepsake.hold WHERE released_at IS NULL AND id <> ALL ($1)
         UNION ALL
         SELECT 1 FROM unnest($2, $3) AS d (id, rows)
         WHERE d.rows <> (SELECT coalesce(sum(t.row_count), 0) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id)",
        &[holds.into(), deletions.to_vec().into(), rows.into()],
    )?;
    if moved {
        Err(Failure::RegistryMoved)
    } else {
        Ok(())
    }
}

/// Refuses what would take a held row, which a trigger is called for, out of its hold.
pub fn refuse_if_held(session: &mut Session<'_, '_>, table: &Table, row: Row<'_>) -> Outcome<()> {
    let mut args = Vec::with_capacity(table.key.len());
    let mut pairs = Vec::with_capacity(table.key.len());
    for column in &table.key {
        args.push(row.argument(&column.name.0)?);
        pairs.push(format!("{}, ${}", Literal(&column.name.0), args.len()));
    }
    // As the table's owner: a type may bring a cast to json of its own.
    let sql = format!(
        "SELECT pg_catalog.jsonb_build_object({})",
        join(pairs, ", ")
    );
    let key: Option<JsonB> = first_cell(session.as_owner(table, &sql, &args)?)?;
    let held = session.registry_exists_now(
        "SELECT 1 FROM keepsake.hold WHERE released_at IS NULL AND relation = $1 AND row_key = $2",
        &[table.oid.into(), key.into()],
    )?;
    if held {
        return Err(Failure::HeldKey {
            table: table.shown.clone(),
        });
    }
    Ok(())
}
