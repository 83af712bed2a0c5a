//! The row at the root of an operation: found by its key with the caller's own rights.
//!
//! What the caller gave is cast and compared here alone. Every later statement uses the key's own
//! values, in its own types, so that no cast, type or operator of the caller's runs with the rights
//! of a table's owner.

use std::marker::PhantomData;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;
use pgrx::{JsonB, Uuid, pg_sys};

use crate::error::{Failure, Outcome};
use crate::graph::{KeyColumn, Table};
use crate::hide::IncludingDeleted;
use crate::output_format::ExactOutput;
use crate::session::Session;
use crate::sql::{Literal, join};

/// A key as the caller gave it.
pub enum Key<'a> {
    /// A value of the key's type, or of another type of whole numbers.
    Value(DatumWithOid<'a>),
    /// Text in the form that the key's type reads.
    Text(&'a str),
    /// An object with one member for each key column.
    Columns(DatumWithOid<'a>),
}

/// Makes a `Key` of an argument of any type.
pub fn key_from_any(value: &pgrx::AnyElement) -> Key<'_> {
    // SAFETY: datum and type come from the same function argument, which the key does not outlive.
    let datum = unsafe { DatumWithOid::new(value.datum(), value.oid()) };
    if value.oid() == pg_sys::JSONBOID {
        Key::Columns(datum)
    } else {
        Key::Value(datum)
    }
}

const WHOLE_NUMBERS: [pg_sys::Oid; 3] = [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID];

impl<'a> Key<'a> {
    /// The condition that row `t` of `table` has this key, with its argument. A cast that could
    /// turn one key into another's, such as a rounding one, is not made.
    fn condition(self, table: &Table) -> Outcome<(String, DatumWithOid<'a>)> {
        match (self, table.key.as_slice()) {
            (Key::Value(value), [column]) => {
                let both_whole = [value.oid(), column.type_oid]
                    .iter()
                    .all(|oid| WHOLE_NUMBERS.contains(oid));
                if value.oid() != column.type_oid && !both_whole {
                    return Err(Failure::BadArgument {
                        what: format!("the key of {} is of type {}", table.shown, column.type_sql),
                        fix: "Give a value of that type, or text in the form that it reads.".into(),
                    });
                }
                Ok((Self::equals(column, "$1"), value))
            }
            (Key::Text(text), [column]) => {
                Ok((Self::equals(column, "$1::pg_catalog.text"), text.into()))
            }
            (Key::Columns(object), columns) => {
                let terms = columns.iter().map(|column| {
                    let member =
                        format!("($1 OPERATOR(pg_catalog.->>) {})", Literal(&column.name.0));
                    Self::equals(column, &member)
                });
                Ok((join(terms, " AND "), object))
            }
            (_, columns) => Err(Failure::BadArgument {
                what: format!("{} has a key of {} columns", table.shown, columns.len()),
                fix: "Give the key as jsonb with a member for each: '{\"a\": 1, \"b\": 2}'::jsonb."
                    .into(),
            }),
        }
    }

    fn equals(column: &KeyColumn, value: &str) -> String {
        format!(
            "t.{} {} {value}::{}",
            column.name, column.equals, column.type_sql
        )
    }
}

/// What the caller sees of the root row.
pub struct RootRow<'conn> {
    /// Its key, as JSON.
    pub key: JsonB,
    /// The deletion that removed it, if any.
    pub deletion: Option<Uuid>,
    /// The values of the key and their types, in the memory of the SPI connection.
    values: Vec<(pg_sys::Datum, pg_sys::Oid)>,
    connection: PhantomData<&'conn ()>,
}

impl<'conn> RootRow<'conn> {
    /// The condition that row `t` is this row; its arguments are numbered from 1.
    pub fn condition(&self, table: &Table) -> String {
        let terms = table
            .key
            .iter()
            .zip(1..)
            .map(|(column, n)| format!("t.{} {} ${n}", column.name, column.equals));
        join(terms, " AND ")
    }

    /// The arguments of the condition.
    pub fn args(&self) -> Vec<DatumWithOid<'conn>> {
        self.values
            .iter()
            // SAFETY: datum and type were read from the same column of a result that is in the memory of
            // the SPI connection, which the argument does not outlive.
            .map(|(datum, oid)| unsafe { DatumWithOid::new(*datum, *oid) })
            .collect()
    }
}

