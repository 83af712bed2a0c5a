//! Legal holds: on a row, a deletion or a tenant. They block purge, never a soft delete or restore.
//!
//! A purge locks the deletions it takes (`FOR UPDATE`) and the tenants they belong to, and only then
//! looks for holds. Whoever holds locks the same first: a deletion, or the deletion its row is in; a
//! live row, which keeps it from being deleted until the hold is there to see; the tenant. So either
//! the purge sees the hold, or the hold waits for the purge and finds what is left.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB, Uuid};

use crate::access::caller::Caller;
use crate::access::target_row::{self, Key, RootRow, key_from_any};
use crate::call::arguments::Regclass;
use crate::call::trigger_row::Row;
use crate::graph::reference_graph::{Graph, Table};
use crate::manage::manage_table::oid_of;
use crate::model::error::{Failure, Outcome, required};
use crate::model::sql::{Literal, join};
use crate::registry::deletion::{self, Deletion, State};
use crate::registry::locks::{Lock, Mode};
use crate::spi::session::{Session, first_column, with_session};

/// Holds the row of `table` with this key, live or deleted: no deletion that it is in, now or later,
/// is purged. Its key cannot change meanwhile. Returns the hold's id; a row that is held already
/// keeps its hold. For whoever may delete the row.
///
/// # Errors
/// P0002 when there is no such row; 42501 without the DELETE privilege; 40001 to be retried.
#[pg_extern]
fn hold(
    relation: Option<Regclass>,
    key: Option<AnyElement>,
    reason: Option<&str>,
) -> Result<i64, ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let key = required(key, "key")?;
    let key = key_from_any(&key);
    Ok(with_session(|session| hold_row(session, oid, key, reason))?)
}

/// The same, with the key as text in the form that the key's type reads.
#[pg_extern(name = "hold")]
fn hold_text(
    relation: Option<Regclass>,
    key: Option<&str>,
    reason: Option<&str>,
) -> Result<i64, ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let key = Key::Text(required(key, "key")?);
    Ok(with_session(|session| hold_row(session, oid, key, reason))?)
}

/// Holds a deletion. For whoever may restore it.
///
/// # Errors
/// P0002 when there is no such deletion or it was restored; 55000 when it has been purged; 42501.
#[pg_extern(name = "hold")]
fn hold_deletion(deletion: Option<Uuid>, reason: Option<&str>) -> Result<i64, ErrorReport> {
    let deletion = required(deletion, "deletion")?;
    Ok(with_session(|session| {
        hold_all_of(session, deletion, reason)
    })?)
}

/// Holds every deletion made under the claims of this tenant, now or later.
///
/// # Errors
/// 22023 when `tenant` or `reason` is NULL.
#[pg_extern]
fn hold_tenant(tenant: Option<&str>, reason: Option<&str>) -> Result<i64, ErrorReport> {
    let tenant = required(tenant, "tenant")?;
    Ok(with_session(|session| {
        lock_tenants(session, &[tenant.to_owned()], Mode::Exclusive)?;
        record(session, Target::Tenant(tenant), reason)
    })?)
}

/// Ends a hold. True if it did, false when it had been released before.
///
/// # Errors
/// 22023 when there is no such hold.
#[pg_extern]
fn release(hold: Option<i64>) -> Result<bool, ErrorReport> {
    let hold = required(hold, "hold")?;
    Ok(with_session(|session| let_go(session, hold))?)
}

/// What a hold is on.
enum Target<'a> {
    Row(&'a Table, JsonB),
    Deletion(Uuid),
    Tenant(&'a str),
}

fn hold_row(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: Key<'_>,
    reason: Option<&str>,
) -> Outcome<i64> {
    let graph = Graph::current(session)?;
    let table = graph.managed(session, oid)?;
    let not_found = || Failure::RowNotFound {
        table: table.shown.clone(),
    };
    let row = target_row::find(session, table, key)?.ok_or_else(not_found)?;
    if let Some(deletion) = row.deletion {
        session.registry(
            "SELECT 1 FROM keepsake.deletion WHERE id = $1 FOR SHARE",
            &[deletion.into()],
        )?;
    }
    // What was locked is what the row is in, or nothing was held fast.
    if deletion_of(session, table, &row)?.ok_or_else(not_found)? != row.deletion {
        return Err(Failure::RegistryMoved);
    }
    record(session, Target::Row(table, row.key), reason)
}

/// Locks the row, if it is live, against being deleted, and reads which deletion it is in now.
/// `None`: it is gone.
fn deletion_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    row: &RootRow<'_>,
) -> Outcome<Option<Option<Uuid>>> {
    let lock = if row.deletion.is_none() {
        " FOR NO KEY UPDATE"
    } else {
        ""
    };
    let sql = format!(
        "SELECT t.deletion_id FROM {} AS t WHERE {}{lock}",
        table.rows(),
        row.condition(table)
    );
    let mut rows = session.as_owner(table, &sql, &row.args())?;
    rows.next()
        .map(|row| row.get(1).map_err(Failure::from))
        .transpose()
}

