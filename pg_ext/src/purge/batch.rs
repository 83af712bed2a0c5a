//! Purge: the hard delete of what has expired, in bounded batches.
//!
//! A deletion expires as a whole (`expires_at`); until then it can be restored exactly. One worker
//! at a time purges a deletion, others take the next. Which deletions: [`crate::purge::selection`]; which of
//! their rows: [`crate::purge::rows`].

use std::cell::Cell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::Value;

use crate::access::caller::Caller;
use crate::archive::months;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::hold::in_force;
use crate::model::error::{Failure, Outcome, required};
use crate::model::table::Table;
use crate::purge::isolation::Isolation;
use crate::purge::report::Report;
use crate::purge::rows;
use crate::purge::selection::Selection;
use crate::purge::whole_months;
use crate::registry::deletion::{self, Deletion, State};
use crate::spi::session::{Session, first_column, with_purging_session};

/// Rows whose deletion has expired at `as_of` (now, unless given) and is not held: longest expired
/// first, and within that referring tables first; behind the deletion `after`, if given. They are
/// locked for this transaction; rows and deletions that another worker has locked are passed over.
#[pg_extern]
fn purge_candidates(
    max_rows: default!(Option<i32>, 1000),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
    after: default!(Option<Uuid>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(table_name, String),
            name!(key, JsonB),
            name!(deletion_id, Uuid),
            name!(deleted_at, TimestampWithTimeZone),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(with_purging_session(|session| {
        candidates(session, at_least_one(max_rows)?, as_of, after)
    })?))
}

/// Purges up to `max_rows` expired rows in this transaction and says what it did:
/// `{"rows", "more", "failed", "tables": [{"table", "rows", "blocked"}], "last"}`. `blocked` rows have
/// expired but something still refers to them. `more` says that `max_rows` stopped it, and `last`
/// behind which deletion to go on. `failed` deletions met an error, which `keepsake.deletion` keeps,
/// and are tried again after an hour; those with held or blocked rows after ten minutes. With `whole_months`, a call without
/// `after` first looks for a month table all of whose deletions are to go; if there is one, it empties that and nothing else, however many
/// rows it has, with `more` and without `last`.
#[pg_extern]
fn purge_batch(
    max_rows: default!(Option<i32>, 1000),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
    after: default!(Option<Uuid>, "NULL"),
    whole_months: default!(Option<bool>, false),
) -> Result<JsonB, ErrorReport> {
    let max_rows = at_least_one(max_rows)?;
    months::make_ready();
    let month = whole_month(whole_months, after, as_of)?;
    Ok(JsonB(with_purging_session(|session| {
        let (report, last) = match month {
            Some(report) => (report, None),
            None => batch(session, max_rows, as_of, after)?,
        };
        if !report.is_full() && report.rows > 0 {
            deletion::retry_postponed(session)?;
        }
        if report.rows + report.failed > 0 {
            let caller = Caller::of(session)?;
            session.registry_kept(
                "INSERT INTO keepsake.purge_run (as_of, rows, failed, batches, last_batch_at, finished_at, role, session_role)
                 VALUES (coalesce($1, now()), $2, $3, 1, clock_timestamp(), clock_timestamp(), $4::text::name, $5::text::name)",
                &[
                    as_of.into(),
                    report.rows.into(),
                    report.failed.into(),
                    caller.role.into(),
                    caller.session_role.into(),
                ],
            )?;
        }
        Ok::<_, Failure>(report.into_json(last))
    })?))
}

/// Registers a run of `CALL keepsake.purge(…)`; returns its id.
#[pg_extern]
fn start_purge() -> Result<Option<i64>, ErrorReport> {
    months::make_ready();
    Ok(with_purging_session(|session| {
        let caller = Caller::of(session)?;
        let started = session.registry(
            "INSERT INTO keepsake.purge_run (as_of, pid, role, session_role)
             VALUES (now(), pg_backend_pid(), $1::text::name, $2::text::name) RETURNING id",
            &[caller.role.into(), caller.session_role.into()],
        )?;
        Ok::<_, Failure>(started.first().get_one()?)
    })?)
}