/// Finds the row with the caller's rights: the DELETE privilege on the table, and the row's own
/// SELECT and DELETE policies. Hidden and missing rows answer alike.
pub fn find<'conn>(
    session: &mut Session<'_, 'conn>,
    table: &Table,
    key: Key<'_>,
) -> Outcome<Option<RootRow<'conn>>> {
    may_delete(session, table)?;
    table.check_marks()?;
    let _hidden = IncludingDeleted::new();
    let (condition, argument) = key.condition(table)?;
    let sql = format!(
        "SELECT t.deletion_id, {columns} FROM {rows} AS t WHERE {condition} AND {policies}",
        columns = table.key_columns("t"),
        rows = table.rows(),
        policies = delete_policies(session, table)?,
    );
    let found = session.as_caller(&sql, &[argument])?.first();
    if found.is_empty() {
        return Ok(None);
    }
    read(session, &found, table).map(Some)
}

fn read<'conn>(
    session: &Session<'_, 'conn>,
    row: &SpiTupleTable<'conn>,
    table: &Table,
) -> Outcome<RootRow<'conn>> {
    const BEFORE_THE_KEY: usize = 1;
    let not_found = || Failure::RowNotFound {
        table: table.shown.clone(),
    };
    let mut values = Vec::with_capacity(table.key.len());
    for ordinal in (BEFORE_THE_KEY + 1..).take(table.key.len()) {
        let datum = row.get_datum_by_ordinal(ordinal)?.ok_or_else(not_found)?;
        values.push((datum, row.column_type_oid(ordinal)?.value()));
    }
    let mut found = RootRow {
        key: JsonB(serde_json::Value::Null),
        deletion: row.get(1)?,
        values,
        connection: PhantomData,
    };
    // The caller's key was read under the caller's settings; the registry's is printed under ours.
    let columns = table
        .key
        .iter()
        .zip(1..)
        .map(|(column, n)| format!("${n} AS {}", column.name));
    let print = format!(
        "SELECT {} FROM (SELECT {}) AS t",
        table.key_json("t"),
        join(columns, ", ")
    );
    let printed = session.catalog(&print, &found.args())?.first();
    found.key = printed.get_one()?.ok_or_else(not_found)?;
    Ok(found)
}

/// Refuses a caller without the DELETE privilege on `table`.
pub fn may_delete(session: &Session<'_, '_>, table: &Table) -> Outcome<()> {
    let may = session.catalog(
        "SELECT has_table_privilege($1, 'DELETE')",
        &[table.oid.into()],
    )?;
    if may.first().get_one()? == Some(true) {
        Ok(())
    } else {
        Err(Failure::MayNotDelete {
            table: table.shown.clone(),
        })
    }
}

const POLICIES: &str = include_str!("../sql/delete_policies.sql");

/// The table's DELETE policies that bind the caller, as one condition on row `t`. PostgreSQL
/// applies them to a `DELETE` only, and a soft delete is none.
/// <https://www.postgresql.org/docs/current/ddl-rowsecurity.html>
fn delete_policies(session: &Session<'_, '_>, table: &Table) -> Outcome<String> {
    let rows = session
        .as_caller_read(POLICIES, &[table.oid.into()])?
        .first();
    let active: bool = rows.get_by_name("active")?.unwrap_or(true);
    if !active {
        return Ok("true".into());
    }
    let permissive: Option<String> = rows.get_by_name("permissive")?;
    let restrictive: Option<String> = rows.get_by_name("restrictive")?;
    // The expressions name columns without their table, so they are read inside a row of their own.
    let condition = format!(
        "({}) AND ({})",
        permissive.unwrap_or_else(|| "false".into()),
        restrictive.unwrap_or_else(|| "true".into())
    );
    let columns = join(
        table
            .columns
            .iter()
            .map(|column| format!("t.{column} AS {column}")),
        ", ",
    );
    Ok(format!(
        "EXISTS (SELECT FROM (SELECT {columns}) AS {name} WHERE {condition})",
        name = table.name.name
    ))
}

/// Finds the root row of a deletion for a caller who may act on it: who sees it, and may delete it.
pub fn authorise<'conn>(
    session: &mut Session<'_, 'conn>,
    table: &Table,
    key: JsonB,
    deletion: Uuid,
) -> Outcome<Option<RootRow<'conn>>> {
    let _settings = ExactOutput::new();
    let row = find(session, table, Key::Columns(key.into()))?;
    Ok(row.filter(|row| row.deletion == Some(deletion)))
}

/// Whether the deletion has rows in `table` and the caller sees each of them and may delete it.
pub fn may_delete_all(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<bool> {
    table.check_marks()?;
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE t.deletion_id OPERATOR(pg_catalog.=) $1",
        table.rows()
    );
    let there: Option<i64> = session
        .as_owner(table, &sql, &[deletion.into()])?
        .first()
        .get_one()?;
    if there == Some(0) {
        return Ok(false);
    }
    let _hidden = IncludingDeleted::new();
    let sql = format!("{sql} AND {}", delete_policies(session, table)?);
    let seen: Option<i64> = session
        .as_caller(&sql, &[deletion.into()])?
        .first()
        .get_one()?;
    Ok(seen == there)
}
