//! The columns of which the registry keeps values, found by the names that it has for them.

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::graph::cache::{self, Kept};
use crate::model::error::{Failure, Outcome};
use crate::model::sql::Ident;
use crate::model::stored_value::StoredColumn;
use crate::model::table::Table;
use crate::postgres::settings::one_plan;
use crate::spi::session::Session;

const COLUMNS: &str = include_str!("read_columns.sql");

/// By table and names.
type Known = Kept<(pg_sys::Oid, Vec<String>), Option<Vec<StoredColumn>>>;

thread_local! {
    static KNOWN: Known = Known::default();
}

/// The columns of `table` with these names, in order; `None` where one of them is gone.
pub fn find<'a>(
    session: &Session<'_, '_>,
    table: &Table,
    names: impl IntoIterator<Item = &'a str>,
) -> Outcome<Option<Vec<StoredColumn>>> {
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    // The names are of the same snapshot, which may be too old for whoever comes later.
    if session.keeps_its_snapshot() {
        let rows = session.catalog_kept(COLUMNS, &[table.oid.into(), names.clone().into()])?;
        return in_order(rows, names.len());
    }
    let place = (table.oid, names);
    if let Some(columns) = KNOWN.with(|known| known.get(&place)) {
        return Ok(columns);
    }
    let before = cache::changes();
    let _plan = one_plan();
    let rows = session.catalog_now(COLUMNS, &[table.oid.into(), place.1.clone().into()])?;
    let columns = in_order(rows, place.1.len())?;
    KNOWN.with(|known| known.keep(before, [(place, columns.clone())]));
    Ok(columns)
}

/// The columns that were read, when all that were wanted are there.
fn in_order<'conn>(
    rows: impl IntoIterator<Item = SpiHeapTupleData<'conn>>,
    wanted: usize,
) -> Outcome<Option<Vec<StoredColumn>>> {
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
