//! Restore of archived rows: undo of a deletion that PostgreSQL itself carried out. The SQL functions are in
//! [`crate::restore`], which sees to the rows of the same deletions that are kept in place.

use pgrx::{PgSqlErrorCode, Uuid, pg_sys};
use serde_json::Value;

use crate::access::target_row::Key;
use crate::model::conflict::Conflict;
use crate::model::deleted_row::DeletedRow;
use crate::model::error::{Failure, Outcome};
use crate::model::on_conflict::OnConflict;
use crate::postgres::subtransaction::{Caught, Raised, attempt_unless};
use crate::restore_archived::archived_rows::Archived;
use crate::restore_archived::plan::Plan;
use crate::restore_archived::unreadable;
use crate::restore_archived::work::{Root, Scope, Work, begin, begin_row, begin_rows};
use crate::restore_archived::write;
use crate::spi::session::Session;

/// What a restore brought back.
#[derive(Debug)]
pub struct Restored {
    /// What the caller is told.
    pub answer: Value,
    /// The deletions that rows came back from.
    pub from: Vec<Uuid>,
}

impl Restored {
    fn nothing(deletion: Uuid, on_conflict: OnConflict) -> Self {
        Self {
            answer: write::Report::default().into_json(deletion, on_conflict, &[]),
            from: Vec::new(),
        }
    }
}

/// Whether archived rows belong to the deletion, or a table with an archive is its root's.
pub fn concerns(session: &mut Session<'_, '_>, deletion: Uuid) -> Outcome<bool> {
    let found = session.registry_planned_once(
        "SELECT 1 FROM keepsake.deletion AS d JOIN keepsake.archive_table AS a ON a.relation = d.root_table WHERE d.id = $1
         UNION ALL
         SELECT 1 FROM keepsake.deletion_table AS t JOIN keepsake.archive_table AS a ON a.relation = t.relation
         WHERE t.deletion_id = $1 AND t.row_count > t.purged
         LIMIT 1",
        &[deletion.into()],
    )?;
    Ok(!found.is_empty())
}

/// Whether archived rows belong to the deletion.
pub fn holds_rows(session: &mut Session<'_, '_>, deletion: Uuid) -> Outcome<bool> {
    let found = session.registry_planned_once(
        "SELECT 1 FROM keepsake.deletion_table AS t JOIN keepsake.archive_table AS a ON a.relation = t.relation
         WHERE t.deletion_id = $1 AND t.row_count > t.purged LIMIT 1",
        &[deletion.into()],
    )?;
    Ok(!found.is_empty())
}

/// Restores a deletion, and what the same transaction had removed beneath it before.
pub fn run(
    session: &mut Session<'_, '_>,
    id: Uuid,
    on_conflict: OnConflict,
    root: Root,
) -> Outcome<Restored> {
    match begin(session, id, Scope::Deletion, root)? {
        Some(work) => carry_out(session, work, on_conflict),
        None => Ok(Restored::nothing(id, on_conflict)),
    }
}

/// Restores all deletions of the transaction that made this one.
pub fn run_group(
    session: &mut Session<'_, '_>,
    id: Uuid,
    on_conflict: OnConflict,
    root: Root,
) -> Outcome<Restored> {
    match begin(session, id, Scope::Group, root)? {
        Some(work) => carry_out(session, work, on_conflict),
        None => Ok(Restored::nothing(id, on_conflict)),
    }
}

/// Restores the last version of a row, and the rows beneath it that were deleted with it.
pub fn run_row(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: Key<'_>,
    on_conflict: OnConflict,
) -> Outcome<Restored> {
    let work = begin_row(session, relation, key)?;
    let of_table = |one: &&Archived| one.table.oid == relation;
    let table = work
        .tables
        .iter()
        .find(of_table)
        .map_or_else(String::new, |one| one.table.shown.clone());
    carry_out(session, work, on_conflict).map_err(|failure| match failure {
        // Whose the row is, the caller does not learn.
        Failure::DeletionNotFound { .. } => Failure::RowNotFound { table },
        failure => failure,
    })
}

