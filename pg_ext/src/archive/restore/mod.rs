//! Restore of archived rows: undo of a deletion that PostgreSQL itself carried out.
//!
//! Which rows come back is decided on the archive alone ([`set`]); what stands in their way is asked of the live tables
//! ([`conflicts`], [`plan`]); then all are inserted at once ([`insert`]), their foreign keys checked ([`foreign_keys`]),
//! the caller's rights to them asked ([`rights`]) and the archive emptied ([`write`]). All of it is set-based, and where
//! nothing stands in the way the second step is left out: the indexes and the check of the foreign keys say so.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AnyElement, JsonB, PgSqlErrorCode, Uuid, pg_sys};
use serde_json::Value;

use crate::arguments::Regclass;
use crate::catalog;
use crate::conflict::Conflict;
use crate::deletion::{Deletion, State};
use crate::error::{Failure, Outcome, required};
use crate::manage::oid_of;
use crate::restore::Policy;
use crate::root_row::{Key, key_from_any};
use crate::row_id::RowId;
use crate::session::{Session, first_column, with_session};
use crate::sql::join;
use crate::subtransaction::{Caught, Raised, attempt_unless};

mod archived;
mod conflicts;
mod foreign_keys;
mod insert;
mod plan;
mod rights;
mod set;
mod undo;
mod write;

use archived::Archived;
use foreign_keys::ForeignKey;
use plan::Plan;
use set::Set;

static RESTORING: GucSetting<Option<std::ffi::CString>> =
    GucSetting::<Option<std::ffi::CString>>::new(Some(c""));

/// Defines the setting `keepsake.restoring`. Once in a backend's life.
pub fn install() {
    GucRegistry::define_string_guc(
        c"keepsake.restoring",
        c"The deletion that is being restored; empty when none is.",
        c"For triggers: rows that a restore brings back are no new ones.",
        &RESTORING,
        GucContext::Internal,
        GucFlags::default(),
    );
}

/// What is to be restored.
#[derive(Debug)]
pub struct Work {
    /// The deletion that was asked for.
    deletion: Deletion,
    /// The tables that may get rows, by name.
    tables: Vec<Archived>,
    /// Their foreign keys.
    keys: Vec<ForeignKey>,
    /// The rows.
    set: Set,
    /// Those whose restore the caller must have a right to.
    roots: Set,
    /// The deletions that are locked.
    locked: Vec<Uuid>,
}

/// Whether archived rows belong to the deletion, or a table with an archive is its root's.
pub fn concerns(session: &mut Session<'_, '_>, deletion: Uuid) -> Outcome<bool> {
    let found = session.registry_kept(
        "SELECT 1 FROM keepsake.deletion AS d JOIN keepsake.archive_table AS a ON a.relation = d.root_table WHERE d.id = $1
         UNION ALL
         SELECT 1 FROM keepsake.deletion_table AS t JOIN keepsake.archive_table AS a ON a.relation = t.relation WHERE t.deletion_id = $1
         LIMIT 1",
        &[deletion.into()],
    )?;
    Ok(!found.is_empty())
}

/// Restores a deletion, and what the same transaction had removed beneath it before.
pub fn run(session: &mut Session<'_, '_>, id: Uuid, policy: Policy) -> Outcome<Value> {
    match begin(session, id, Scope::Deletion)? {
        Some(work) => carry_out(session, work, policy),
        None => Ok(write::Report::default().into_json(id, policy, &[])),
    }
}

/// Restores all deletions of the transaction that made this one.
fn run_group(session: &mut Session<'_, '_>, id: Uuid, policy: Policy) -> Outcome<Value> {
    match begin(session, id, Scope::Group)? {
        Some(work) => carry_out(session, work, policy),
        None => Ok(write::Report::default().into_json(id, policy, &[])),
    }
}

