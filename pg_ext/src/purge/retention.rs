//! How long deleted rows are kept: for each table, or for one deletion alone. What it comes to is
//! stored with the deletion (`expires_at`), where an index serves the purge.

use pgrx::Uuid;
use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::model::error::{Failure, Outcome, required};
use crate::registry::deletion::{Deletion, State};
use crate::registry::description::describe_managed;
use crate::registry::locks::{Lock, Mode};
use crate::spi::session::{Session, with_session};

/// Says how long deleted rows of `table` can be restored before purge may remove them, also those
/// deleted already, but for deletions with a retention of their own.
///
/// # Errors
/// 55000 when the table is not managed; 42501 for anyone but the owner; 40001 to be retried.
#[pg_extern]
fn set_retention(relation: Regclass, retention: Interval) -> Result<(), ErrorReport> {
    let oid = relation.oid();
    Ok(with_session(|session| {
        describe_managed(session, oid)?;
        register(session, oid, Some(retention))
    })?)
}

/// Gives one deletion a retention of its own, counted from its `deleted_at`; NULL gives it its root
/// table's again. Whoever may restore it may prolong it; to have it expire sooner needs the right
/// to run `purge_deletion`, since it comes to the same.
///
/// # Errors
/// P0002 when there is no such deletion or it was restored; 55000 when its purge has begun; 42501.
#[pg_extern]
fn set_deletion_retention(
    deletion: Option<Uuid>,
    retention: default!(Option<Interval>, "NULL"),
) -> Result<(), ErrorReport> {
    let deletion = required(deletion, "deletion")?;
    Ok(with_session(|session| keep(session, deletion, retention))?)
}

/// Registers `table` with this retention, or with the one it has, or 30 days.
pub fn register(
    session: &mut Session<'_, '_>,
    table: pg_sys::Oid,
    retention: Option<Interval>,
) -> Outcome<()> {
    refuse_negative(session, retention)?;
    session.registry(
        "INSERT INTO keepsake.managed_table (relation, retention)
         VALUES ($1, coalesce($2, interval '30 days'))
         ON CONFLICT (relation) DO UPDATE SET retention = coalesce($2, managed_table.retention)",
        &[table.into(), argument(retention)],
    )?;
    if retention.is_some() {
        move_open(session, table)?;
        cache::invalidate(table);
    }
    Ok(())
}

const MOVED: &str = "root_table = m.relation AND m.relation = $1 AND d.retention IS NULL
    AND d.state IN ('deleted', 'purging')
    AND d.expires_at IS DISTINCT FROM keepsake.expiry(d.deleted_at, m.retention)";

/// Moves the expiry of the table's open deletions. The lock waits for those being made now, which
/// know the old retention.
fn move_open(session: &mut Session<'_, '_>, table: pg_sys::Oid) -> Outcome<()> {
    Lock::Retention(table).take(Mode::Exclusive);
    session.registry(
        &format!(
            "UPDATE keepsake.deletion d SET expires_at = keepsake.expiry(d.deleted_at, m.retention)
             FROM keepsake.managed_table m WHERE {MOVED}"
        ),
        &[table.into()],
    )?;
    let unseen =
        format!("SELECT 1 FROM keepsake.deletion d, keepsake.managed_table m WHERE {MOVED}");
    if session.keeps_its_snapshot() && session.registry_exists_now(&unseen, &[table.into()])? {
        return Err(Failure::RegistryMoved);
    }
    Ok(())
}

fn keep(session: &mut Session<'_, '_>, id: Uuid, retention: Option<Interval>) -> Outcome<()> {
    refuse_negative(session, retention)?;
    let graph = cache::current(session)?;
    let deletion = Deletion::authorised(session, &graph, id, true)?;
    match deletion.state {
        State::Deleted => {}
        State::Restored => {
            return Err(Failure::DeletionNotFound {
                deletion: id.to_string(),
            });
        }
        State::Purging | State::Purged => {
            return Err(Failure::Purged {
                deletion: id.to_string(),
            });
        }
    }
    let may_erase = session.catalog(
        "SELECT has_function_privilege('keepsake.purge_deletion(uuid)', 'EXECUTE')",
        &[],
    )?;
    let may_erase = may_erase.first().get_one::<bool>()?.unwrap_or(false);
    let kept = session.registry(
        "UPDATE keepsake.deletion d
         SET retention = $2,
             expires_at = keepsake.expiry(d.deleted_at, coalesce($2,
                 (SELECT m.retention FROM keepsake.managed_table m WHERE m.relation = d.root_table)))
         WHERE d.id = $1 AND ($3 OR d.expires_at <= keepsake.expiry(d.deleted_at, coalesce($2,
                 (SELECT m.retention FROM keepsake.managed_table m WHERE m.relation = d.root_table))))",
        &[id.into(), argument(retention), may_erase.into()],
    )?;
    if kept.is_empty() {
        return Err(Failure::MayNotShorten {
            deletion: id.to_string(),
        });
    }
    Ok(())
}

/// Refuses a retention that is over before the deletion.
pub fn refuse_negative(session: &Session<'_, '_>, retention: Option<Interval>) -> Outcome<()> {
    let long_enough = session.catalog("SELECT $1 >= interval '0'", &[argument(retention)])?;
    if long_enough.first().get_one()? == Some(false) {
        return Err(Failure::BadArgument {
            what: "retention must not be negative".into(),
            fix: "Pass the time during which deleted rows can be restored, such as interval '30 days', or '0' to purge at once.".into(),
        });
    }
    Ok(())
}

fn argument(retention: Option<Interval>) -> DatumWithOid<'static> {
    retention.map_or_else(DatumWithOid::null::<Interval>, Into::into)
}
