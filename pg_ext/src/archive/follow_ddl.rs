//! Archives follow their sources when the schema changes; `sql/archive_ddl.sql` has the event triggers.

use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::follow_table::{self, ancestors};
use crate::archive::{names, removal, source, table, using};
use crate::call::arguments::Regclass;
use crate::graph::catalog::field;
use crate::model::error::{Failure, Outcome};
use crate::postgres::settings::LocalSettings;
use crate::postgres::subtransaction::attempt_unless;
use crate::spi::session::{Session, with_session};

/// Brings the archive of `relation` up to date: its columns, its name, and who may read it. Called by event triggers alone.
#[pg_extern]
fn follow_archive(relation: Regclass) -> Result<(), ErrorReport> {
    Ok(with_session(|session| follow(session, relation.oid()))?)
}

/// The same.
pub fn follow(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    follow_table::follow(session, oid)?;
    source::forget(oid);
    Ok(())
}

/// Drops the archive of a dropped table, if it has no rows. Called by an event trigger alone. It stays where somebody uses it, where an event trigger of
/// somebody else's fails, and while rows that the running statement has removed may be on their way into it.
#[pg_extern]
fn drop_empty_archive(archive: Regclass) {
    if removal::is_pending() {
        return;
    }
    // That the archive stays is no reason to refuse the command.
    let _stays = attempt_unless(
        |raised| raised.by_interrupt && raised.code != Code::ERRCODE_LOCK_NOT_AVAILABLE,
        || with_session(|session| drop_if_empty(session, archive.oid())),
    );
}

fn drop_if_empty(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    let name = names::name_of(session, archive)?;
    session.registry(
        &format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE NOWAIT"),
        &[],
    )?;
    if !session.registry_exists_now(&format!("SELECT 1 FROM {name}"), &[])? {
        table::drop_archive(session, archive)?;
    }
    Ok(())
}

const HEIRS: &str = "
    WITH RECURSIVE heir (oid) AS (
        SELECT $1::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN heir ON i.inhparent = heir.oid)
    SELECT heir.oid, heir.oid::regclass::text AS shown FROM heir JOIN keepsake.archive_table t ON t.relation = heir.oid ORDER BY 1";

/// A command that has converted values of the table ends: where an archive has not followed, it follows now.
///
/// # Errors
/// 55000 when it cannot: without it, archived rows would come back with other values than the command gave to live ones.
pub fn follow_conversion(session: &mut Session<'_, '_>, relation: pg_sys::Oid) -> Outcome<()> {
    for row in session.registry_now(HEIRS, &[relation.into()])? {
        let oid: pg_sys::Oid = field(&row, "oid")?;
        if using::of(oid, &ancestors(session, oid)?).is_empty() {
            continue;
        }
        let followed = attempt_unless(
            |raised| raised.by_interrupt && raised.code != Code::ERRCODE_LOCK_NOT_AVAILABLE,
            || {
                let _briefly = LocalSettings::open(&[(c"lock_timeout", c"1s")]);
                with_session(|session| follow(session, oid))
            },
        );
        if let Err(caught) = followed {
            return Err(Failure::ConversionNotFollowed {
                table: field(&row, "shown")?,
                why: caught.into_message(),
            });
        }
    }
    Ok(())
}
