//! `INSERT … ON CONFLICT DO NOTHING` of a row whose key a deleted row has.
//!
//! PostgreSQL would meet the deleted row and store nothing, without a word. A row that is the very same, as that of a join table, becomes live
//! again; any other is refused.

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::trigger_call::{Answer, BeforeInsert, Call};
use crate::call::trigger_row::Row;
use crate::graph::cache;
use crate::intercept::guard;
use crate::model::error::{Failure, Outcome};
use crate::model::row_id::{RowId, is_among};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::postgres::statement_stack;
use crate::spi::session::{Session, with_session};

/// BEFORE INSERT: makes a deleted row live again in place of the new one, where the statement would pass over a conflict with it.
///
/// # Errors
/// 23505 when a deleted row has the key and is another one.
#[pg_extern]
fn insert_again(call: Call<'_, BeforeInsert>) -> Result<Answer<'_>, ErrorReport> {
    let new = call.rows.new;
    let graph = cache::known()?;
    let Some(table) = graph.managed_or_root(call.relation) else {
        return Ok(Answer::row(new));
    };
    let writes = statement_stack::current_writes(|oid| {
        graph
            .table_or_root(oid)
            .is_some_and(|root| root.oid == table.oid)
    });
    if !writes.is_some_and(|writes| writes.ignores_conflicts) {
        return Ok(Answer::row(new));
    }
    let done = with_session(|session| revive_same(session, table, new))?;
    Ok(if done {
        Answer::nothing()
    } else {
        Answer::row(new)
    })
}

const UNIQUE_KEYS: &str = include_str!("unique_keys.sql");

/// Whether a deleted row with the key of the new one was the same, and lives again.
fn revive_same(session: &mut Session<'_, '_>, table: &Table, new: Row<'_>) -> Outcome<bool> {
    let rows = session.catalog_kept(UNIQUE_KEYS, &[table.oid.into()])?;
    for row in rows {
        let names: Vec<String> = row.get(1)?.unwrap_or_default();
        let operators: Vec<String> = row.get(2)?.unwrap_or_default();
        let nulls_equal: bool = row.get(3)?.unwrap_or_default();
        if let Some((id, deletion)) =
            deleted_holder(session, table, new, &names, &operators, nulls_equal)?
        {
            if !is_same(session, table, new, id)? {
                return Err(Failure::DeletedHolder {
                    table: table.shown.clone(),
                });
            }
            guard::refuse_dead_parent(session, table, new)?;
            return revive(session, table, id, deletion).map(|()| true);
        }
    }
    Ok(false)
}

fn deleted_holder(
    session: &mut Session<'_, '_>,
    table: &Table,
    new: Row<'_>,
    names: &[String],
    operators: &[String],
    nulls_equal: bool,
) -> Outcome<Option<(RowId, Uuid)>> {
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        values.push(new.argument(name)?);
    }
    let terms = table
        .columns
        .iter()
        .filter_map(|column| Some((column, names.iter().position(|name| *name == column.0)?)));
    let terms = terms.map(|(column, place)| {
        let n = place + 1;
        let equal = format!("t.{column} {} ${n}", operators[place]);
        if nulls_equal {
            format!("({equal} OR pg_catalog.num_nulls(t.{column}, ${n}) OPERATOR(pg_catalog.=) 2)")
        } else {
            equal
        }
    });
    let sql = format!(
        "SELECT t.tableoid, t.ctid, t.deletion_id FROM {} AS t WHERE {} AND t.deletion_id IS NOT NULL LIMIT 1",
        table.rows(),
        join(terms, " AND "),
    );
    let found = session.as_owner(table, &sql, &values)?.next();
    found.map_or(Ok(None), |row| {
        Ok(RowId::read(&row, 1)?.zip(row.get::<Uuid>(3)?))
    })
}

/// Whether every column but the marks is the same, by so much as a bit.
fn is_same(session: &mut Session<'_, '_>, table: &Table, new: Row<'_>, id: RowId) -> Outcome<bool> {
    let mut values: Vec<DatumWithOid<'_>> = Vec::new();
    let mut columns = Vec::new();
    for column in &table.columns {
        if !matches!(column.0.as_str(), "deleted_at" | "deletion_id") {
            values.push(new.argument(&column.0)?);
            columns.push(column);
        }
    }
    let sql = format!(
        "SELECT 1 FROM {} AS t WHERE {} AND pg_catalog.record_image_eq(ROW({}), ROW({}))",
        table.rows(),
        is_among([&id], "t"),
        join(columns.iter().map(|column| format!("t.{column}")), ", "),
        join((1..=values.len()).map(|n| format!("${n}")), ", "),
    );
    Ok(!session.as_owner(table, &sql, &values)?.is_empty())
}

fn revive(session: &mut Session<'_, '_>, table: &Table, id: RowId, deletion: Uuid) -> Outcome<()> {
    // Nobody restores or purges the rest of it meanwhile.
    session.registry(
        "SELECT 1 FROM keepsake.deletion WHERE id = $1 FOR UPDATE",
        &[deletion.into()],
    )?;
    let sql = format!(
        "UPDATE {} AS t SET deleted_at = NULL, deletion_id = NULL
         WHERE {} AND t.deletion_id OPERATOR(pg_catalog.=) $1",
        table.rows(),
        is_among([&id], "t"),
    );
    if session.write(table, &sql, &[deletion.into()])?.len() != 1 {
        return Err(Failure::RegistryMoved);
    }
    session.registry(
        "UPDATE keepsake.deletion_table SET row_count = row_count - 1 WHERE deletion_id = $1 AND relation = $2",
        &[deletion.into(), table.oid.into()],
    )?;
    session.registry(
        "UPDATE keepsake.deletion AS d SET state = 'restored', settled_at = now()
         WHERE d.id = $1 AND d.state = 'deleted' AND NOT EXISTS (
             SELECT FROM keepsake.deletion_table AS t WHERE t.deletion_id = d.id AND t.row_count > t.purged)",
        &[deletion.into()],
    )?;
    Ok(())
}
