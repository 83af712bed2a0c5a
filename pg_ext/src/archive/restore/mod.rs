//! Restore of archived rows: undo of a deletion that PostgreSQL itself carried out.
//!
//! Which rows come back is decided on the archive alone ([`set`]); what stands in their way is asked of the live tables
//! ([`conflicts`], [`plan`]); then all are inserted at once ([`insert`]), their foreign keys checked ([`foreign_keys`]),
//! the caller's rights to them asked ([`rights`]) and the archive emptied ([`write`]). All of it is set-based, and where
//! nothing stands in the way the second step is left out: the indexes and the check of the foreign keys say so.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::{PgSqlErrorCode, Uuid, pg_sys};
use serde_json::Value;

use crate::conflict::Conflict;
use crate::deletion::{Deletion, State};
use crate::error::{Failure, Outcome};
use crate::restore::Policy;
use crate::session::{Session, first_column};
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

static RESTORING: GucSetting<Option<std::ffi::CString>> = GucSetting::<Option<std::ffi::CString>>::new(Some(c""));

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
pub fn run_group(session: &mut Session<'_, '_>, id: Uuid, policy: Policy) -> Outcome<Value> {
    match begin(session, id, Scope::Group)? {
        Some(work) => carry_out(session, work, policy),
        None => Ok(write::Report::default().into_json(id, policy, &[])),
    }
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
    let not_found = || Failure::DeletionNotFound {
        deletion: id.to_string(),
    };
    let group = lock_group(session, id, scope)?;
    let deletion = Deletion::read(session, id, scope != Scope::Preview)?.ok_or_else(not_found)?;
    match deletion.state {
        State::Deleted => {}
        _ if !deletion.same_tenant => return Err(not_found()),
        State::Restored => return Ok(None),
        State::Purging | State::Purged => {
            return Err(Failure::Purged {
                deletion: id.to_string(),
            });
        }
    }
    let locked: Vec<Uuid> = [id].into_iter().chain(group.iter().copied()).collect();
    let relations: Vec<pg_sys::Oid> = first_column(session.registry(
        "SELECT DISTINCT relation::oid FROM keepsake.deletion_table WHERE deletion_id = ANY ($1) AND purged < row_count",
        &[locked.clone().into()],
    )?)?;
    let tables = open(session, relations, scope)?;
    if tables.is_empty() {
        return Err(not_found());
    }
    let keys = foreign_keys::read(session, &tables)?;
    let whole: &[Uuid] = if scope == Scope::Group { &locked } else { &[id] };
    let mut set = Set::of(&tables, whole);
    let roots = roots_of(session, &tables, &deletion, whole)?;
    for one in &tables {
        if !roots.rows(one.table.oid).is_empty() {
            rights::refuse_unless_may(session, &one.table)?;
        }
    }
    if scope != Scope::Group {
        set::close(session, &tables, &keys, &mut set, &group)?;
    }
    Ok(Some(Work {
        deletion,
        tables,
        keys,
        set,
        roots,
        locked,
    }))
}

/// Locks the deletions of the group that can be restored, in one order for all; answers with the others of them.
fn lock_group(session: &mut Session<'_, '_>, id: Uuid, scope: Scope) -> Outcome<Vec<Uuid>> {
    let lock = if scope == Scope::Preview { "" } else { " FOR UPDATE" };
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
    let root = tables.iter().find(|one| one.table.oid == deletion.root_table);
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
    for row in session.over_archives(&root.table, &sql)? {
        if let Some(row) = crate::row_id::RowId::read(&row, 1)? {
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
const ATTEMPTS: usize = 4;

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
        match attempt_unless(passes, || write::write(session, &plan)) {
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
            }) => raced = vec![Conflict::from_error(code, table.unwrap_or_default(), constraint)],
        }
        if attempt > 0 && session.keeps_its_snapshot() {
            break;
        }
    }
    Err(Failure::RestoreConflicts { conflicts: raced })
}

/// Whether an error is none of a conflict's.
fn passes(raised: Raised) -> bool {
    !matches!(
        raised.code,
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
            | PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION
            | PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
            | PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION
            | PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
    )
}
