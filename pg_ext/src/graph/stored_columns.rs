//! The columns of which the registry keeps values, found by the names that it has for them.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::model::sql::Ident;
use crate::model::stored_value::StoredColumn;
use crate::model::table::Table;
use crate::spi::session::Session;

const COLUMNS: &str = include_str!("read_columns.sql");

/// The columns of `table` with these names, in order; `None` where one of them is gone.
pub fn find<'a>(
    session: &Session<'_, '_>,
    table: &Table,
    names: impl IntoIterator<Item = &'a str>,
) -> Outcome<Option<Vec<StoredColumn>>> {
    let names: Vec<&str> = names.into_iter().collect();
    let wanted = names.len();
    let rows = session.catalog_kept(COLUMNS, &[table.oid.into(), names.into()])?;
    let mut found = Vec::with_capacity(wanted);
    for row in rows {
        let text = |name: &str| -> Outcome<String> {
            row.get_by_name(name)?.ok_or_else(|| Failure::ColumnGone {
                column: name.to_owned(),
            })
        };
        let type_oid: Option<pg_sys::Oid> = row.get_by_name("type_oid")?;
        let column = StoredColumn {
            name: Ident(text("name")?),
            equals: text("equals")?,
            type_sql: text("type_sql")?,
            collation: row.get_by_name("collation")?,
            is_text_of_json: type_oid == Some(pg_sys::JSONBOID),
        };
        found.push((row.get_by_name::<i32, _>("n")?.unwrap_or_default(), column));
    }
    found.sort_by_key(|(n, _)| *n);
    let columns: Vec<StoredColumn> = found.into_iter().map(|(_, column)| column).collect();
    Ok((columns.len() == wanted).then_some(columns))
}
