//! The purge of whole months: a month table whose deletions have all expired is emptied at once.

use std::collections::{HashMap, HashSet};

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::archive::heaps;
use crate::archive::names::name_of;
use crate::graph::cache;
use crate::graph::catalog::field;
use crate::hold::in_force;
use crate::model::error::Outcome;
use crate::postgres::settings::no_whole_tables;
use crate::postgres::subtransaction::{Caught, Raised, attempt_unless};
use crate::purge::gone::Gone;
use crate::purge::report::Report;
use crate::purge::rows;
use crate::purge::selection::IS_DUE;
use crate::spi::session::{Session, first_column, with_purging_session};

/// So many deletions are settled in one transaction at most; a month with more is purged by rows.
const MOST_DELETIONS: usize = 100_000;

/// Drops month tables that are over and empty, and empties one whose deletions are all due and not held, if there is one.
/// A month table that somebody uses at the moment is left to a later purge.
pub fn purge_one(as_of: Option<TimestampWithTimeZone>) -> Outcome<Option<Report>> {
    drop_emptied();
    let mut after = None;
    loop {
        let next = with_purging_session(|session| {
            // Who committed deletions since its snapshot, a transaction that keeps one would not see.
            if session.keeps_its_snapshot() {
                return Ok(None);
            }
            next(session, as_of, after)
        })?;
        let Some(month) = next else {
            return Ok(None);
        };
        after = Some(month.table);
        let purged = try_to(|session| purge(session, as_of, &month)).flatten();
        if purged.is_some() {
            return Ok(purged);
        }
    }
}

/// Does work that the purge of rows does as well, if it fails; says why unless others use the table.
fn try_to<R>(work: impl FnOnce(&mut Session<'_, '_>) -> Outcome<R>) -> Option<R> {
    let is_lock = |code| code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE;
    let passes = |raised: Raised| raised.by_interrupt && !is_lock(raised.code);
    match attempt_unless(passes, || with_purging_session(work)) {
        Ok(done) => Some(done),
        Err(Caught::Error { code, .. }) if is_lock(code) => None,
        Err(caught) => {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "a month of an archive was not purged as a whole: {}",
                    caught.into_message()
                ),
                "Its rows are purged one by one."
            );
            None
        }
    }
}

/// A month of an archive, and the table that has its rows.
struct Month {
    table: pg_sys::Oid,
    archive: pg_sys::Oid,
    /// The table whose rows it has, by the OID that deletions know it by.
    relation: pg_sys::Oid,
    shown: String,
    begins: Uuid,
    ends: Uuid,
    is_over: bool,
}

/// Deletions with rows in month table `p`, which belongs to archive `a`.
const HAS_ROWS: &str = "t.deletion_id >= p.begins AND t.deletion_id < p.ends
    AND t.relation::oid = coalesce(a.relation::oid, a.former) AND t.purged < t.row_count AND d.state IN ('deleted', 'purging')";

/// The next month table whose youngest deletion has expired: mostly, those before it have, too. Of rows that name objects each is to be read, and
/// subscribers are told of each that is removed, not of tables.
fn next(
    session: &mut Session<'_, '_>,
    as_of: Option<TimestampWithTimeZone>,
    after: Option<pg_sys::Oid>,
) -> Outcome<Option<Month>> {
    let sql = format!(
        "SELECT p.month_table::oid AS month_table, p.archive::oid AS archive, coalesce(a.relation::oid, a.former) AS relation, p.begins, p.ends,
                quote_ident(a.source_schema) || '.' || quote_ident(a.source_name) AS shown,
                p.month + interval '1 month' <= now() AT TIME ZONE 'UTC' AS is_over
         FROM keepsake.archive_month p JOIN keepsake.archive_table a ON a.archive = p.archive
         WHERE a.object_key IS NULL AND NOT keepsake.is_published(p.archive) AND NOT keepsake.is_published(p.month_table) AND ($2 IS NULL OR p.month_table::oid > $2)
           AND (SELECT d.expires_at <= coalesce($1, now()) FROM keepsake.deletion_table t JOIN keepsake.deletion d ON d.id = t.deletion_id
                WHERE {HAS_ROWS} ORDER BY t.deletion_id DESC LIMIT 1)
         ORDER BY p.month_table::oid LIMIT 1"
    );
    let rows = session.registry_now(&sql, &[as_of.into(), after.into()])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Month {
        table: field(row, "month_table")?,
        archive: field(row, "archive")?,
        relation: field(row, "relation")?,
        shown: field(row, "shown")?,
        begins: field(row, "begins")?,
        ends: field(row, "ends")?,
        is_over: field(row, "is_over")?,
    }))
}

/// Empties a month table, if it can be emptied as a whole.
fn purge(
    session: &mut Session<'_, '_>,
    as_of: Option<TimestampWithTimeZone>,
    month: &Month,
) -> Outcome<Option<Report>> {
    let due = lock_due(session, as_of, month)?;
    if due.is_empty() || due.len() > MOST_DELETIONS {
        return Ok(None);
    }
    let graph = cache::current(session)?;
    let holds = in_force::locked(session, &graph, &due)?;
    if due.iter().any(|deletion| holds.contain(*deletion)) {
        return Ok(None);
    }
    let name = name_of(session, month.table)?;
    // Whoever has written to it and not committed yet has it locked.
    session.registry(
        &format!("LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE NOWAIT"),
        &[],
    )?;
    let left = left(session, month)?;
    let due: HashSet<[u8; 16]> = due.iter().map(|deletion| *deletion.as_bytes()).collect();
    if !left.keys().all(|deletion| due.contains(deletion)) || has_others(session, month)? {
        return Ok(None);
    }
    let elsewhere = elsewhere(session, month)?;
    let (mut gone, mut report) = (Gone::new(), Report::new(i64::MAX));
    for (deletion, rows) in left {
        let rows = rows - elsewhere.get(&deletion).copied().unwrap_or(0);
        if rows > 0 {
            gone.insert((deletion, month.relation), rows);
            report.note_purged(&month.shown, rows);
        }
    }
    if gone.is_empty() {
        return Ok(None);
    }
    let sql = if month.is_over {
        format!("DROP TABLE {name}")
    } else {
        format!("TRUNCATE ONLY {name}")
    };
    session.registry(&sql, &[])?;
    rows::enter(session, gone)?;
    // There may be others.
    report.stop();
    Ok(Some(report))
}

