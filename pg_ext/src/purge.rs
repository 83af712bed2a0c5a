//! Purge: the hard delete of what has expired, referring rows first, in bounded batches.
//!
//! A deletion expires as a whole, when the retention of its root's table has run out; until then
//! it can be restored exactly. One worker at a time purges a deletion, others take the next.

use std::collections::BTreeMap;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiCursor;
use pgrx::{JsonB, Uuid};
use serde_json::{Value, json};

use crate::deletion::{self, Deletion, State};
use crate::error::{Failure, Outcome};
use crate::graph::{Graph, OnDelete, Table};
use crate::session::{Session, first_column, with_session};
use crate::subtransaction::attempt;

/// Rows, or deletions, that are worked on in one go.
const WINDOW: i64 = 1000;

/// Rows whose deletion has expired at `as_of` (now, unless given): longest deleted first, and
/// within that referring tables first. They are locked for this transaction; rows and deletions
/// that another worker has locked are passed over.
#[pg_extern]
fn purge_candidates(
    max_rows: default!(Option<i32>, 1000),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
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
    Ok(TableIterator::new(with_session(|session| {
        candidates(session, at_least_one(max_rows)?, as_of)
    })?))
}

/// Purges up to `max_rows` expired rows in this transaction and says what it did:
/// `{"rows", "more", "failed", "tables": [{"table", "rows", "blocked"}]}`. `blocked` rows have
/// expired but something still refers to them. `more` says that `max_rows` stopped it. `failed`
/// deletions met an error, which `keepsake.deletion` keeps, and are tried again after an hour.
#[pg_extern]
fn purge_batch(
    max_rows: default!(Option<i32>, 1000),
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(with_session(|session| {
        batch(session, at_least_one(max_rows)?, as_of)
    })?))
}

/// Purges one deletion now, whatever its retention: for content that must not be kept. Answers
/// like `purge_batch`.
///
/// # Errors
/// P0002 when there is no such deletion or it was restored; 42501 without the DELETE privilege on
/// its root table.
#[pg_extern]
fn purge_deletion(deletion: Uuid) -> Result<JsonB, ErrorReport> {
    Ok(JsonB(with_session(|session| erase(session, deletion))?))
}

/// How many rows are asked for: a batch of none would never come to an end.
fn at_least_one(max_rows: Option<i32>) -> Outcome<i64> {
    match max_rows {
        Some(rows) if rows >= 1 => Ok(i64::from(rows)),
        _ => Err(Failure::BadArgument {
            what: "max_rows must be at least 1".into(),
            fix: "Give how many rows one batch may purge, such as 1000.".into(),
        }),
    }
}

type Candidate = (String, JsonB, Uuid, TimestampWithTimeZone);

fn candidates(
    session: &mut Session<'_, '_>,
    max_rows: i64,
    as_of: Option<TimestampWithTimeZone>,
) -> Outcome<Vec<Candidate>> {
    let graph = Graph::current(session)?;
    let mut expired = expired_deletions(session, as_of)?;
    let mut found = Vec::new();
    loop {
        let deletions = next_deletions(&mut expired, WINDOW.min(max_rows))?;
        if deletions.is_empty() {
            return Ok(found);
        }
        for table in deletion::holding(session, &graph, &deletions)?
            .into_iter()
            .flatten()
        {
            let left = max_rows - i64::try_from(found.len()).unwrap_or(max_rows);
            if left <= 0 {
                return Ok(found);
            }
            found.extend(candidates_of(session, table, &deletions, left)?);
        }
    }
}

fn candidates_of(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletions: &[Uuid],
    max_rows: i64,
) -> Outcome<Vec<Candidate>> {
    let sql = format!(
        "SELECT {key}, t.deletion_id, t.deleted_at FROM {rows} AS t
         WHERE t.deletion_id = ANY ($1) AND t.deleted_at IS NOT NULL LIMIT {max_rows} FOR UPDATE SKIP LOCKED",
        key = table.key_json("t"),
        rows = table.rows(),
    );
    let mut found = Vec::new();
    for row in session.as_owner(table, &sql, &[deletions.to_vec().into()])? {
        if let (Some(key), Some(deletion), Some(at)) = (row.get(1)?, row.get(2)?, row.get(3)?) {
            found.push((table.shown.clone(), key, deletion, at));
        }
    }
    Ok(found)
}