fn hold_all_of(session: &mut Session<'_, '_>, id: Uuid, reason: Option<&str>) -> Outcome<i64> {
    let graph = Graph::current(session)?;
    let deletion = Deletion::authorised(session, &graph, id, true)?;
    match deletion.state {
        State::Deleted | State::Purging => record(session, Target::Deletion(id), reason),
        State::Restored => Err(Failure::DeletionNotFound {
            deletion: id.to_string(),
        }),
        State::Purged => Err(Failure::Purged {
            deletion: id.to_string(),
        }),
    }
}

const RECORD: &str = include_str!("record_hold.sql");
const FIND: &str = include_str!("find_hold.sql");

fn record(session: &mut Session<'_, '_>, target: Target<'_>, reason: Option<&str>) -> Outcome<i64> {
    let reason = required(reason, "reason")?;
    // Read before the rights change: the extension's owner is not who holds.
    let caller = Caller::of(session)?;
    let (relation, key, deletion, tenant) = match target {
        Target::Row(table, key) => (Some(table.oid), Some(key), None, None),
        Target::Deletion(id) => (None, None, Some(id), None),
        Target::Tenant(tenant) => (None, None, None, Some(tenant)),
    };
    let key = key.map(|key| key.0);
    let target = || {
        [
            relation.into(),
            key.clone().map(JsonB).into(),
            deletion.into(),
            tenant.into(),
        ]
    };
    let [a, b, c, d] = target();
    let made: Option<i64> = first(session.registry(
        RECORD,
        &[
            a,
            b,
            c,
            d,
            reason.into(),
            caller.role.into(),
            caller.session_role.into(),
        ],
    )?)?;
    match made {
        Some(id) => Ok(id),
        None => first(session.registry(FIND, &target())?)?.ok_or(Failure::RegistryMoved),
    }
}

fn first<T: FromDatum + IntoDatum>(mut rows: spi::SpiTupleTable<'_>) -> Outcome<Option<T>> {
    match rows.next() {
        Some(row) => Ok(row.get(1)?),
        None => Ok(None),
    }
}

fn let_go(session: &mut Session<'_, '_>, hold: i64) -> Outcome<bool> {
    let caller = Caller::of(session)?;
    let released = session.registry(
        "UPDATE keepsake.hold SET released_at = now(),
             released_role = $2::text::name, released_session_role = $3::text::name,
             released_by = coalesce(nullif(current_setting('keepsake.actor', true), ''),
                 nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', $2)
         WHERE id = $1 AND released_at IS NULL",
        &[hold.into(), caller.role.into(), caller.session_role.into()],
    )?;
    if !released.is_empty() {
        deletion::take_up_again(session)?;
        return Ok(true);
    }
    let known = session.registry("SELECT 1 FROM keepsake.hold WHERE id = $1", &[hold.into()])?;
    if known.is_empty() {
        return Err(Failure::BadArgument {
            what: format!("there is no hold {hold}"),
            fix: "keepsake.hold lists them.".into(),
        });
    }
    Ok(false)
}

/// Locks of tenants share so many places of the lock table, however many tenants there are.
const PLACES: i64 = 64;

/// Locks tenants until the transaction ends: a purge shares them, whoever holds one has it alone.
fn lock_tenants(session: &mut Session<'_, '_>, tenants: &[String], mode: Mode) -> Outcome<()> {
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
    let holds: Option<Vec<i64>> = first(session.registry(
        "SELECT coalesce(array_agg(id), '{}') FROM keepsake.hold WHERE released_at IS NULL",
        &[],
    )?)?;
    let rows: Option<Vec<i64>> = first(session.registry(
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
    let key: Option<JsonB> = first(session.as_owner(table, &sql, &args)?)?;
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
