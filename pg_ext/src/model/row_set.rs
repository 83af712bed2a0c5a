//! Rows of several tables, remembered from one statement to the next.

use std::collections::{BTreeSet, HashMap};

use pgrx::pg_sys;

use crate::model::row_id::{RowId, is_among};

/// Rows of several managed tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    tables: HashMap<pg_sys::Oid, BTreeSet<RowId>>,
}

impl RowSet {
    /// Adds a row of `table`; false when it was there.
    pub fn insert(&mut self, table: pg_sys::Oid, row: RowId) -> bool {
        self.tables.entry(table).or_default().insert(row)
    }

    /// Adds the rows of another.
    pub fn extend(&mut self, other: &Self) {
        for (table, rows) in &other.tables {
            self.tables.entry(*table).or_default().extend(rows);
        }
    }

    /// Whether the row is among them.
    pub fn contains(&self, table: pg_sys::Oid, row: RowId) -> bool {
        self.tables
            .get(&table)
            .is_some_and(|rows| rows.contains(&row))
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(BTreeSet::is_empty)
    }

    /// How many rows of `table`.
    pub fn count(&self, table: pg_sys::Oid) -> i64 {
        let count = self.tables.get(&table).map_or(0, BTreeSet::len);
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// The condition that row `alias` of `table` is one of them.
    pub fn among(&self, table: pg_sys::Oid, alias: &str) -> String {
        is_among(self.tables.get(&table).into_iter().flatten(), alias)
    }

    /// The condition that it is none of them, to follow another. Nothing when there is none, so
    /// that the usual plan stays simple.
    pub fn excluding(&self, table: pg_sys::Oid, alias: &str) -> String {
        if self.count(table) == 0 {
            return String::new();
        }
        format!(" AND {} IS NOT TRUE", self.among(table, alias))
    }
}
