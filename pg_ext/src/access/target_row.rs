//! The row at the root of an operation: found by its key as far as the caller may see it.
//!
//! What the caller gave is cast here alone, as the table's owner: a key's type may bring an input function or a cast
//! that runs code of its owner's. Every later statement uses the key's own values, in its own types.

use std::marker::PhantomData;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;
use pgrx::{JsonB, Uuid, pg_sys};

use crate::access::privileges::Privileges;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Literal, join};
use crate::model::stored_value::{Source, StoredColumn, row_of_object};
use crate::model::table::{KeyColumn, Table};
use crate::spi::session::Session;
use crate::spi::shown_names;

/// A key as the caller gave it.
pub enum Key<'a> {
    /// A value of the key's type, or of another type of whole numbers.
    Value(DatumWithOid<'a>),
    /// Text in the form that the key's type reads.
    Text(&'a str),
    /// An object with one member for each key column; of a key of one jsonb column also its value.
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
    /// The values of the key's columns, each of its column's type. A cast that could turn one key into another's, such
    /// as a rounding one, is not made.
    pub fn values<'conn, 'v>(
        self,
        session: &mut Session<'_, 'conn>,
        table: &Table,
    ) -> Outcome<Vec<DatumWithOid<'v>>>
    where
        'a: 'v,
        'conn: 'v,
    {
        let read = |object: &str, from: Source| {
            let columns = table.key.iter().map(|column| column.stored(from));
            let columns: Vec<StoredColumn> = columns.collect();
            let names = join(table.key.iter().map(|column| &column.name), ", ");
            format!(
                "SELECT {names} FROM {} AS k",
                row_of_object(&columns, object)
            )
        };
        let (argument, sql) = match (self, table.key.as_slice()) {
            (Key::Value(value), [column]) => {
                if [column.type_oid, column.declared_type].contains(&value.oid()) {
                    return Ok(vec![value]);
                }
                refuse_other_type(session, table, column, value.oid())?;
                (value, format!("SELECT $1::{}", column.type_sql))
            }
            (Key::Text(text), [column]) => {
                let object = format!(
                    "pg_catalog.jsonb_build_object({}, $1::pg_catalog.text)",
                    Literal(&column.name.0)
                );
                (text.into(), read(&object, Source::Text))
            }
            (Key::Columns(object), [column]) if column.type_oid == pg_sys::JSONBOID => {
                // Its value, or an object with it as a member; where both are rows, the value.
                let (name, member) = (&column.name, Literal(&column.name.0));
                let sql = format!(
                    "SELECT CASE WHEN pg_catalog.jsonb_typeof($1) OPERATOR(pg_catalog.=) 'object'
                                  AND $1 OPERATOR(pg_catalog.?) {member}
                                  AND ($1 OPERATOR(pg_catalog.-) {member}) OPERATOR(pg_catalog.=) '{{}}'::pg_catalog.jsonb
                                  AND NOT EXISTS (SELECT FROM {rows} AS t WHERE t.{name} {equals} $1)
                             THEN $1 OPERATOR(pg_catalog.->) {member} ELSE $1 END",
                    rows = table.rows(),
                    equals = column.equals,
                );
                (object, sql)
            }
            (Key::Columns(object), _) => (object, read("$1", Source::Json)),
            (_, columns) => {
                return Err(Failure::BadArgument {
                    what: format!("the key of table {} has {} columns", table.shown, columns.len()),
                    fix: "Pass the key as jsonb with a member for each column: '{\"a\": 1, \"b\": 2}'::jsonb."
                        .into(),
                });
            }
        };
        let read = session
            .as_owner_in_callers_formats(table, &sql, &[argument])?
            .first();
        key_values(&read, table)
    }
}

/// Refuses a value of another type than the key's, but for one of whole numbers where the key is one.
fn refuse_other_type(
    session: &Session<'_, '_>,
    table: &Table,
    column: &KeyColumn,
    given: pg_sys::Oid,
) -> Outcome<()> {
    if [given, column.type_oid]
        .iter()
        .all(|oid| WHOLE_NUMBERS.contains(oid))
    {
        return Ok(());
    }
    Err(Failure::BadArgument {
        what: format!(
            "the key of table {} has type {}",
            table.shown,
            shown_names::type_name(session, column.declared_type)?
        ),
        fix: "Pass a value of that type, or text that the type can read.".into(),
    })
}

/// The values of the key's columns, which are those of a row, in order.
fn key_values<'conn>(
    row: &SpiTupleTable<'conn>,
    table: &Table,
) -> Outcome<Vec<DatumWithOid<'conn>>> {
    let value = |ordinal| {
        let type_oid = row.column_type_oid(ordinal)?.value();
        Ok(match row.get_datum_by_ordinal(ordinal)? {
            // SAFETY: type and value are those of the same column, in the memory of the SPI connection.
            Some(datum) => unsafe { DatumWithOid::new(datum, type_oid) },
            None => DatumWithOid::null_oid(type_oid),
        })
    };
    (1..=table.key.len()).map(value).collect()
}