/// Restores the last version of a row that was deleted from `relation`, whose rows are archived, and the rows beneath it
/// that were deleted with it. The answer and `on_conflict` are those of `restore`; `deletion_id` is that of the row, which
/// keeps its other rows.
///
/// # Errors
/// P0002 when the archive has no such row, or none that the caller may see and delete; 55000 when the table has no archive,
/// or the purge of the row's deletion has begun; 23000, 42501 and 40001 as `restore`.
#[pg_extern]
fn restore_row(
    relation: Regclass,
    key: AnyElement,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<JsonB, ErrorReport> {
    let policy = Policy::named(required(on_conflict, "on_conflict")?)?;
    let oid = oid_of(relation);
    let report = with_session(|session| run_row(session, oid, key_from_any(&key), policy));
    Ok(JsonB(report?))
}

/// The same, with the key as text in the form that the key's type reads.
#[pg_extern(name = "restore_row")]
fn restore_row_text(
    relation: Regclass,
    key: &str,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<JsonB, ErrorReport> {
    let policy = Policy::named(required(on_conflict, "on_conflict")?)?;
    let oid = oid_of(relation);
    let report = with_session(|session| run_row(session, oid, Key::Text(key), policy));
    Ok(JsonB(report?))
}

fn run_row(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: Key<'_>,
    policy: Policy,
) -> Outcome<Value> {
    let work = begin_row(session, relation, key)?;
    carry_out(session, work, policy)
}

/// Restores all that the transaction of `deletion` has deleted and archived, in one step. The answer and `on_conflict` are
/// those of `restore`.
///
/// # Errors
/// As `restore`.
#[pg_extern]
fn restore_group(
    deletion: Uuid,
    on_conflict: default!(Option<&str>, "'fail'"),
) -> Result<JsonB, ErrorReport> {
    let policy = Policy::named(required(on_conflict, "on_conflict")?)?;
    let report = with_session(|session| {
        if concerns(session, deletion)? {
            run_group(session, deletion, policy)
        } else {
            crate::restore::run(session, deletion, policy)
        }
    });
    Ok(JsonB(report?))
}

/// Every conflict that `run` would meet now.
pub fn preview(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Vec<Conflict>> {
    let Some(work) = begin(session, id, Scope::Preview)? else {
        return Ok(Vec::new());
    };
    let plan = Plan::make(session, work, Policy::Fail)?;
    plan.refuse_strangers(session)?;
    plan.shown(session)
}

/// How much of a transaction's deletions is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Deletion,
    Group,
    /// As `Deletion`, but nothing is locked.
    Preview,
}

/// Locks the deletion and gathers its rows; `None` when they are live already.
fn begin(session: &mut Session<'_, '_>, id: Uuid, scope: Scope) -> Outcome<Option<Work>> {
    let Some((deletion, locked)) = lock(session, id, scope)? else {
        return Ok(None);
    };
    let (tables, keys) = open_all(session, &locked, scope)?;
    if tables.is_empty() {
        return Err(not_found(id));
    }
    let (whole, others) = match scope {
        Scope::Group => (locked.as_slice(), [].as_slice()),
        Scope::Deletion | Scope::Preview => locked.split_at(1),
    };
    if scope != Scope::Preview {
        undo::into_archive(session, &tables, whole)?;
    }
    let mut set = Set::of(&tables, whole);
    let roots = roots_of(session, &tables, &deletion, whole)?;
    refuse_unless_may(session, &tables, &roots)?;
    set::close(session, &tables, &keys, &mut set, others)?;
    Ok(Some(Work {
        deletion,
        tables,
        keys,
        set,
        roots,
        locked,
    }))
}

/// The same for one row and what hung on it: the rows beneath it that its deletion, or another of the same transaction,
/// has removed.
fn begin_row(session: &mut Session<'_, '_>, relation: pg_sys::Oid, key: Key<'_>) -> Outcome<Work> {
    let mut found = open(session, vec![relation], Scope::Deletion)?;
    let Some(one) = found.pop() else {
        return Err(Failure::NotArchived {
            table: catalog::shown(session, relation)?,
        });
    };
    rights::refuse_unless_may(session, &one.table)?;
    let row_not_found = || Failure::RowNotFound {
        table: one.table.shown.clone(),
    };
    let (row, id) = find_row(session, &one, key)?.ok_or_else(row_not_found)?;
    let Some((deletion, locked)) = lock(session, id, Scope::Deletion)? else {
        return Err(row_not_found());
    };
    let (tables, keys) = open_all(session, &locked, Scope::Deletion)?;
    let mut set = Set::default();
    set.add(relation, row);
    let roots = set.clone();
    set::close(session, &tables, &keys, &mut set, &locked)?;
    Ok(Work {
        deletion,
        tables,
        keys,
        set,
        roots,
        locked,
    })
}

/// The newest version of a row in the archive, and its deletion.
fn find_row(
    session: &mut Session<'_, '_>,
    one: &Archived,
    key: Key<'_>,
) -> Outcome<Option<(RowId, Uuid)>> {
    let values = key.values(session, &one.table)?;
    let is_row = one.table.key.iter().zip(1..);
    let is_row = is_row.map(|(column, n)| format!("t.{} {} ${n}", column.name, column.equals));
    let sql = format!(
        "SELECT t.keepsake_relation, t.keepsake_ctid, t.keepsake_deletion FROM ({}) AS t WHERE {}
         ORDER BY t.keepsake_deletion DESC, t.keepsake_seq DESC LIMIT 1",
        one.source_of_all(),
        join(is_row, " AND "),
    );
    let mut rows = session.over_archives(&one.table, &sql, &values)?;
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    Ok(RowId::read(&row, 1)?.zip(row.get::<Uuid>(3)?))
}

fn not_found(id: Uuid) -> Failure {
    Failure::DeletionNotFound {
        deletion: id.to_string(),
    }
}

/// Locks a deletion, and those of its group that can be restored; answers with the deletion and the ids of all, its own
/// first. `None` when its rows are live already.
fn lock(
    session: &mut Session<'_, '_>,
    id: Uuid,
    scope: Scope,
) -> Outcome<Option<(Deletion, Vec<Uuid>)>> {
    let group = lock_group(session, id, scope)?;
    let deletion = Deletion::read(session, id, scope != Scope::Preview)?;
    let deletion = deletion.ok_or_else(|| not_found(id))?;
    match deletion.state {
        State::Deleted => Ok(Some((deletion, [id].into_iter().chain(group).collect()))),
        _ if !deletion.same_tenant => Err(not_found(id)),
        State::Restored => Ok(None),
        State::Purging | State::Purged => Err(Failure::Purged {
            deletion: id.to_string(),
        }),
    }
}

/// Opens the tables that hold rows of these deletions, and reads their foreign keys.
fn open_all(
    session: &mut Session<'_, '_>,
    deletions: &[Uuid],
    scope: Scope,
) -> Outcome<(Vec<Archived>, Vec<ForeignKey>)> {
    let relations: Vec<pg_sys::Oid> = first_column(session.registry(
        "SELECT DISTINCT relation::oid FROM keepsake.deletion_table WHERE deletion_id = ANY ($1) AND purged < row_count",
        &[deletions.to_vec().into()],
    )?)?;
    let tables = open(session, relations, scope)?;
    let keys = foreign_keys::read(session, &tables)?;
    Ok((tables, keys))
}

fn refuse_unless_may(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    roots: &Set,
) -> Outcome<()> {
    for one in tables {
        if !roots.rows(one.table.oid).is_empty() {
            rights::refuse_unless_may(session, &one.table)?;
        }
    }
    Ok(())
}

/// Locks the deletions of the group that can be restored, in one order for all; answers with the others of them.
fn lock_group(session: &mut Session<'_, '_>, id: Uuid, scope: Scope) -> Outcome<Vec<Uuid>> {
    let lock = if scope == Scope::Preview {
        ""
    } else {
        " FOR UPDATE"
    };
    let sql = format!(
        "SELECT d.id FROM keepsake.deletion AS d
         WHERE d.id IN (SELECT m.id FROM keepsake.deletion AS g, keepsake.deletion AS m
                        WHERE g.id = $1 AND (m.id = g.group_id OR m.group_id = g.group_id AND m.group_id <> m.id))
           AND d.state = 'deleted'
         ORDER BY d.id{lock}"
    );
    let group: Vec<Uuid> = first_column(session.registry(&sql, &[id.into()])?)?;
    Ok(group.into_iter().filter(|other| *other != id).collect())
}

/// Reads the tables with an archive among these. They are locked first, as an INSERT locks them: their columns and keys
/// stay as they are read.
fn open(
    session: &Session<'_, '_>,
    mut relations: Vec<pg_sys::Oid>,
    scope: Scope,
) -> Outcome<Vec<Archived>> {
    relations.sort_unstable_by_key(|relation| relation.to_u32());
    let mode = if scope == Scope::Preview {
        pg_sys::AccessShareLock
    } else {
        pg_sys::RowExclusiveLock
    };
    for relation in &relations {
        // SAFETY: takes a lock that the transaction holds to its end; a table that is dropped meanwhile is not found below.
        unsafe { pg_sys::LockRelationOid(*relation, mode as i32) };
    }
    Archived::read(session, &relations)
}

/// The rows that the deletion began with. Those of its root's table, as far as it has any left; else all.
fn roots_of(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    deletion: &Deletion,
    whole: &[Uuid],
) -> Outcome<Set> {
    let root = tables
        .iter()
        .find(|one| one.table.oid == deletion.root_table);
    let Some(root) = root.filter(|_| whole.len() == 1) else {
        return Ok(Set::of(tables, whole));
    };
    let of_table = Set::of(std::slice::from_ref(root), whole);
    let Some(condition) = deletion.is_root(&root.table) else {
        return Ok(of_table);
    };
    let sql = format!(
        "SELECT t.keepsake_relation, t.keepsake_ctid FROM ({}) AS t WHERE {condition}",
        root.source(&of_table.rows(root.table.oid))
    );
    let mut roots = Set::default();
    for row in session.over_archives(&root.table, &sql, &[])? {
        if let Some(row) = RowId::read(&row, 1)? {
            roots.add(root.table.oid, row);
        }
    }
    // Restored before, while other rows were skipped: these stand in for it.
    Ok(if roots.is_empty() {
        Set::of(tables, whole)
    } else {
        roots
    })
}

/// How often a race that PostgreSQL decides is looked at anew before it is reported as it is.
const ATTEMPTS: usize = 3;

/// Writes the rows; looks for what stands in their way only when something does.
fn carry_out(session: &mut Session<'_, '_>, work: Work, policy: Policy) -> Outcome<Value> {
    let id = work.deletion.id;
    let mut plan = Plan::unseen(work);
    let mut raced = Vec::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            plan = Plan::make(session, plan.work, policy)?;
            plan.refuse_strangers(session)?;
            if policy == Policy::Fail || policy == Policy::Parents {
                let conflicts = plan.shown(session)?;
                if !conflicts.is_empty() {
                    return Err(Failure::RestoreConflicts { conflicts });
                }
            }
        }
        let looked = attempt > 0;
        match attempt_unless(
            |raised| passes(raised, looked),
            || write::write(session, &plan),
        ) {
            Ok(report) => {
                let conflicts = plan.shown(session)?;
                return Ok(report.into_json(id, policy, &conflicts));
            }
            Err(Caught::Failure(Failure::RestoreConflicts { conflicts })) => raced = conflicts,
            Err(Caught::Failure(failure)) => return Err(failure),
            Err(Caught::Error {
                code,
                table,
                constraint,
                ..
            }) => {
                raced = vec![Conflict::from_error(
                    code,
                    table.unwrap_or_default(),
                    constraint,
                )]
            }
        }
        if looked && session.keeps_its_snapshot() {
            break;
        }
    }
    Err(Failure::RestoreConflicts { conflicts: raced })
}

/// Whether an error is none of a conflict's. Once the rows have been looked at, a value that does not fit is none of theirs.
fn passes(raised: Raised, looked: bool) -> bool {
    !(!looked && conflicts::is_data_exception(raised.code))
        && !matches!(
            raised.code,
            PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
                | PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION
                | PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
                | PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION
                | PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
        )
}
