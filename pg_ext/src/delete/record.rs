//! The record of a new deletion: its id, its roots, and its row in the registry.

use pgrx::{JsonB, Uuid};

use crate::access::caller::Caller;
use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::registry::deletion_group::{How, group_of};
use crate::registry::locks::{Lock, Mode};
use crate::spi::session::Session;

const RECORD: &str = include_str!("record_deletion.sql");

/// Enters a deletion in the registry. `key` is its root's, or `None` when it has several roots.
pub fn record(
    session: &mut Session<'_, '_>,
    root: &Table,
    deletion: Uuid,
    key: Option<JsonB>,
    reason: Option<&str>,
    how: How,
) -> Outcome<()> {
    // Read before the rights change: the extension's owner is not who deletes.
    let caller = Caller::of(session)?;
    Lock::Retention(root.oid).take(Mode::Shared);
    session.registry(
        RECORD,
        &[
            deletion.into(),
            root.oid.into(),
            key.into(),
            reason.into(),
            caller.role.into(),
            caller.session_role.into(),
            group_of(deletion, how).into(),
        ],
    )?;
    Ok(())
}

/// How many rows of its root's table a deletion has marked, and the key of the only one as it is
/// now: a trigger of the table may have changed it.
pub fn roots_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<(usize, Option<JsonB>)> {
    let of_deletion = format!("FROM {} AS t WHERE t.deletion_id = $1", table.rows());
    let count = format!("SELECT count(*) {of_deletion}");
    let count: i64 = session
        .as_owner(table, &count, &[deletion.into()])?
        .first()
        .get_one()?
        .unwrap_or(0);
    let key = if count == 1 {
        let key = format!("SELECT {} {of_deletion}", table.key_json("t"));
        let found = session.as_owner(table, &key, &[deletion.into()])?;
        found.first().get_one()?
    } else {
        None
    };
    Ok((usize::try_from(count).unwrap_or(0), key))
}