fn batch(
    session: &mut Session<'_, '_>,
    max_rows: i64,
    as_of: Option<TimestampWithTimeZone>,
) -> Outcome<Value> {
    let graph = Graph::current(session)?;
    let mut expired = expired_deletions(session, as_of)?;
    let mut report = Report::new(max_rows);
    while !report.is_full() {
        let deletions = next_deletions(&mut expired, WINDOW.min(report.left()))?;
        if deletions.is_empty() {
            break;
        }
        purge_or_put_off(session, &graph, &deletions, &mut report)?;
    }
    Ok(report.into_json())
}

/// Purges the deletions; when that fails, each by itself, so that one whose rows cannot go, because
/// of a trigger or constraint of its tables, does not stand in the way of the others.
fn purge_or_put_off(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletions: &[Uuid],
    report: &mut Report,
) -> Outcome<()> {
    let mut part = Report::new(report.left());
    let done = attempt(|| purge_deletions(session, graph, deletions, &mut part));
    match (done, deletions) {
        (Ok(()), _) => {
            report.take_in(part);
            Ok(())
        }
        (Err(message), [deletion]) => {
            report.failed += 1;
            session.registry(
                "UPDATE keepsake.deletion SET purge_failed_at = now(), purge_error = left($2, 500) WHERE id = $1",
                &[(*deletion).into(), message.into()],
            )?;
            Ok(())
        }
        (Err(_), several) => several.iter().try_for_each(|deletion| {
            if report.is_full() {
                return Ok(());
            }
            purge_or_put_off(session, graph, std::slice::from_ref(deletion), report)
        }),
    }
}

fn erase(session: &mut Session<'_, '_>, id: Uuid) -> Outcome<Value> {
    let graph = Graph::current(session)?;
    let deletion = Deletion::authorised(session, &graph, id, true)?;
    let mut report = Report::new(i64::MAX);
    match deletion.state {
        State::Purged => {}
        State::Restored => {
            return Err(Failure::DeletionNotFound {
                deletion: id.to_string(),
            });
        }
        State::Deleted | State::Purging => purge_deletions(session, &graph, &[id], &mut report)?,
    }
    Ok(report.into_json())
}

/// A cursor over the expired deletions, longest deleted first, each locked as it is fetched: nobody
/// restores half of one, and no second worker takes it.
fn expired_deletions<'conn>(
    session: &mut Session<'_, 'conn>,
    as_of: Option<TimestampWithTimeZone>,
) -> Outcome<SpiCursor<'conn>> {
    session.registry_cursor(
        "SELECT d.id FROM keepsake.deletion d
         WHERE d.state IN ('deleted', 'purging')
           AND d.expires_at <= coalesce($1, now()) AND d.expires_at < 'infinity'
           AND (d.purge_failed_at <= coalesce($1, now()) - interval '1 hour') IS NOT FALSE
         ORDER BY d.expires_at, d.id
         FOR UPDATE OF d SKIP LOCKED",
        &[as_of.into()],
    )
}

fn next_deletions(expired: &mut SpiCursor<'_>, count: i64) -> Outcome<Vec<Uuid>> {
    first_column(expired.fetch(count.max(1))?)
}

/// What a purge did so far.
struct Report {
    max_rows: i64,
    rows: i64,
    failed: i64,
    tables: BTreeMap<String, (i64, i64)>,
}

impl Report {
    fn new(max_rows: i64) -> Self {
        Self {
            max_rows,
            rows: 0,
            failed: 0,
            tables: BTreeMap::new(),
        }
    }

    fn left(&self) -> i64 {
        self.max_rows - self.rows
    }

    fn is_full(&self) -> bool {
        self.left() <= 0
    }

    fn note_purged(&mut self, table: &Table, rows: i64) {
        self.rows += rows;
        if rows > 0 {
            self.tables.entry(table.shown.clone()).or_default().0 += rows;
        }
    }

    fn note_blocked(&mut self, tables: &[(&Table, i64)]) {
        for (table, rows) in tables.iter().filter(|(_, rows)| *rows > 0) {
            self.tables.entry(table.shown.clone()).or_default().1 += rows;
        }
    }

    fn take_in(&mut self, part: Self) {
        self.rows += part.rows;
        for (table, (rows, blocked)) in part.tables {
            let sums = self.tables.entry(table).or_default();
            sums.0 += rows;
            sums.1 += blocked;
        }
    }

    fn into_json(self) -> Value {
        let more = self.is_full();
        let tables: Vec<Value> = self
            .tables
            .into_iter()
            .map(|(table, (rows, blocked))| json!({ "table": table, "rows": rows, "blocked": blocked }))
            .collect();
        json!({ "rows": self.rows, "more": more, "failed": self.failed, "tables": tables })
    }
}

