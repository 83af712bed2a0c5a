//! Values of columns that the registry keeps as text, and how they are read again.
//!
//! A value is kept as the text that its type prints, and read by the type's own input function: as a string of
//! JSON it is neither a number nor an array, whatever its type, and comes back to the last digit and blank. The columns
//! are found by their names (`graph::stored_columns`), which the registry keeps true when a column is renamed; one that was dropped has no name.

use crate::model::sql::{Ident, Literal, join};

/// A column of a table whose values the registry keeps.
#[derive(Clone, Debug)]
pub struct StoredColumn {
    /// Its name.
    pub name: Ident,
    /// The qualified operator that compares its values.
    pub equals: String,
    /// Its type, qualified, without length or precision; of a domain what it is over.
    pub type_sql: String,
    /// Its collation, qualified, where it has one.
    pub collation: Option<String>,
    /// Its values are JSON, and given as text: a string would come back as one, so the text is read by a cast.
    pub is_text_of_json: bool,
}

/// What an object has of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text that the type prints.
    Text,
    /// JSON as a caller writes it: a number, an array, or such a text.
    Json,
}

impl StoredColumn {
    /// The constant whose text is kept.
    pub fn constant(&self, text: &str) -> String {
        format!("{}::{}", Literal(text), self.type_sql)
    }

    /// The condition that the column of row `one` is equal to that of row `other`.
    pub fn is_equal(&self, one: &str, other: &str) -> String {
        format!(
            "{one}.{name} {equals} {other}.{name}",
            name = self.name,
            equals = self.equals
        )
    }

    /// The same, where two NULLs are equal. A value is NULL or not by itself, whatever is in it.
    pub fn is_same(&self, one: &str, other: &str) -> String {
        format!(
            "CASE pg_catalog.num_nulls({one}.{name}, {other}.{name}) WHEN 0 THEN {equal} WHEN 2 THEN true ELSE false END",
            name = self.name,
            equal = self.is_equal(one, other),
        )
    }
}

/// The condition that these columns of two rows are equal.
pub fn are_equal(columns: &[StoredColumn], one: &str, other: &str) -> String {
    join(
        columns.iter().map(|column| column.is_equal(one, other)),
        " AND ",
    )
}

/// The row of these columns that a jsonb object of texts gives, in a FROM clause.
pub fn row_of_object(columns: &[StoredColumn], object: &str) -> String {
    let read = columns.iter().map(|column| {
        if column.is_text_of_json {
            format!(
                "r.{name}::{type_sql} AS {name}",
                name = column.name,
                type_sql = column.type_sql
            )
        } else {
            format!("r.{}", column.name)
        }
    });
    let defined = columns.iter().map(|column| {
        let type_sql = if column.is_text_of_json {
            "pg_catalog.text"
        } else {
            &column.type_sql
        };
        let collation = column
            .collation
            .as_ref()
            .filter(|_| !column.is_text_of_json);
        let collation = collation.map_or_else(String::new, |name| format!(" COLLATE {name}"));
        format!("{} {type_sql}{collation}", column.name)
    });
    format!(
        "(SELECT {} FROM pg_catalog.jsonb_to_record({object}) AS r ({}))",
        join(read, ", "),
        join(defined, ", "),
    )
}

/// The row that the text of a JSON array gives, with a text for each of these columns.
pub fn row_of_array(columns: &[StoredColumn], array: &str) -> String {
    let members = columns.iter().zip(0..).map(|(column, n)| {
        format!(
            "{}, {array}::pg_catalog.jsonb OPERATOR(pg_catalog.->) {n}",
            Literal(&column.name.0)
        )
    });
    row_of_object(
        columns,
        &format!("pg_catalog.jsonb_build_object({})", join(members, ", ")),
    )
}

/// A column's value as its type prints it: a cast to text may be somebody's own, and that of `char(n)` drops
/// blanks.
pub fn printed(row: &str, column: &Ident) -> String {
    format!(
        "CASE pg_catalog.num_nulls({row}.{column}) WHEN 0 THEN pg_catalog.concat({row}.{column}) END"
    )
}