/// Locks the deletions of the month that are due.
fn lock_due(
    session: &mut Session<'_, '_>,
    as_of: Option<TimestampWithTimeZone>,
    month: &Month,
) -> Outcome<Vec<Uuid>> {
    let sql = format!(
        "SELECT d.id FROM keepsake.archive_month p JOIN keepsake.archive_table a ON a.archive = p.archive
         JOIN keepsake.deletion_table t ON t.deletion_id >= p.begins AND t.deletion_id < p.ends
         JOIN keepsake.deletion d ON d.id = t.deletion_id
         WHERE p.month_table = $2 AND {HAS_ROWS} AND {IS_DUE}
         ORDER BY d.id LIMIT $3 FOR UPDATE OF d SKIP LOCKED"
    );
    let most = i64::try_from(MOST_DELETIONS + 1).unwrap_or(i64::MAX);
    let rows = session.registry(&sql, &[as_of.into(), month.table.into(), most.into()])?;
    first_column(rows)
}

/// How many rows each deletion of the month has left, as is committed now.
fn left(session: &Session<'_, '_>, month: &Month) -> Outcome<HashMap<[u8; 16], i64>> {
    let sql = format!(
        "SELECT t.deletion_id AS deletion, t.row_count - t.purged AS rows
         FROM keepsake.archive_month p JOIN keepsake.archive_table a ON a.archive = p.archive
         JOIN keepsake.deletion_table t ON t.deletion_id >= p.begins AND t.deletion_id < p.ends
         JOIN keepsake.deletion d ON d.id = t.deletion_id
         WHERE p.month_table = $1 AND {HAS_ROWS}"
    );
    counted(session, &sql, &[month.table.into()])
}

fn counted(
    session: &Session<'_, '_>,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
) -> Outcome<HashMap<[u8; 16], i64>> {
    let rows = session.registry_now(sql, arguments)?;
    rows.iter()
        .map(|row| {
            let deletion: Uuid = field(row, "deletion")?;
            Ok((*deletion.as_bytes(), field(row, "rows")?))
        })
        .collect()
}

/// Whether the month table has rows of deletions of another month, which were passed on to them.
fn has_others(session: &mut Session<'_, '_>, month: &Month) -> Outcome<bool> {
    let sql = format!(
        "SELECT 1 FROM ONLY {} WHERE keepsake_deletion < $1 OR keepsake_deletion >= $2",
        name_of(session, month.table)?
    );
    let _plan = no_whole_tables();
    session.registry_exists_now(&sql, &[month.begins.into(), month.ends.into()])
}

/// How many rows of the month's deletions are not in its month table: older than that, or passed on to them.
fn elsewhere(session: &Session<'_, '_>, month: &Month) -> Outcome<HashMap<[u8; 16], i64>> {
    let mut found = HashMap::new();
    let _plan = no_whole_tables();
    let months = heaps::months(session, month.archive)?;
    let heaps = months
        .iter()
        .map(|month| month.table)
        .chain([month.archive]);
    for heap in heaps.filter(|heap| *heap != month.table) {
        let sql = format!(
            "SELECT keepsake_deletion AS deletion, count(*) AS rows FROM ONLY {}
             WHERE keepsake_deletion >= $1 AND keepsake_deletion < $2 GROUP BY 1",
            name_of(session, heap)?
        );
        for (deletion, rows) in counted(session, &sql, &[month.begins.into(), month.ends.into()])? {
            *found.entry(deletion).or_insert(0) += rows;
        }
    }
    Ok(found)
}

/// Drops month tables of months that are over, and whose rows have all been restored or purged.
fn drop_emptied() {
    let emptied = format!(
        "SELECT p.month_table::oid AS month_table FROM keepsake.archive_month p JOIN keepsake.archive_table a ON a.archive = p.archive
         WHERE p.month + interval '1 month' <= now() AT TIME ZONE 'UTC'
           AND NOT EXISTS (SELECT FROM keepsake.deletion_table t JOIN keepsake.deletion d ON d.id = t.deletion_id WHERE {HAS_ROWS})
         ORDER BY p.month_table::oid"
    );
    let tables: Option<Vec<pg_sys::Oid>> = try_to(|session| {
        let rows = session.registry_now(&emptied, &[])?;
        rows.iter().map(|row| field(row, "month_table")).collect()
    });
    for table in tables.into_iter().flatten() {
        // One that others use is dropped by a later purge.
        let _dropped = try_to(|session| drop_if_empty(session, table));
    }
}

fn drop_if_empty(session: &mut Session<'_, '_>, table: pg_sys::Oid) -> Outcome<()> {
    let name = name_of(session, table)?;
    session.registry(
        &format!("LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE NOWAIT"),
        &[],
    )?;
    if !session.registry_exists_now(&format!("SELECT 1 FROM ONLY {name}"), &[])? {
        session.registry(&format!("DROP TABLE {name}"), &[])?;
    }
    Ok(())
}
