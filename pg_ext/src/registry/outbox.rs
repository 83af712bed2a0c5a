//! What goes into the outbox, and what comes out of it without having been deleted from the bucket.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::model::error::{Failure, Outcome};
use crate::spi::session::Session;

/// The keys of some rows, and until when each may still be stored.
pub type Keys = Vec<Option<String>>;
/// See [`Keys`].
pub type Until = Vec<Option<TimestampWithTimeZone>>;

/// Puts the objects of rows of `relation` into the outbox; one that waits there already starts anew.
pub fn enqueue(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    keys: Keys,
    until: Until,
) -> Outcome<()> {
    session.registry_kept(
        "INSERT INTO keepsake.outbox (object_key, relation, writable_until)
         SELECT o.key, $1, max(o.until) FILTER (WHERE o.until > now())
         FROM unnest($2, $3) AS o (key, until) WHERE o.key IS NOT NULL GROUP BY o.key ORDER BY o.key
         ON CONFLICT (object_key) DO UPDATE
         SET relation = excluded.relation, enqueued_at = now(), next_attempt_at = now(), attempts = 0,
             last_error = NULL, dead_at = NULL,
             writable_until = greatest(outbox.writable_until, excluded.writable_until)",
        &[relation.into(), keys.into(), until.into()],
    )?;
    Ok(())
}

/// Takes the objects out of the outbox, since a row of this transaction names them now. One that is
/// leased is being deleted from the bucket. The second look is at what is committed by now.
pub fn claim(session: &mut Session<'_, '_>, keys: Keys) -> Outcome<()> {
    // Most objects are new, and never were there.
    if !waits(session, &keys)? {
        return Ok(());
    }
    session.registry_kept(
        "DELETE FROM keepsake.outbox
         WHERE object_key = ANY ($1) AND (leased_until > now()) IS NOT TRUE",
        &[keys.clone().into()],
    )?;
    if waits(session, &keys)? {
        return Err(Failure::ObjectInUse);
    }
    Ok(())
}

/// Whether one of the objects is in the outbox, as it is committed *now*.
fn waits(session: &mut Session<'_, '_>, keys: &Keys) -> Outcome<bool> {
    session.registry_exists_now(
        "SELECT 1 FROM keepsake.outbox WHERE object_key = ANY ($1)",
        &[keys.clone().into()],
    )
}
