//! Archives that are divided by month: the rows of each month's deletions are in a table of their own, the month table, which a purge empties as a whole.
//!
//! A month table inherits from its archive, so that who reads the archive reads all. It is made before its month begins, by a purge: a DELETE
//! only looks for it, and writes to the archive itself where there is none.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::archive::columns::{HEAD, columns_of};
use crate::archive::heaps;
use crate::archive::names::{OWNER, free_name, month_table_name, name_of, oid_of};
use crate::archive::shown_to::revoke_all;
use crate::archive::table::index_deletions;
use crate::call::arguments::Regclass;
use crate::graph::catalog::field;
use crate::model::error::{Failure, Outcome, required};
use crate::model::sql::{Ident, Qualified, join};
use crate::postgres::settings::{LocalSettings, default_tablespace};
use crate::postgres::subtransaction::{Raised, attempt_unless};
use crate::registry::description::describe;
use crate::spi::session::{Session, first_column, with_session};

/// Divides the archive of a table by month from now on; with `by_month => false`, new months get no table, and the month tables that there are
/// stay until they are purged. `CALL keepsake.purge()` empties a month table as a whole when all of it has expired and none is held, and drops it
/// when the month is over. Nothing is divided while the archive is published: subscribers would not know the month tables.
///
/// # Errors
/// 42501 for anyone but the table's owner; 55000 where the table has no archive.
#[pg_extern]
fn archive_by_month(
    relation: Regclass,
    by_month: default!(Option<bool>, true),
) -> Result<(), ErrorReport> {
    let (oid, by_month) = (relation.oid(), required(by_month, "by_month")?);
    Ok(with_session(|session| divide(session, oid, by_month))?)
}

fn divide(session: &mut Session<'_, '_>, oid: pg_sys::Oid, by_month: bool) -> Outcome<()> {
    let found = describe(session, oid)?;
    found.check_owned()?;
    let set = session.registry(
        "UPDATE keepsake.archive_table a SET by_month = $2 FROM keepsake.managed_table m
         WHERE a.relation = $1 AND m.relation = a.relation AND m.keep = 'archive' RETURNING 1",
        &[oid.into(), by_month.into()],
    )?;
    if set.is_empty() {
        return Err(Failure::NotArchived { table: found.shown });
    }
    make_missing(session, Some(oid))
}

