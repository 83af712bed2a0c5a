//! The row at the root of an operation: found by its key with the caller's own rights.

use pgrx::JsonB;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

use crate::error::{Failure, Outcome};
use crate::graph::Table;
use crate::session::Session;
use crate::sql::join;

/// A key as the caller gave it.
pub enum Key<'a> {
    /// A value of the key's type, or of one that casts to it.
    Value(DatumWithOid<'a>),
    /// Text in the form that the key's type reads.
    Text(&'a str),
    /// An object with one member for each key column.
    Columns(JsonB),
}

/// A key made ready: a condition on row `t`, and its arguments.
pub struct KeyCondition<'a> {
    /// The condition; its arguments are numbered from 1.
    pub sql: String,
    /// The arguments.
    pub args: Vec<DatumWithOid<'a>>,
}

impl<'a> KeyCondition<'a> {
    /// The arguments once more, for a further statement of the same call.
    pub fn args_again(&self) -> Vec<DatumWithOid<'a>> {
        // SAFETY: each datum keeps its type and lives as long as the call's arguments.
        self.args
            .iter()
            .map(|arg| unsafe {
                DatumWithOid::new(arg.datum().map(|datum| datum.sans_lifetime()), arg.oid())
            })
            .collect()
    }
}

impl<'a> Key<'a> {
    /// The condition that row `t` of `table` has this key.
    pub fn condition(self, table: &Table) -> Outcome<KeyCondition<'a>> {
        match (self, table.key.as_slice()) {
            (Key::Value(value), [column]) => Ok(KeyCondition {
                sql: format!(
                    "t.{} {} $1::{}",
                    column.name, column.equals, column.type_sql
                ),
                args: vec![value],
            }),
            (Key::Text(text), [column]) => Ok(KeyCondition {
                sql: format!(
                    "t.{} {} $1::pg_catalog.text::{}",
                    column.name, column.equals, column.type_sql
                ),
                args: vec![text.into()],
            }),
            (Key::Columns(object), columns) => {
                let terms = columns.iter().map(|column| {
                    format!(
                        "t.{name} {equals} k.{name}",
                        name = column.name,
                        equals = column.equals
                    )
                });
                Ok(KeyCondition {
                    sql: format!(
                        "EXISTS (SELECT FROM pg_catalog.jsonb_populate_record(NULL::{table}, $1) AS k WHERE {terms})",
                        table = table.name,
                        terms = join(terms, " AND "),
                    ),
                    args: vec![object.into()],
                })
            }
            (_, columns) => Err(Failure::BadArgument {
                what: format!("{} has a key of {} columns", table.shown, columns.len()),
                fix: "Give the key as jsonb with a member for each: '{\"a\": 1, \"b\": 2}'::jsonb."
                    .into(),
            }),
        }
    }
}

/// What the caller sees of the root row.
#[derive(Debug)]
pub struct RootRow {
    /// Its key, as JSON.
    pub key: JsonB,
    /// The deletion that removed it, if any.
    pub deletion: Option<pgrx::Uuid>,
}

/// Finds the row with the caller's rights: the DELETE privilege on the table, and the row's own
/// SELECT and DELETE policies. Hidden and missing rows answer alike.
pub fn find(
    session: &mut Session<'_, '_>,
    table: &Table,
    condition: &KeyCondition<'_>,
) -> Outcome<Option<RootRow>> {
    may_delete(session, table)?;
    let sql = format!(
        "SELECT {key}, t.deletion_id FROM {name} AS t WHERE {condition} AND {policies}",
        key = table.key_json("t"),
        name = table.name,
        condition = condition.sql,
        policies = delete_policies(session, table)?,
    );
    let mut rows = session.as_caller(&sql, &condition.args)?;
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    let key = row.get::<JsonB>(1)?.ok_or_else(|| Failure::RowNotFound {
        table: table.shown.clone(),
    })?;
    Ok(Some(RootRow {
        key,
        deletion: row.get(2)?,
    }))
}

fn may_delete(session: &Session<'_, '_>, table: &Table) -> Outcome<()> {
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

/// Authorises an operation on a whole deletion: the caller must see and be allowed to delete its
/// root row.
pub fn authorise(
    session: &mut Session<'_, '_>,
    table: &Table,
    key: JsonB,
    deletion: pgrx::Uuid,
) -> Outcome<bool> {
    let condition = Key::Columns(key).condition(table)?;
    let row = find(session, table, &condition)?;
    Ok(row.is_some_and(|row| row.deletion == Some(deletion)))
}

/// Makes a `Key` of an argument of any type.
pub fn key_from_any(value: &pgrx::AnyElement) -> Key<'static> {
    if value.oid() == pg_sys::JSONBOID {
        // SAFETY: the value's type says that the datum is a jsonb.
        if let Some(object) = unsafe { value.into::<JsonB>() } {
            return Key::Columns(object);
        }
    }
    // SAFETY: datum and type come from the same function argument.
    Key::Value(unsafe { DatumWithOid::new(value.datum(), value.oid()) })
}