/// What a restore of archived rows begins with.
pub enum What<'key> {
    /// A deletion, and what the same transaction had removed beneath it before.
    Deletion(Uuid, Root),
    /// All deletions of the transaction that made this one.
    Group(Uuid),
    /// The last version of a row, and the rows beneath it that were deleted with it.
    Row(pg_sys::Oid, Key<'key>),
    /// These rows of one table, by their places in its archive, alone.
    Rows(pg_sys::Oid, &'key [DeletedRow]),
}

impl What<'_> {
    fn begin(self, session: &mut Session<'_, '_>) -> Outcome<Option<Work>> {
        match self {
            Self::Deletion(id, root) => begin(session, id, Scope::Deletion, root),
            Self::Group(id) => begin(session, id, Scope::Group, Root::Archived),
            Self::Row(relation, key) => begin_row(session, relation, key).map(Some),
            Self::Rows(relation, rows) => begin_rows(session, relation, rows),
        }
    }
}

/// The rows kept in place, and deleted, that the rows of a restore refer to, or archived parents that would come back with them.
pub fn parents_in_place(session: &mut Session<'_, '_>, what: What<'_>) -> Outcome<Vec<DeletedRow>> {
    match what.begin(session)? {
        Some(work) => Plan::parents_in_place(session, work),
        None => Ok(Vec::new()),
    }
}

/// Restores rows of one table alone, with their archived parents. Their deletions are locked.
pub fn run_rows(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    rows: &[DeletedRow],
) -> Outcome<Option<Restored>> {
    let work = What::Rows(relation, rows).begin(session)?;
    work.map(|work| carry_out(session, work, OnConflict::Parents))
        .transpose()
}

/// Every conflict that `run` would meet now.
pub fn preview(session: &mut Session<'_, '_>, id: Uuid, root: Root) -> Outcome<Vec<Conflict>> {
    let Some(work) = begin(session, id, Scope::Preview, root)? else {
        return Ok(Vec::new());
    };
    let plan = Plan::make(session, work, OnConflict::Fail)?;
    plan.refuse_strangers(session)?;
    plan.shown(session)
}

/// How often a race that PostgreSQL decides is looked at anew before it is reported as it is.
const ATTEMPTS: usize = 3;

/// Writes the rows; looks for what stands in their way only when something does.
fn carry_out(
    session: &mut Session<'_, '_>,
    work: Work,
    on_conflict: OnConflict,
) -> Outcome<Restored> {
    let id = work.deletion.id;
    let mut plan = Plan::unseen(work);
    let mut raced = Vec::new();
    // What has no conversion is read as NULL, which nothing refuses.
    let says_all = |one: &Archived| !one.defers && one.inconvertible().is_empty();
    let mut looked = !plan.work.tables.iter().all(says_all);
    for _ in 0..ATTEMPTS {
        if looked {
            plan = Plan::make(session, plan.work, on_conflict)?;
            plan.refuse_strangers(session)?;
            if on_conflict == OnConflict::Fail || on_conflict == OnConflict::Parents {
                let conflicts = plan.shown(session)?;
                if !conflicts.is_empty() {
                    return Err(Failure::RestoreConflicts { conflicts });
                }
            }
        }
        match attempt_unless(
            |raised| passes(raised, looked),
            || write::write(session, &plan),
        ) {
            Ok(report) => {
                let conflicts = plan.shown(session)?;
                return Ok(Restored {
                    from: report.from.clone(),
                    answer: report.into_json(id, on_conflict, &conflicts),
                });
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
        looked = true;
    }
    Err(Failure::RestoreConflicts { conflicts: raced })
}

/// Whether an error is none of a conflict's. A trigger may raise those codes as well, for reasons of its own. Once the rows have been looked at, a value that does not fit is none of theirs.
fn passes(raised: Raised, looked: bool) -> bool {
    !(!looked && unreadable::is_data_exception(raised.code))
        && !(raised.names_what && is_conflict(raised.code))
}

fn is_conflict(code: PgSqlErrorCode) -> bool {
    matches!(
        code,
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
            | PgSqlErrorCode::ERRCODE_EXCLUSION_VIOLATION
            | PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
            | PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION
            | PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
    )
}