/// This month's month table and the next one's, of archives that are divided and lack them.
const MISSING: &str = "
    SELECT a.archive::oid AS archive, a.relation::oid AS relation, m.month::date::text AS month,
           (lpad(to_hex((extract(epoch FROM m.month AT TIME ZONE 'UTC') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid::text AS begins,
           (lpad(to_hex((extract(epoch FROM (m.month + interval '1 month') AT TIME ZONE 'UTC') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid::text AS ends
    FROM keepsake.archive_table a
    CROSS JOIN LATERAL (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month' AS month FROM generate_series(0, 1) AS n) AS m
    WHERE a.by_month AND a.relation IS NOT NULL AND ($1 IS NULL OR a.relation = $1)
      AND NOT EXISTS (SELECT FROM keepsake.archive_month p WHERE p.archive = a.archive AND p.month = m.month::date)
      AND NOT keepsake.is_published(a.archive)
    ORDER BY a.archive, m.month";

fn make_missing(session: &mut Session<'_, '_>, relation: Option<pg_sys::Oid>) -> Outcome<()> {
    for row in session.registry_now(MISSING, &[relation.into()])? {
        make(session, &row)?;
    }
    Ok(())
}

/// The tables whose archives lack a month table.
fn lacking(session: &Session<'_, '_>) -> Outcome<Vec<pg_sys::Oid>> {
    let rows = session.registry_now(MISSING, &[None::<pg_sys::Oid>.into()])?;
    let tables = rows.iter().map(|row| field(row, "relation"));
    let mut tables = tables.collect::<Outcome<Vec<_>>>()?;
    tables.dedup();
    Ok(tables)
}

/// Makes the month tables that are missing, for a purge. What stands in the way of one, such as a lock, must stop neither that nor those of other
/// archives: doctor() tells what is missing.
pub fn make_ready() {
    let tables = attempt(|session| lacking(session)).unwrap_or_default();
    for table in tables {
        attempt(|session| make_missing(session, Some(table)));
    }
}

/// Does work that the next purge does as well, if it fails.
fn attempt<R>(work: impl FnOnce(&mut Session<'_, '_>) -> Outcome<R>) -> Option<R> {
    let passes = |raised: Raised| {
        let is_read_only = raised.code == PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION;
        is_read_only
            || raised.by_interrupt && raised.code != PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
    };
    let done = attempt_unless(passes, || {
        // Whoever has locked an archive of his own keeps the purge no longer.
        let _briefly = LocalSettings::open(&[(c"lock_timeout", c"100ms")]);
        with_session(work)
    });
    match done {
        Ok(done) => Some(done),
        Err(caught) => {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "an archive has no table for the next month yet: {}",
                    caught.into_message()
                ),
                "The next purge tries again."
            );
            None
        }
    }
}

fn make(session: &mut Session<'_, '_>, row: &SpiHeapTupleData<'_>) -> Outcome<()> {
    let _place = default_tablespace();
    let archive: pg_sys::Oid = field(row, "archive")?;
    let text = |name: &str| -> Outcome<String> { field(row, name) };
    let month = text("month")?;
    let whole = name_of(session, archive)?;
    let table = Qualified {
        name: free_name(
            session,
            &whole.schema,
            &month_table_name(&whole.name, &month),
        )?,
        schema: whole.schema.clone(),
    };
    let unlogged = "SELECT 1 FROM pg_class WHERE oid = $1 AND relpersistence = 'u'";
    let unlogged = !session
        .registry_now(unlogged, &[archive.into()])?
        .is_empty();
    session.registry(
        &format!(
            "CREATE {}TABLE {table} () INHERITS ({whole}) USING heap",
            if unlogged { "UNLOGGED " } else { "" }
        ),
        &[],
    )?;
    let oid = oid_of(session, &table)?;
    // Storage and compression are inherited, this is not: ANALYZE would run functions that the owner of a type wrote.
    let columns = columns_of(session, oid)?;
    let actions = columns.into_iter().skip(HEAD.len());
    let actions: Vec<_> = actions
        .map(|(_, column)| format!("ALTER {} SET STATISTICS 0", Ident(column)))
        .collect();
    if !actions.is_empty() {
        session.registry(&format!("ALTER TABLE {table} {}", join(actions, ", ")), &[])?;
    }
    index_alike(session, archive, &table)?;
    session.registry(&format!("ALTER TABLE {table} OWNER TO {OWNER}"), &[])?;
    // Who may read the archive reads it through that, under its policies.
    revoke_all(session, oid, &table)?;
    session.registry(
        &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
        &[],
    )?;
    session.registry(
        "INSERT INTO keepsake.archive_month (month_table, archive, month, begins, ends) VALUES ($1, $2, $3::text::date, $4::text::uuid, $5::text::uuid)",
        &[
            oid.into(),
            archive.into(),
            month.as_str().into(),
            text("begins")?.as_str().into(),
            text("ends")?.as_str().into(),
        ],
    )?;
    heaps::forget(archive);
    Ok(())
}

/// The columns over which an archive has an index of its own, for its rows to be found by.
const INDEXED: &str = "
    SELECT DISTINCT a.attname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am am ON am.oid = i.relam
    JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
    WHERE x.indrelid = $1 AND am.amname = 'btree' AND x.indnatts = 1 AND x.indisvalid ORDER BY 1";

fn index_alike(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    table: &Qualified,
) -> Outcome<()> {
    index_deletions(session, table)?;
    let columns: Vec<String> = first_column(session.registry(INDEXED, &[archive.into()])?)?;
    for column in columns {
        session.registry(&format!("CREATE INDEX ON {table} ({})", Ident(column)), &[])?;
    }
    Ok(())
}
