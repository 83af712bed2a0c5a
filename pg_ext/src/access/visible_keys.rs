//! What the caller may see of rows that the engine met on its way.

use pgrx::JsonB;
use serde_json::Value;

use crate::access::privileges;
use crate::model::error::Outcome;
use crate::model::row_id::{RowId, as_arguments};
use crate::model::table::Table;
use crate::spi::session::Session;

/// The keys of those of the rows that the caller may read, under their own privileges and
/// row-level policies.
pub fn visible_keys(
    session: &mut Session<'_, '_>,
    table: &Table,
    rows: &[RowId],
) -> Outcome<Vec<Value>> {
    if table.key.is_empty() {
        return Ok(Vec::new());
    }
    let seen = privileges::readable(session, table, rows.iter().copied().collect())?;
    let seen: Vec<RowId> = seen.into_iter().collect();
    let sql = format!(
        "SELECT {key} FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS f (relation, row)
         JOIN {table} AS t ON t.ctid OPERATOR(pg_catalog.=) f.row AND t.tableoid OPERATOR(pg_catalog.=) f.relation
         ORDER BY 1",
        key = table.key_json("t"),
        table = table.rows(),
    );
    let found = session.as_owner(table, &sql, &as_arguments(&seen))?;
    let mut keys = Vec::with_capacity(found.len());
    for row in found {
        if let Some(key) = row.get::<JsonB>(1)? {
            keys.push(key.0);
        }
    }
    Ok(keys)
}