/// One batch of a run, entered in its record. `again`: rows have gone since the run last began at the
/// head, so what was put off may be free.
#[pg_extern]
fn purge_step(
    run: Option<i64>,
    max_rows: Option<i32>,
    after: Option<Uuid>,
    again: Option<bool>,
    whole_months: Option<bool>,
) -> Result<JsonB, ErrorReport> {
    let (run, again) = (required(run, "run")?, required(again, "again")?);
    let max_rows = at_least_one(max_rows)?;
    let as_of = with_purging_session(|session| as_of(session, run))?;
    let month = whole_month(whole_months, after, Some(as_of))?;
    Ok(JsonB(with_purging_session(|session| {
        let (report, last) = match month {
            Some(report) => (report, None),
            None => batch(session, max_rows, Some(as_of), after)?,
        };
        enter(session, run, &report, last)?;
        if !report.is_full() && (again || report.rows > 0) {
            deletion::retry_postponed(session)?;
        }
        Ok::<_, Failure>(report.into_json(last))
    })?))
}

/// Empties a month table, where that is asked for, at the head of the queue.
fn whole_month(
    asked: Option<bool>,
    after: Option<Uuid>,
    as_of: Option<TimestampWithTimeZone>,
) -> Outcome<Option<Report>> {
    if required(asked, "whole_months")? && after.is_none() {
        whole_months::purge_one(as_of)
    } else {
        Ok(None)
    }
}

/// Enters what was done in the record of a run.
fn enter(
    session: &mut Session<'_, '_>,
    run: i64,
    report: &Report,
    last: Option<Uuid>,
) -> Outcome<()> {
    let entered = session.registry_kept(
        "UPDATE keepsake.purge_run SET rows = rows + $2, failed = failed + $3, batches = batches + 1,
             last_batch_at = clock_timestamp(), last_deletion = $4 WHERE id = $1 RETURNING 1",
        &[run.into(), report.rows.into(), report.failed.into(), last.into()],
    )?;
    if entered.is_empty() {
        return Err(no_such_run(run));
    }
    Ok(())
}

thread_local! {
    /// The run whose last batch this backend made, and as of when it purges.
    static RUN: Cell<Option<(i64, TimestampWithTimeZone)>> = const { Cell::new(None) };
}

/// As of when a run purges: it never changes.
fn as_of(session: &mut Session<'_, '_>, run: i64) -> Outcome<TimestampWithTimeZone> {
    if let Some((_, as_of)) = RUN.get().filter(|(known, _)| *known == run) {
        return Ok(as_of);
    }
    let begun = session.registry_kept(
        "SELECT as_of FROM keepsake.purge_run WHERE id = $1",
        &[run.into()],
    )?;
    let as_of = first_column::<TimestampWithTimeZone, Vec<_>>(begun)?.pop();
    let as_of = as_of.ok_or_else(|| no_such_run(run))?;
    RUN.set(Some((run, as_of)));
    Ok(as_of)
}

fn no_such_run(run: i64) -> Failure {
    Failure::BadArgument {
        what: format!("purge run {run} does not exist"),
        fix: "Pass the value that keepsake.start_purge() returned.".into(),
    }
}

/// Notes that a run has come to its end.
#[pg_extern]
fn finish_purge(run: i64) -> Result<(), ErrorReport> {
    Ok(with_purging_session(|session| {
        session.registry(
            "UPDATE keepsake.purge_run SET finished_at = clock_timestamp() WHERE id = $1",
            &[run.into()],
        )?;
        Ok::<_, Failure>(())
    })?)
}

/// Purges one deletion now, whatever its retention: for content that must not be kept. Answers
/// like `purge_batch`.
///
/// # Errors
/// P0002 when there is no such deletion or it was restored; 55000 when it is held; 42501 without the
/// DELETE privilege on its root table.
#[pg_extern]
fn purge_deletion(deletion: Option<Uuid>) -> Result<JsonB, ErrorReport> {
    let deletion = required(deletion, "deletion")?;
    Ok(JsonB(with_purging_session(|session| {
        erase(session, deletion)
    })?))
}

/// How many rows are asked for: a batch of none would never come to an end.
fn at_least_one(max_rows: Option<i32>) -> Outcome<i64> {
    match max_rows {
        Some(rows) if rows >= 1 => Ok(i64::from(rows)),
        _ => Err(Failure::BadArgument {
            what: "max_rows must be at least 1".into(),
            fix: "Pass the number of rows that one batch may purge, such as 1000.".into(),
        }),
    }
}

type Candidate = (String, JsonB, Uuid, TimestampWithTimeZone);