/// What the caller sees of the root row.
pub struct TargetRow<'conn> {
    /// Its key, as JSON.
    pub key: JsonB,
    /// The deletion that removed it, if any.
    pub deletion: Option<Uuid>,
    /// The values of the key and their types, in the memory of the SPI connection.
    values: Vec<(pg_sys::Datum, pg_sys::Oid)>,
    connection: PhantomData<&'conn ()>,
}

impl<'conn> TargetRow<'conn> {
    /// The condition that row `t` is this row; its arguments are numbered from 1.
    pub fn condition(&self, table: &Table) -> String {
        is_row(table)
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

/// Finds the row as far as the caller may: with the DELETE privilege on the table, and under the row's own
/// SELECT and DELETE policies. Hidden and missing rows answer alike.
pub fn find<'conn>(
    session: &mut Session<'_, 'conn>,
    table: &Table,
    key: Key<'_>,
) -> Outcome<Option<TargetRow<'conn>>> {
    let privileges = Privileges::of(session, table)?;
    privileges.refuse_unless_deletes(table)?;
    table.check_marks()?;
    session.name_owner(table.owner);
    let values = key.values(session, table)?;
    let select = format!(
        "SELECT {deletion}, {columns} FROM {rows} AS t WHERE {condition}",
        // A row of an archived table is live.
        deletion = if table.managed {
            "t.deletion_id"
        } else {
            "NULL::pg_catalog.uuid"
        },
        columns = table.key_columns("t"),
        rows = table.rows(),
        condition = is_row(table),
    );
    let found = privileges
        .read_deletable(session, table, &select, &values)?
        .first();
    if found.is_empty() {
        return Ok(None);
    }
    read(session, &found, table).map(Some)
}

/// The key as the registry has it, whether there is such a row or not.
pub fn read_key(session: &mut Session<'_, '_>, table: &Table, key: Key<'_>) -> Outcome<JsonB> {
    let values = key.values(session, table)?;
    print(session, table, &values)
}