/// Purges the rows of these deletions, which this transaction has locked. A group of tables that
/// refer to each other is gone over as long as that frees further rows.
fn purge_deletions(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletions: &[Uuid],
    report: &mut Report,
) -> Outcome<()> {
    for group in deletion::holding(session, graph, deletions)? {
        loop {
            let (mut freed, mut blocked) = (false, Vec::new());
            for table in &group {
                let pass = purge_table(session, graph, table, deletions, report)?;
                freed |= pass.purged > 0;
                blocked.push((*table, pass.blocked));
            }
            if report.is_full() || !freed || !graph.is_cycle(&group) {
                report.note_blocked(&blocked);
                break;
            }
        }
    }
    Ok(())
}

/// One pass over the rows of one table.
#[derive(Default)]
struct Pass {
    purged: i64,
    blocked: i64,
}

fn purge_table(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    deletions: &[Uuid],
    report: &mut Report,
) -> Outcome<Pass> {
    let sql = format!(
        "SELECT t.ctid FROM {} AS t
         WHERE t.deletion_id = ANY ($1) AND t.deleted_at IS NOT NULL FOR UPDATE SKIP LOCKED",
        table.rows()
    );
    let mut rows = session.cursor(table, &sql, &[deletions.to_vec().into()])?;
    let mut pass = Pass::default();
    while !report.is_full() {
        let window = next_rows(&mut rows, WINDOW.min(report.left()))?;
        if window.is_empty() {
            break;
        }
        let seen = i64::try_from(window.len()).unwrap_or(WINDOW);
        let purged = purge_rows(session, graph, table, window)?;
        report.note_purged(table, purged);
        pass.purged += purged;
        pass.blocked += seen - purged;
    }
    Ok(pass)
}

fn next_rows(rows: &mut SpiCursor<'_>, count: i64) -> Outcome<Vec<pg_sys::ItemPointerData>> {
    first_column(rows.fetch(count)?)
}

/// Deletes those of the rows that nothing refers to any more, and enters them in the registry.
fn purge_rows(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    rows: Vec<pg_sys::ItemPointerData>,
) -> Outcome<i64> {
    let sql = format!(
        "WITH gone AS (
             DELETE FROM {rows} AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY ($1){unreferred}
             RETURNING t.deletion_id)
         SELECT g.deletion_id, pg_catalog.count(*) FROM gone AS g GROUP BY g.deletion_id",
        rows = table.rows(),
        unreferred = unreferred(graph, table)?,
    );
    let mut deletions = Vec::new();
    let mut counts = Vec::new();
    for row in session.write(table, &sql, &[rows.into()])? {
        if let (Some(deletion), Some(count)) = (row.get::<Uuid>(1)?, row.get::<i64>(2)?) {
            deletions.push(deletion);
            counts.push(count);
        }
    }
    let total = counts.iter().sum();
    if total > 0 {
        enter(session, table, deletions, counts)?;
    }
    Ok(total)
}

/// The conditions that no row refers to `t`, live or deleted: a foreign key's CASCADE must have
/// nothing to take along.
fn unreferred(graph: &Graph, table: &Table) -> Outcome<String> {
    graph
        .references_to(table.oid)
        .filter(|(reference, _)| reference.on_delete != OnDelete::Detach)
        .map(|(reference, child)| {
            reference.check_readable(child, table)?;
            let (rows, joins) = (child.rows(), reference.joins("c", "t"));
            Ok(format!(
                " AND NOT EXISTS (SELECT FROM {rows} AS c WHERE {joins})"
            ))
        })
        .collect()
}

const ENTER: &str = include_str!("../sql/enter_purged.sql");

/// Enters purged rows in the registry: their deletions can no longer be restored, and one with no
/// row left is done.
fn enter(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletions: Vec<Uuid>,
    counts: Vec<i64>,
) -> Outcome<()> {
    session.registry(
        ENTER,
        &[deletions.clone().into(), counts.into(), table.oid.into()],
    )?;
    session.registry(
        "UPDATE keepsake.deletion d
         SET state = CASE WHEN r.left_over THEN 'purging' ELSE 'purged' END,
             settled_at = CASE WHEN r.left_over THEN NULL ELSE now() END
         FROM (SELECT deletion_id, bool_or(purged < row_count) AS left_over
               FROM keepsake.deletion_table WHERE deletion_id = ANY ($1) GROUP BY deletion_id) AS r
         WHERE d.id = r.deletion_id AND d.id = ANY ($1)",
        &[deletions.into()],
    )?;
    Ok(())
}
