//! Changes a value of an archived row, so that it has a place when it is restored.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, pg_sys};

use crate::access::target_row::Key;
use crate::archive::objects;
use crate::call::arguments::{Jsonb, Regclass};
use crate::model::error::{Failure, Outcome, required};
use crate::model::row_id::{RowId, is_among};
use crate::model::sql::join;
use crate::restore_archived::archived_rows::{Archived, Column, Rows};
use crate::restore_archived::rights;
use crate::restore_archived::work;
use crate::spi::session::{Session, with_reading_session, with_session};
use crate::spi::shown_names;

/// Sets a column of the last archived version of a row, as an UPDATE would that of a live one: `value` is text in the form that
/// the column's type reads. It asks for the UPDATE privilege on the column, and the row must pass the caller's policies, before and
/// after. Not of the primary key, by which the row's deletion knows it.
///
/// # Errors
/// P0002 when the archive has no such row, or none that the caller may see and update; 42501 without the privilege; 55000 when
/// the table has no archive, or the purge of the row's deletion has begun; 22023 for a column that cannot be set.
#[pg_extern]
fn change_deleted(
    relation: Option<Regclass>,
    key: Option<Jsonb>,
    column_name: Option<&str>,
    value: Option<&str>,
) -> Result<(), ErrorReport> {
    let oid = required(relation, "relation")?.oid();
    let key = Key::Columns(JsonB(required(key, "key")?.0).into());
    let column = required(column_name, "column_name")?;
    Ok(with_session(|session| {
        run(session, oid, key, column, value)
    })?)
}

/// Whether the caller could update the last archived version of a row, were it live: he has the UPDATE privilege on the table or a
/// column of it, and its policies let him.
#[pg_extern]
fn may_change_deleted(relation: Option<Regclass>, key: Option<Jsonb>) -> Result<bool, ErrorReport> {
    let oid = required(relation, "relation")?.oid();
    let key = Key::Columns(JsonB(required(key, "key")?.0).into());
    Ok(with_reading_session(|session| {
        may_change(session, oid, key)
    })?)
}

const MAY_ANY: &str = "SELECT pg_catalog.has_any_column_privilege($1, 'UPDATE')";

fn may_change(session: &mut Session<'_, '_>, relation: pg_sys::Oid, key: Key<'_>) -> Outcome<bool> {
    let may = session.catalog(MAY_ANY, &[relation.into()])?;
    if may.first().get_one::<bool>()? != Some(true) {
        return Ok(false);
    }
    let Some((one, row)) = work::find_newest(session, relation, key)? else {
        return Ok(false);
    };
    let mut rows = Rows::default();
    rows.also.insert(row);
    rights::would_update(session, &one, &rows)
}

const MAY: &str = "SELECT pg_catalog.has_column_privilege($1, $2, 'UPDATE')";

fn run(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: Key<'_>,
    column: &str,
    value: Option<&str>,
) -> Outcome<()> {
    let found = work::find_locked(session, relation, key)?;
    let Some((one, row)) = found else {
        return Err(Failure::RowNotFound {
            table: shown_names::table(session, relation)?,
        });
    };
    let not_found = || Failure::RowNotFound {
        table: one.table.shown.clone(),
    };
    let change = Change::of(&one, column)?;
    if objects::key_column(session, one.archive)?.as_deref() == Some(column) {
        return Err(Failure::KeyOfObject {
            table: one.table.shown,
        });
    }
    let may = session.catalog(MAY, &[relation.into(), column.into()])?;
    if may.first().get_one::<bool>()? != Some(true) {
        return Err(Failure::MayNotUpdate {
            table: one.table.shown.clone(),
            column: column.to_owned(),
        });
    }
    let mut rows = Rows::default();
    rows.also.insert(row);
    if !rights::would_update(session, &one, &rows)? {
        return Err(not_found());
    }
    let sql = format!(
        "UPDATE {archive} AS a SET {set} WHERE {row}{readable} RETURNING a.tableoid, a.ctid",
        archive = one.archive_name,
        set = change.set,
        row = is_among(&rows.also, "a"),
        readable = change.readable,
    );
    let changed = RowId::read_all(session.over_archives(&one.table, &sql, &[value.into()])?)?;
    let mut after = Rows::default();
    after.also.extend(changed);
    if after.is_empty() && !change.readable.is_empty() {
        return Err(wrong(
            "the type of another column has changed since the row was archived, and its value cannot be converted".into(),
            "Restore the row first.",
        ));
    }
    if after.is_empty() || !rights::would_be_let(session, &one, &after)? {
        return Err(not_found());
    }
    Ok(())
}

/// What to set in the archive.
struct Change {
    /// The columns and their values, that of the column which is asked for as `$1`.
    set: String,
    /// The further condition that all values of the row can be read, where all are written anew.
    readable: String,
}

impl Change {
    fn of(one: &Archived, column: &str) -> Outcome<Self> {
        if one.table.key.iter().any(|key| key.name.0 == column) {
            return Err(wrong(
                format!("column {column} is part of the primary key"),
                "Restore the row first.",
            ));
        }
        let known = one.stored_columns().find(|known| known.name.0 == column);
        let known = known.ok_or_else(|| {
            wrong(
                format!(
                    "table {} has no column {column} that can be set",
                    one.table.shown
                ),
                "Pass the name of a column that is not generated.",
            )
        })?;
        if let Some(kept) = one.kept_everywhere(known.number) {
            return Ok(Self {
                set: format!("{kept} = {}", known.read("$1")),
                readable: String::new(),
            });
        }
        Self::to_newest(one, known).ok_or_else(|| {
            wrong(
                "the columns of the table have changed, and its archive has not followed yet"
                    .into(),
                "Call keepsake.manage() of the table first.",
            )
        })
    }

    /// The row gets the newest layout, with the values that it has there: an older one may lack the column, or keep it in another type.
    fn to_newest(one: &Archived, asked_for: &Column) -> Option<Self> {
        let mut set = Vec::new();
        let mut newest = 0;
        for column in &one.columns {
            let (_, name, layout) = one.kept_name(column.number)?;
            newest = layout;
            let value = if column.number == asked_for.number {
                asked_for.read("$1")
            } else {
                one.value(column)
            };
            set.push(format!("{name} = {value}"));
        }
        set.push(format!("keepsake_layout = {newest}"));
        let lost = one.inconvertible().into_iter();
        let lost = lost.filter(|(column, _)| column.number != asked_for.number);
        let readable = lost.map(|(_, has_value)| format!(" AND NOT ({has_value})"));
        Some(Self {
            set: join(set, ", "),
            readable: format!(" AND true{}", join(readable, "")),
        })
    }
}

fn wrong(what: String, fix: &str) -> Failure {
    Failure::BadArgument {
        what,
        fix: fix.into(),
    }
}
