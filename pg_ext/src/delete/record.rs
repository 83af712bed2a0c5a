//! The record of a new deletion: its id, its roots, and its row in the registry.

use pgrx::{FromDatum, IntoDatum, Uuid, pg_sys};

use crate::archive::record::{self as registry, Caller, Deletion};
use crate::delete::marked_rows;
use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::registry::deletion_group::{How, group_of};
use crate::spi::session::Session;

/// The key of a root: a jsonb as it was read. Nobody looks into it on its way to the registry. It lasts as long as the session that read it.
#[derive(Clone, Copy, Debug)]
pub struct RootKey(pg_sys::Datum);

impl FromDatum for RootKey {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then_some(Self(datum))
    }
}

impl IntoDatum for RootKey {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

/// Enters a deletion in the registry. `key` is its root's, or `None` when it has several roots.
pub fn record(
    root: &Table,
    deletion: Uuid,
    key: Option<RootKey>,
    reason: Option<&str>,
    how: How,
) -> Outcome<()> {
    registry::write(&Deletion {
        id: deletion,
        group: group_of(deletion, how),
        root: root.oid,
        key: key.and_then(IntoDatum::into_datum),
        caller: &Caller::current(),
        reason,
    })?;
    see();
    Ok(())
}

/// Writes down how many rows of each table the deletion holds.
pub fn count_rows(deletion: Uuid, removed: impl Iterator<Item = (pg_sys::Oid, usize)>) {
    let counts = removed.map(|(table, rows)| (table, i64::try_from(rows).unwrap_or(i64::MAX)));
    registry::write_counts(deletion, counts);
    see();
}

/// Lets what follows see what was written past SQL.
fn see() {
    // SAFETY: within a transaction that has written; no scan of ours is open.
    unsafe { pg_sys::CommandCounterIncrement() };
}

/// How many rows of its root's table a deletion has marked, and the key of the only one as it is
/// now: a trigger of the table may have changed it.
pub fn roots_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<(usize, Option<RootKey>)> {
    if let Some(key) = marked_rows::only_key(table, deletion) {
        return Ok((1, Some(RootKey(key))));
    }
    let of_deletion = format!("FROM {} AS t WHERE t.deletion_id = $1", table.rows());
    let key = format!("SELECT {} {of_deletion} LIMIT 2", table.key_json("t"));
    let mut found = session.as_owner_kept(table, &key, &[deletion.into()])?;
    if found.len() < 2 {
        let key = match found.next() {
            Some(row) => row.get(1)?,
            None => None,
        };
        return Ok((found.len(), key));
    }
    let count = format!("SELECT count(*) {of_deletion}");
    let count: i64 = session
        .as_owner(table, &count, &[deletion.into()])?
        .first()
        .get_one()?
        .unwrap_or(0);
    Ok((usize::try_from(count).unwrap_or(0), None))
}
