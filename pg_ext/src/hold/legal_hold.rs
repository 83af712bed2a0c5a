//! Legal holds: on a row, a deletion or a tenant. They block purge, never a soft delete or restore.
//!
//! A purge locks the deletions it takes (`FOR UPDATE`) and the tenants they belong to, and only then
//! looks for holds. Whoever holds locks the same first: a deletion, or the deletion its row is in; a
//! live row, which keeps it from being deleted until the hold is there to see; the tenant. So either
//! the purge sees the hold, or the hold waits for the purge and finds what is left.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB, Uuid};

use crate::access::caller::Caller;
use crate::access::target_row::{self, Key, TargetRow, key_from_any};
use crate::archive::find_rows;
use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::graph::catalog;
use crate::hold::in_force::lock_tenants;
use crate::model::error::{Failure, Outcome, required};
use crate::model::table::Table;
use crate::postgres::settings::LocalSettings;
use crate::registry::archived;
use crate::registry::deletion::{self, Deletion, State};
use crate::registry::locks::Mode;
use crate::registry::stored_key::StoredKey;
use crate::spi::session::{Session, first_cell, with_reading_session, with_session};

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
    let oid = required(relation, "relation")?.oid();
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
    let oid = required(relation, "relation")?.oid();
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
    Ok(with_session(|session| end(session, hold))?)
}

/// The active holds of rows whose key no longer says which row, for `doctor()`.
#[pg_extern]
fn lost_holds() -> Result<SetOfIterator<'static, i64>, ErrorReport> {
    let lost = with_reading_session(|session| -> Outcome<Vec<i64>> {
        let graph = cache::current(session)?;
        let active = session.registry_now(
            "SELECT id, relation::oid, row_key, row_key ? '' FROM keepsake.hold WHERE released_at IS NULL AND row_key IS NOT NULL ORDER BY id",
            &[],
        )?;
        let mut lost = Vec::new();
        for hold in &active {
            let relation: Option<pg_sys::Oid> = hold.get(2)?;
            let table = relation.and_then(|oid| graph.table(oid));
            // Of a table with an archive the graph may not know.
            if table.is_none()
                && let (Some(id), Some(true)) = (hold.get(1)?, hold.get(4)?)
            {
                lost.push(id);
            } else if let (Some(id), Some(table), Some(key)) =
                (hold.get(1)?, table, hold.get::<JsonB>(3)?)
                && StoredKey::read(session, table, &key.0)?.is_none()
            {
                lost.push(id);
            }
        }
        Ok(lost)
    })?;
    Ok(SetOfIterator::new(lost))
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
    if archived::has_archive(session, oid)? {
        return hold_archived(session, oid, key, reason);
    }
    let graph = cache::current(session)?;
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

/// Holds a row of a table with an archive, live or archived. One that is archived has no policies to be asked, so it is for whom none bind.
fn hold_archived(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: Key<'_>,
    reason: Option<&str>,
) -> Outcome<i64> {
    let missing = || Failure::RowNotFound {
        table: "pg_class".into(),
    };
    let table = catalog::table(session, oid)?.ok_or_else(missing)?;
    let not_found = || Failure::RowNotFound {
        table: table.shown.clone(),
    };
    let wanted = target_row::read_key(session, &table, key)?;
    let given = {
        let _formats = LocalSettings::exact_output();
        let key = JsonB(wanted.0.clone());
        target_row::find(session, &table, Key::Columns(key.into()))?
    };
    if let Some(row) = given {
        let sql = format!(
            "SELECT 1 FROM {} AS t WHERE {} FOR NO KEY UPDATE",
            table.rows(),
            row.condition(&table)
        );
        if !session.as_owner(&table, &sql, &row.args())?.is_empty() {
            return record(session, Target::Row(&table, row.key), reason);
        }
    }
    if archived::may_act(session, oid, None)? != Some(true) {
        return Err(not_found());
    }
    let keys = vec![JsonB(wanted.0.clone())];
    let within = find_rows::with_key(session, oid, keys, None)?;
    if within.is_empty() {
        return Err(not_found());
    }
    session.registry(
        "SELECT 1 FROM keepsake.deletion WHERE id = ANY ($1) FOR SHARE",
        &[within.into()],
    )?;
    record(session, Target::Row(&table, wanted), reason)
}

/// Locks the row, if it is live, against being deleted, and reads which deletion it is in now.
/// `None`: it is gone.
fn deletion_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    row: &TargetRow<'_>,
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
    let graph = cache::current(session)?;
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
    let made: Option<i64> = first_cell(session.registry(
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
        None => first_cell(session.registry(FIND, &target())?)?.ok_or(Failure::RegistryMoved),
    }
}

fn end(session: &mut Session<'_, '_>, hold: i64) -> Outcome<bool> {
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
        deletion::retry_postponed(session)?;
        return Ok(true);
    }
    let known = session.registry("SELECT 1 FROM keepsake.hold WHERE id = $1", &[hold.into()])?;
    if known.is_empty() {
        return Err(Failure::BadArgument {
            what: format!("hold {hold} does not exist"),
            fix: "The table keepsake.hold lists all holds.".into(),
        });
    }
    Ok(false)
}
