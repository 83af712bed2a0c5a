//! Restore of a single archived row, and of all that one transaction has archived.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB, Uuid, pg_sys};
use serde_json::Value;

use crate::access::target_row::{Key, key_from_any};
use crate::access::trust;
use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::model::error::{Failure, Outcome, required};
use crate::model::on_conflict::OnConflict;
use crate::restore::archived_children;
use crate::restore::parents::{self, Parents};
use crate::restore::restore_deletion::with_beneath;
use crate::restore_archived::restore_archive::{self, What};
use crate::spi::session::{Session, first_column, with_session};

/// Restores the last version of a row that was deleted from `relation`, whose rows are archived, and the rows beneath it
/// that were deleted with it. The answer and `on_conflict` are those of `restore`; `deletion_id` is that of the row, which
/// keeps its other rows.
///
/// # Errors
/// P0002 when the archive has no such row, or none that the caller may see and delete; 55000 when the table has no archive,
/// or the purge of the row's deletion has begun; 23000, 42501 and 40001 as `restore`.
#[pg_extern]
fn restore_row(
    relation: Option<Regclass>,
    key: Option<AnyElement>,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<JsonB, ErrorReport> {
    let on_conflict = OnConflict::named(required(on_conflict, "on_conflict")?)?;
    let oid = required(relation, "relation")?.oid();
    let key = required(key, "key")?;
    let report = with_session(|session| one(session, oid, || key_from_any(&key), on_conflict));
    Ok(JsonB(report?))
}

/// The same, with the key as text in the form that the key's type reads.
#[pg_extern(name = "restore_row")]
fn restore_row_text(
    relation: Option<Regclass>,
    key: Option<&str>,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<JsonB, ErrorReport> {
    let on_conflict = OnConflict::named(required(on_conflict, "on_conflict")?)?;
    let oid = required(relation, "relation")?.oid();
    let key = required(key, "key")?;
    let report = with_session(|session| one(session, oid, || Key::Text(key), on_conflict));
    Ok(JsonB(report?))
}

fn one<'key>(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: impl Fn() -> Key<'key>,
    on_conflict: OnConflict,
) -> Outcome<Value> {
    let above = above(session, on_conflict, || What::Row(relation, key()))?;
    let restored = restore_archive::run_row(session, relation, key(), on_conflict)?;
    let mut answer = with_beneath(session, restored, None, on_conflict)?;
    parents::add_to(&mut answer, above);
    Ok(answer)
}

/// The parents in place that come back first, where they are asked for.
fn above<'key>(
    session: &mut Session<'_, '_>,
    on_conflict: OnConflict,
    what: impl FnOnce() -> What<'key>,
) -> Outcome<Vec<Value>> {
    if on_conflict == OnConflict::Parents {
        return Parents::default().bring_for_archived(session, what());
    }
    Ok(Vec::new())
}

/// The deletions of a transaction that can be restored.
const GROUP: &str = "
    SELECT m.id FROM keepsake.deletion AS g
    JOIN keepsake.deletion AS m ON m.id = g.group_id OR m.group_id = g.group_id AND m.group_id <> m.id
    WHERE g.id = $1 AND m.state = 'deleted' ORDER BY m.id";

/// Restores all that the transaction of `deletion` has deleted and archived, in one step. The answer and `on_conflict` are
/// those of `restore`.
///
/// # Errors
/// As `restore`.
#[pg_extern]
fn restore_group(
    deletion: Option<Uuid>,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<JsonB, ErrorReport> {
    let on_conflict = OnConflict::named(required(on_conflict, "on_conflict")?)?;
    let deletion = required(deletion, "deletion")?;
    let report = with_session(|session| {
        trust::name_deletion(session, deletion)?;
        if restore_archive::concerns(session, deletion)? {
            let above = above(session, on_conflict, || What::Group(deletion))?;
            let graph = cache::current(session)?;
            let group: Vec<Uuid> = first_column(session.registry(GROUP, &[deletion.into()])?)?;
            let mut answer =
                archived_children::restore(session, &graph, &group, |session, root| {
                    let restored =
                        restore_archive::run_group(session, deletion, on_conflict, root)?;
                    with_beneath(session, restored, None, on_conflict)
                })?;
            parents::add_to(&mut answer, above);
            Ok(answer)
        } else {
            Err(Failure::DeletionNotFound {
                deletion: deletion.to_string(),
            })
        }
    });
    Ok(JsonB(report?))
}