fn candidates(
    session: &mut Session<'_, '_>,
    max_rows: i64,
    as_of: Option<TimestampWithTimeZone>,
    after: Option<Uuid>,
) -> Outcome<Vec<Candidate>> {
    let graph = cache::current(session)?;
    let mut expired = Selection::open(session, as_of, after)?;
    let mut found = Vec::new();
    let mut isolation = Isolation::new(max_rows);
    loop {
        let left = max_rows - length(&found) - isolation.failed;
        let deletions = if left > 0 && !isolation.is_over() {
            expired.next(left)?
        } else {
            Vec::new()
        };
        if deletions.is_empty() {
            return Ok(found);
        }
        isolation.for_each_owner(session, &graph, &deletions, |session, deletions| {
            let before = found.len();
            let looked = candidates_among(session, &graph, deletions, max_rows, &mut found);
            if looked.is_err() {
                found.truncate(before);
            }
            looked
        })?;
    }
}

fn candidates_among(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletions: &[Uuid],
    max_rows: i64,
    found: &mut Vec<Candidate>,
) -> Outcome<()> {
    let free = unheld(session, graph, deletions)?;
    for table in deletion::holding(session, graph, &free)?
        .into_iter()
        .flatten()
    {
        let left = max_rows - length(found);
        if left <= 0 {
            break;
        }
        found.extend(candidates_of(session, table, &free, left)?);
    }
    Ok(())
}

fn length(found: &[Candidate]) -> i64 {
    i64::try_from(found.len()).unwrap_or(i64::MAX)
}

/// Those of the deletions that no hold covers; those that a held row keeps are put off.
fn unheld(session: &mut Session<'_, '_>, graph: &Graph, deletions: &[Uuid]) -> Outcome<Vec<Uuid>> {
    let holds = in_force::locked(session, graph, deletions)?;
    deletion::postpone(session, holds.by_row.clone())?;
    let free = deletions.iter().filter(|id| !holds.contain(**id));
    Ok(free.copied().collect())
}

fn candidates_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletions: &[Uuid],
    max_rows: i64,
) -> Outcome<Vec<Candidate>> {
    let sql = format!(
        "SELECT {key}, t.deletion_id, t.deleted_at FROM {rows} AS t
         WHERE t.deletion_id = ANY ($1) AND t.deleted_at IS NOT NULL FOR UPDATE SKIP LOCKED",
        key = table.key_json("t"),
        rows = table.rows(),
    );
    let mut rows = session.cursor(table, &sql, &[deletions.to_vec().into()])?;
    let mut found = Vec::new();
    for row in rows.fetch(max_rows)? {
        if let (Some(key), Some(deletion), Some(at)) = (row.get(1)?, row.get(2)?, row.get(3)?) {
            found.push((table.shown.clone(), key, deletion, at));
        }
    }
    Ok(found)
}

/// What a batch did, and behind which deletion the next one goes on.
fn batch(
    session: &mut Session<'_, '_>,
    max_rows: i64,
    as_of: Option<TimestampWithTimeZone>,
    after: Option<Uuid>,
) -> Outcome<(Report, Option<Uuid>)> {
    let graph = cache::current(session)?;
    let mut expired = Selection::open(session, as_of, after)?;
    let mut report = Report::new(max_rows);
    let mut isolation = Isolation::new(max_rows);
    let mut done = after;
    while !report.is_full() {
        let deletions = expired.next(report.left())?;
        if deletions.is_empty() {
            return Ok((report, expired.last));
        }
        isolation.for_each_owner(session, &graph, &deletions, |session, deletions| {
            let mut part = Report::new(report.left());
            let free = unheld(session, &graph, deletions)?;
            if !free.is_empty() && !part.is_full() {
                rows::purge(session, &graph, &free, &mut part)?;
            }
            report.take_in(part);
            Ok(())
        })?;
        report.failed = isolation.failed;
        if isolation.is_over() {
            report.stop();
        }
        if !report.is_full() {
            done = expired.last;
        }
    }
    Ok((report, done))
}

fn erase(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Value> {
    let graph = cache::current(session)?;
    let deletion = Deletion::authorised(session, &graph, id, true)?;
    let mut report = Report::new(i64::MAX);
    match deletion.state {
        State::Purged => {}
        State::Restored => {
            return Err(Failure::DeletionNotFound {
                deletion: id.to_string(),
            });
        }
        State::Deleted | State::Purging => {
            if in_force::locked(session, &graph, &[id])?.contain(id) {
                return Err(Failure::Held {
                    deletion: id.to_string(),
                });
            }
            rows::purge(session, &graph, &[id], &mut report)?;
            if report.rows > 0 {
                deletion::retry_postponed_of(session, deletion.tenant)?;
            }
        }
    }
    Ok(report.into_json(None))
}
