//! The key of a row as the registry keeps it, in `keepsake.deletion` and `keepsake.hold`: an object of the key's columns.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use serde_json::Value;

use crate::graph::stored_columns;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::join;
use crate::model::stored_value::StoredColumn;
use crate::model::table::Table;
use crate::postgres::subtransaction::{Caught, attempt_unless};
use crate::spi::session::Session;

/// A key that the table's columns take today.
#[derive(Clone, Debug)]
pub struct StoredKey {
    columns: Vec<StoredColumn>,
    texts: Vec<String>,
}

impl StoredKey {
    /// Reads a key of a row of `table`. `None` where it no longer says which row: a column of it was dropped, or is of a type
    /// that does not take the text.
    pub fn read(
        session: &mut Session<'_, '_>,
        table: &Table,
        key: &Value,
    ) -> Outcome<Option<Self>> {
        let Some(members) = key.as_object().filter(|members| !members.is_empty()) else {
            return Ok(None);
        };
        let names = members.keys().map(String::as_str);
        let Some(columns) = stored_columns::find(session, table, names)? else {
            return Ok(None);
        };
        let key = Self {
            columns,
            texts: members.values().map(text).collect(),
        };
        Ok(key.is_read(session, table)?.then_some(key))
    }

    /// Whether each type takes its text. As the table's owner: a type's input function may be anybody's.
    fn is_read(&self, session: &mut Session<'_, '_>, table: &Table) -> Outcome<bool> {
        let sql = format!("SELECT {}", join(self.constants(), ", "));
        is_done(|| session.as_owner(table, &sql, &[]).map(|_| ()))
    }

    fn constants(&self) -> impl Iterator<Item = String> {
        let pairs = self.columns.iter().zip(&self.texts);
        pairs.map(|(column, text)| column.constant(text))
    }

    /// The condition that row `t` has the key; its values are written in as constants, so it is for the table's owner.
    pub fn condition(&self) -> String {
        let pairs = self.columns.iter().zip(self.constants());
        join(
            pairs.map(|(column, value)| format!("t.{} {} {value}", column.name, column.equals)),
            " AND ",
        )
    }

    /// The same with arguments, numbered from 1, and these.
    pub fn with_arguments<'conn>(
        &self,
        session: &mut Session<'_, 'conn>,
        table: &Table,
    ) -> Outcome<(String, Vec<DatumWithOid<'conn>>)> {
        let sql = format!("SELECT {}", join(self.constants(), ", "));
        let row = session.as_owner(table, &sql, &[])?.first();
        let mut values = Vec::with_capacity(self.columns.len());
        for ordinal in 1..=self.columns.len() {
            let type_oid: pg_sys::Oid = row.column_type_oid(ordinal)?.value();
            values.push(match row.get_datum_by_ordinal(ordinal)? {
                // SAFETY: type and value are those of the same column, in the memory of the SPI connection.
                Some(datum) => unsafe { DatumWithOid::new(datum, type_oid) },
                None => DatumWithOid::null_oid(type_oid),
            });
        }
        let terms = self.columns.iter().zip(1..);
        let terms = terms.map(|(column, n)| format!("t.{} {} ${n}", column.name, column.equals));
        Ok((join(terms, " AND "), values))
    }
}

/// What a member of a key says.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether `work` succeeds. What it did is undone where it does not; an interrupt passes.
pub fn is_done(work: impl FnOnce() -> Outcome<()>) -> Outcome<bool> {
    match attempt_unless(|raised| raised.by_interrupt, work) {
        Ok(()) => Ok(true),
        Err(Caught::Error { .. }) => Ok(false),
        Err(Caught::Failure(failure)) => Err::<bool, Failure>(failure),
    }
}
