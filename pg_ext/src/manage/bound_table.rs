//! What a table has because it is bound to the bucket.

use pgrx::pg_sys;

use crate::archive::{follow_ddl, names, objects};
use crate::call::own_triggers::Carrier;
use crate::graph::catalog;
use crate::manage::triggers;
use crate::model::error::Outcome;
use crate::model::sql::Ident;
use crate::registry::outbox::{self, Keys};
use crate::spi::session::{Session, first_column};

const BOUND: &str = "
    SELECT b.key_column::text AS key, a.archive::oid AS archive FROM keepsake.bound_storage b
    JOIN keepsake.managed_table m USING (relation)
    LEFT JOIN keepsake.archive_table a ON a.relation = b.relation AND m.keep = 'archive'
    WHERE b.relation = $1
      -- Of a column that is gone doctor() tells.
      AND EXISTS (SELECT FROM pg_attribute c WHERE c.attrelid = b.relation AND c.attname = b.key_column AND NOT c.attisdropped)";

/// Takes the objects that live rows of a table name out of the outbox, if it is bound: once it is no more, nobody looks at its rows before an
/// object is deleted.
///
/// # Errors
/// 55006 when one of them is being deleted from the bucket.
pub fn keep_live_objects(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    owner: pg_sys::Oid,
) -> Outcome<()> {
    let bound = session.registry_now(BOUND, &[oid.into()])?;
    let Some(row) = bound.first() else {
        return Ok(());
    };
    let key = Ident(row.get_by_name("key")?.unwrap_or_default());
    // As the owner, whose the type of the column is.
    let named = format!(
        "SELECT DISTINCT o.{key}::text FROM {table} AS o WHERE o.{key}::text = ANY ($1)",
        table = names::name_of(session, oid)?,
    );
    let waiting = "SELECT object_key FROM keepsake.outbox";
    session.registry_in_windows(waiting, 10_000, |session, rows| {
        let waiting: Vec<String> = first_column(rows)?;
        let live = session.as_role_now((oid, owner), &named, &[waiting.into()])?;
        let live = live.iter().map(|row| Ok(row.get(1)?));
        outbox::claim(session, live.collect::<Outcome<Keys>>()?)
    })
}

/// Gives a table that is bound to the bucket its triggers, and its archive, where it has one, the index over the keys of objects. Of any
/// other table it does nothing.
pub fn equip(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let bound = session.registry_now(BOUND, &[oid.into()])?;
    let (Some(row), Some(table)) = (bound.first(), catalog::table(session, oid)?) else {
        return Ok(());
    };
    let key = Ident(row.get_by_name("key")?.unwrap_or_default());
    let archive: Option<pg_sys::Oid> = row.get_by_name("archive")?;
    if let Some(archive) = archive {
        // It knows columns by the names that they had when it followed last.
        follow_ddl::follow(session, oid)?;
        objects::bind(session, archive)?;
    }
    let kept = match archive {
        Some(_) => Carrier::BoundArchived,
        None => Carrier::BoundInPlace,
    };
    for carrier in [Carrier::Bound, kept] {
        triggers::create(session, &table, carrier, &[&key])?;
    }
    Ok(())
}