/// Prints a key under our settings, and as the owner, since a type may bring a cast to json of its own.
fn print(
    session: &mut Session<'_, '_>,
    table: &Table,
    values: &[DatumWithOid<'_>],
) -> Outcome<JsonB> {
    let columns = table
        .key
        .iter()
        .zip(1..)
        .map(|(column, n)| format!("${n} AS {}", column.name));
    let sql = format!(
        "SELECT {} FROM (SELECT {}) AS t",
        table.key_json("t"),
        join(columns, ", ")
    );
    let printed = session.as_owner(table, &sql, values)?.first();
    printed.get_one()?.ok_or_else(|| Failure::RowNotFound {
        table: table.shown.clone(),
    })
}

/// The condition that row `t` has the key whose values are the arguments, numbered from 1.
fn is_row(table: &Table) -> String {
    let terms = table
        .key
        .iter()
        .zip(1..)
        .map(|(column, n)| format!("t.{} {} ${n}", column.name, column.equals));
    join(terms, " AND ")
}

fn read<'conn>(
    session: &mut Session<'_, 'conn>,
    row: &SpiTupleTable<'conn>,
    table: &Table,
) -> Outcome<TargetRow<'conn>> {
    let not_found = || Failure::RowNotFound {
        table: table.shown.clone(),
    };
    let mut values = Vec::with_capacity(table.key.len());
    for ordinal in (2..).take(table.key.len()) {
        let datum = row.get_datum_by_ordinal(ordinal)?.ok_or_else(not_found)?;
        values.push((datum, row.column_type_oid(ordinal)?.value()));
    }
    let mut found = TargetRow {
        key: JsonB(serde_json::Value::Null),
        deletion: row.get(1)?,
        values,
        connection: PhantomData,
    };
    // The caller's key was read under the caller's settings.
    found.key = print(session, table, &found.args())?;
    Ok(found)
}

/// Whether the caller may act on a deletion by its root row: sees it, and may delete it. `is_root` is the condition on row `t`,
/// with its arguments.
///
/// # Errors
/// 42501 without the DELETE privilege on the table.
pub fn may_delete_root(
    session: &mut Session<'_, '_>,
    table: &Table,
    (is_root, mut args): (String, Vec<DatumWithOid<'_>>),
    deletion: Uuid,
) -> Outcome<bool> {
    let access = Privileges::of(session, table)?;
    access.refuse_unless_deletes(table)?;
    table.check_marks()?;
    args.push(deletion.into());
    let sql = format!(
        "SELECT 1 FROM {} AS t WHERE {is_root} AND t.deletion_id OPERATOR(pg_catalog.=) ${}",
        table.rows(),
        args.len()
    );
    let found = access.read_deletable(session, table, &sql, &args)?;
    Ok(!found.is_empty())
}

/// Whether the caller may delete the rows of `table` that his statement has marked with the deletion. PostgreSQL asks of a DELETE no right to read
/// a row, and where no policy of the application's binds the caller he may
/// delete each.
///
/// # Errors
/// 42501 without the DELETE privilege on the table.
pub fn may_delete_marked(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<bool> {
    let privileges = Privileges::of(session, table)?;
    privileges.refuse_unless_deletes(table)?;
    if !privileges.is_bound_by_application(session, table)? {
        return Ok(true);
    }
    table.check_marks()?;
    let there = count_all(session, table, deletion, "true")?;
    Ok(there != Some(0) && Privileges::count_deletable(session, table, deletion)? == there)
}

/// How many rows `t` of a deletion a condition names.
fn count_all(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
    condition: &str,
) -> Outcome<Option<i64>> {
    let sql = marked(table, condition);
    let counted = session.as_owner(table, &sql, &[deletion.into()])?;
    Ok(counted.first().get_one()?)
}

/// Counts these rows.
fn marked(table: &Table, condition: &str) -> String {
    format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE t.deletion_id OPERATOR(pg_catalog.=) $1 AND {condition}",
        table.rows()
    )
}

/// Whether the deletion has rows in `table` and the caller sees each of them and may delete it.
///
/// # Errors
/// 42501 without the DELETE privilege on the table.
pub fn may_delete_all(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<bool> {
    may_delete_those(session, table, deletion, "true")
}

/// The same of those of its rows `t` that a condition names.
///
/// # Errors
/// 42501 without the DELETE privilege on the table.
pub fn may_delete_those(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
    condition: &str,
) -> Outcome<bool> {
    let privileges = Privileges::of(session, table)?;
    privileges.refuse_unless_deletes(table)?;
    table.check_marks()?;
    let there = count_all(session, table, deletion, condition)?;
    if there == Some(0) {
        return Ok(false);
    }
    let seen: Option<i64> = privileges
        .read_deletable(
            session,
            table,
            &marked(table, condition),
            &[deletion.into()],
        )?
        .first()
        .get_one()?;
    Ok(seen == there)
}
