//! Values of any type as text in JSON objects, and back: each the text that its type prints and reads itself. Under pinned
//! settings a value comes back as it was, to the last digit and blank.

use crate::model::sql::{Ident, Literal, join};
use crate::model::table::Table;

/// A column's value as its type prints it: a cast to text may be somebody's own, and that of `char(n)` drops
/// blanks. A value is NULL or not by itself, whatever is in it, as a row of NULLs.
pub fn printed(row: &str, column: &Ident) -> String {
    format!(
        "CASE pg_catalog.num_nulls({row}.{column}) WHEN 0 THEN pg_catalog.concat({row}.{column}) END"
    )
}

/// The same values as an object, to be compared with one that is remembered.
pub fn as_object<'a>(row: &str, columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let pairs = columns
        .into_iter()
        .map(|column| format!("{}, {}", Literal(&column.0), printed(row, column)));
    format!("pg_catalog.jsonb_build_object({})", join(pairs, ", "))
}

/// The row of `table` that such a text gives, in a FROM clause.
pub fn populated(table: &Table, object: &str) -> String {
    format!(
        "pg_catalog.json_populate_record(NULL::{}, {object}::pg_catalog.json)",
        table.name
    )
}
