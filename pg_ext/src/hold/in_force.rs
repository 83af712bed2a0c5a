//! Which holds are in force: what a purge asks, and what a trigger asks of one row.

use std::collections::{HashMap, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::SpiTupleTable;
use pgrx::{JsonB, Uuid};

use crate::archive::find_rows;
use crate::call::trigger_row::Row;
use crate::graph::catalog;
use crate::graph::reference_graph::Graph;
use crate::graph::stored_columns;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::join;
use crate::model::stored_value::{are_equal, row_of_object};
use crate::model::table::Table;
use crate::postgres::subtransaction::{Caught, attempt_unless};
use crate::registry::locks::{Lock, Mode};
use crate::registry::stored_key::StoredKey;
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
    let mut found = Found::read(session, deletions)?;
    if !found.tenants.is_empty() {
        lock_tenants(session, &found.tenants, Mode::Shared)?;
        // One may have been made until the lock was had.
        found = Found::read(session, deletions)?;
    }
    let holds = found.holds(session, graph, deletions)?;
    refuse_unseen(session, deletions)?;
    Ok(holds)
}

/// Finds those of the deletions that are held.
pub fn find(session: &mut Session<'_, '_>, graph: &Graph, deletions: &[Uuid]) -> Outcome<Holds> {
    Found::read(session, deletions)?.holds(session, graph, deletions)
}

/// What may concern deletions: holds of a whole one, or of its tenant, by the deletion; holds of a row by its table and key; and
/// the tenants.
const FOUND: &str = "
    SELECT d.id, NULL::oid, NULL::jsonb, NULL::text FROM keepsake.hold h JOIN keepsake.deletion d ON d.id = h.deletion_id OR d.tenant = h.tenant
    WHERE h.released_at IS NULL AND d.id = ANY ($1)
    UNION ALL
    SELECT NULL, h.relation::oid, h.row_key, NULL FROM keepsake.hold h
    WHERE h.released_at IS NULL AND h.relation IN (
        SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = ANY ($1) AND t.purged < t.row_count)
    UNION ALL
    SELECT NULL, NULL, NULL, d.tenant FROM keepsake.deletion d WHERE d.id = ANY ($1) AND d.tenant IS NOT NULL";

/// What [`FOUND`] finds.
#[derive(Default)]
struct Found {
    whole: Vec<Uuid>,
    keys: HashMap<pg_sys::Oid, Vec<JsonB>>,
    tenants: Vec<String>,
}

impl Found {
    fn read(session: &mut Session<'_, '_>, deletions: &[Uuid]) -> Outcome<Self> {
        let mut found = Self::default();
        for row in session.registry_planned_once(FOUND, &[deletions.to_vec().into()])? {
            found.whole.extend(row.get::<Uuid>(1)?);
            if let (Some(relation), Some(key)) = (row.get(2)?, row.get(3)?) {
                found.keys.entry(relation).or_default().push(key);
            }
            found.tenants.extend(row.get::<String>(4)?);
        }
        Ok(found)
    }

    /// The deletions that are held.
    fn holds(
        self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        deletions: &[Uuid],
    ) -> Outcome<Holds> {
        let mut by_row = Vec::new();
        for (relation, keys) in self.keys {
            match graph.table(relation).filter(|table| table.managed) {
                Some(table) => by_row.extend(with_held_row(session, table, keys, deletions)?),
                None => by_row.extend(find_rows::with_key(
                    session,
                    relation,
                    keys,
                    Some(deletions),
                )?),
            }
        }
        let held = self.whole.iter().chain(&by_row);
        let held = held.map(|id| *id.as_bytes()).collect();
        Ok(Holds { held, by_row })
    }
}

/// Those of the deletions that hold a row with one of these keys. A hold whose key no longer says which row, because a
/// column of it was dropped or changed its type, covers them all.
fn with_held_row(
    session: &mut Session<'_, '_>,
    table: &Table,
    keys: Vec<JsonB>,
    deletions: &[Uuid],
) -> Outcome<Vec<Uuid>> {
    let keys = HeldKeys { table, keys };
    let among = || Ok(vec![deletions.to_vec().into()]);
    let found =
        |rows| format!("SELECT DISTINCT t.deletion_id FROM {rows} AND t.deletion_id = ANY ($1)");
    let rows = keys.find(session, &table.rows(), &among, found)?;
    rows.map_or_else(|| Ok(Vec::new()), first_column)
}

/// The keys of rows of one table that are held.
struct HeldKeys<'a> {
    table: &'a Table,
    keys: Vec<JsonB>,
}

