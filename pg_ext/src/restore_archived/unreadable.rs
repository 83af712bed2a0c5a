//! Archived rows that cannot be read in the shape that their table has now.

use pgrx::PgSqlErrorCode;
use serde_json::{Value, json};

use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::Found;
use crate::model::row_id::RowId;
use crate::model::sql::join;
use crate::postgres::subtransaction::{Caught, attempt_unless};
use crate::restore_archived::archived_rows::{Archived, Rows};
use crate::spi::session::Session;

/// Rows with a value that cannot be made one of its column's type, or does not fit it: nothing else can be asked about them.
pub fn unreadable(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
) -> Outcome<Vec<Found>> {
    let mut found = Vec::new();
    let mut rows = rows.clone();
    for (column, condition) in one.inconvertible() {
        for place in places(session, one, &rows, &condition)? {
            rows.remove(place);
            found.push(no_conversion(
                one,
                place,
                json!({ "column": column.name.0.as_str() }),
            ));
        }
    }
    if one.converts() && probe(session, one, &rows)?.is_some() {
        let all = places(session, one, &rows, "true")?;
        bisect(session, one, &all, &mut found)?;
    }
    Ok(found)
}

fn no_conversion(one: &Archived, place: RowId, values: Value) -> Found {
    Found {
        conflict: Conflict {
            kind: "no_conversion",
            table: one.table.shown.clone(),
            key: Value::Null,
            constraint: None,
            values,
            holder: Value::Null,
            deletion_id: None,
        },
        row: (one.table.oid, place),
        holder: None,
        among_restored: false,
    }
}

/// The rows among these for which a condition on row `a` of the archive holds.
fn places(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    condition: &str,
) -> Outcome<Vec<RowId>> {
    let selects = rows.conditions("a").into_iter().map(|among| {
        format!(
            "SELECT a.tableoid, a.ctid FROM {} AS a WHERE {among} AND {condition}",
            one.archive_name
        )
    });
    let sql = join(selects, " UNION ALL ");
    RowId::read_all(session.write_archive(&sql, &[])?)
}

/// Whether any of the rows is there.
pub fn has_rows(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<bool> {
    for among in rows.conditions("a") {
        let sql = format!(
            "SELECT 1 FROM {} AS a WHERE {among} LIMIT 1",
            one.archive_name
        );
        if !session.write_archive(&sql, &[])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds the rows that cannot be converted, by halves.
fn bisect(
    session: &mut Session<'_, '_>,
    one: &Archived,
    places: &[RowId],
    found: &mut Vec<Found>,
) -> Outcome<()> {
    let rows = Rows {
        also: places.iter().copied().collect(),
        ..Rows::default()
    };
    let Some(error) = probe(session, one, &rows)? else {
        return Ok(());
    };
    if let [place] = places {
        found.push(no_conversion(one, *place, json!({ "error": error })));
        return Ok(());
    }
    let (left, right) = places.split_at(places.len() / 2);
    bisect(session, one, left, found)?;
    bisect(session, one, right, found)
}

/// Converts all columns of the rows; answers with the error that this meets.
fn probe(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<Option<String>> {
    let columns = one
        .stored_columns()
        .map(|column| format!("s.{}", column.name));
    let sql = format!(
        "SELECT pg_catalog.count(ROW({})) FROM ({}) AS s",
        join(columns, ", "),
        one.source(rows)
    );
    let probed = attempt_unless(
        |raised| !is_data_exception(raised.code),
        || Ok(session.over_archives(&one.table, &sql, &[])?.len()),
    );
    match probed {
        Ok(_) => Ok(None),
        Err(Caught::Failure(failure)) => Err(failure),
        Err(Caught::Error { message, .. }) => Ok(Some(message)),
    }
}

/// Whether an error is one of class 22: a value is not as it should be.
pub fn is_data_exception(code: PgSqlErrorCode) -> bool {
    // Five characters of six bits each, the first lowest (MAKE_SQLSTATE in elog.h).
    (code as i32) & 0xFFF == 2 | 2 << 6
}