impl HeldKeys<'_> {
    /// Runs the statement that `sql` makes of the held rows `t` among `rows`, a FROM clause that ends in its WHERE.
    /// `None` where there is no key. The arguments are those of the statement, numbered from 1.
    fn find<'a, 'conn>(
        &self,
        session: &mut Session<'_, 'conn>,
        rows: &str,
        arguments: &dyn Fn() -> Outcome<Vec<DatumWithOid<'a>>>,
        sql: impl Fn(String) -> String,
    ) -> Outcome<Option<SpiTupleTable<'conn>>> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        if let Some(found) = self.find_at_once(session, rows, arguments, &sql)? {
            return Ok(Some(found));
        }
        let held = sql(format!("{rows} AS t WHERE ({})", self.conditions(session)?));
        session.as_owner(self.table, &held, &arguments()?).map(Some)
    }

    /// By a join with all keys. `None` where they cannot be read so.
    fn find_at_once<'a, 'conn>(
        &self,
        session: &mut Session<'_, 'conn>,
        rows: &str,
        arguments: &dyn Fn() -> Outcome<Vec<DatumWithOid<'a>>>,
        sql: &impl Fn(String) -> String,
    ) -> Outcome<Option<SpiTupleTable<'conn>>> {
        let names = self.table.key.iter().map(|column| column.name.0.as_str());
        let has_all = |key: &JsonB| {
            let members = key.0.as_object();
            members.is_some_and(|members| {
                members.len() == self.table.key.len()
                    && names.clone().all(|name| members.contains_key(name))
            })
        };
        if !self.keys.iter().all(has_all) {
            return Ok(None);
        }
        let Some(columns) = stored_columns::find(session, self.table, names.clone())? else {
            return Ok(None);
        };
        let mut all = arguments()?;
        let keys: Vec<JsonB> = self.keys.iter().map(|key| JsonB(key.0.clone())).collect();
        all.push(keys.into());
        let held = sql(format!(
            "pg_catalog.unnest(${n}) AS h (key), LATERAL {row} AS k, {rows} AS t WHERE {equal}",
            n = all.len(),
            row = row_of_object(&columns, "h.key"),
            equal = are_equal(&columns, "t", "k"),
        ));
        match attempt_unless(
            |raised| raised.by_interrupt,
            || session.as_owner(self.table, &held, &all),
        ) {
            Ok(found) => Ok(Some(found)),
            Err(Caught::Failure(failure)) => Err(failure),
            Err(Caught::Error { .. }) => Ok(None),
        }
    }

    /// The condition that row `t` has one of the keys, each by itself: what no longer says which row may be any.
    fn conditions(&self, session: &mut Session<'_, '_>) -> Outcome<String> {
        let mut terms = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            match StoredKey::read(session, self.table, &key.0)? {
                Some(key) => terms.push(format!("({})", key.condition())),
                None => return Ok("true".into()),
            }
        }
        Ok(join(terms, " OR "))
    }
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

/// Of a table and the one that it is a partition of: those that have held rows. A partition may have had holds before it was one.
pub fn tables_with_held_rows(
    session: &Session<'_, '_>,
    relation: pg_sys::Oid,
) -> Outcome<Vec<Table>> {
    let found = session.registry_now(
        "SELECT DISTINCT relation::oid FROM keepsake.hold
         WHERE released_at IS NULL AND row_key IS NOT NULL AND relation IN ($1, pg_partition_root($1))",
        &[relation.into()],
    )?;
    let mut tables = Vec::new();
    for row in &found {
        if let Some(oid) = row.get(1)? {
            tables.extend(catalog::table(session, oid)?);
        }
    }
    Ok(tables)
}

/// Refuses what would take a held row, which a trigger is called for, out of its hold.
pub fn refuse_if_held(session: &mut Session<'_, '_>, table: &Table, row: Row<'_>) -> Outcome<()> {
    let active = session.registry_now(
        "SELECT row_key FROM keepsake.hold WHERE released_at IS NULL AND relation = $1",
        &[table.oid.into()],
    )?;
    if active.is_empty() {
        return Ok(());
    }
    let mut keys = Vec::with_capacity(active.len());
    for hold in &active {
        keys.extend(hold.get::<JsonB>(1)?);
    }
    let values = || -> Outcome<Vec<DatumWithOid<'_>>> {
        let columns = table.columns.iter();
        columns.map(|column| row.argument(&column.0)).collect()
    };
    let columns = table.columns.iter().zip(1..);
    let columns = columns.map(|(column, n)| format!("${n} AS {column}"));
    let rows = format!("(SELECT {})", join(columns, ", "));
    let keys = HeldKeys { table, keys };
    let held = keys.find(session, &rows, &values, |rows| {
        format!("SELECT 1 FROM {rows} LIMIT 1")
    })?;
    if held.is_some_and(|held| !held.is_empty()) {
        return Err(Failure::HeldKey {
            table: table.shown.clone(),
        });
    }
    Ok(())
}
