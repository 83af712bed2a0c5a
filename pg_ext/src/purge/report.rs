//! What a purge did so far, and how much more it may do.

use std::collections::BTreeMap;

use pgrx::Uuid;
use serde_json::{Value, json};

/// What a purge did so far.
pub struct Report {
    max_rows: i64,
    stopped: bool,
    /// Rows that are gone.
    pub rows: i64,
    /// Rows left because something refers to them.
    pub blocked: i64,
    /// Deletions that met an error.
    pub failed: i64,
    tables: BTreeMap<String, (i64, i64)>,
}

impl Report {
    /// For a purge of up to `max_rows` rows.
    pub fn new(max_rows: i64) -> Self {
        Self {
            max_rows,
            stopped: false,
            rows: 0,
            blocked: 0,
            failed: 0,
            tables: BTreeMap::new(),
        }
    }

    /// How many more rows may go. Blocked ones count, once all rows of their deletions were looked at, and so does each
    /// deletion that failed: a batch has an end, whatever it meets.
    pub fn left(&self) -> i64 {
        self.max_rows - self.rows - self.blocked - self.failed
    }

    /// Whether the batch is at its end.
    pub fn is_full(&self) -> bool {
        self.stopped || self.left() <= 0
    }

    /// Ends the batch here.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Notes rows of the table with this name that are gone.
    pub fn note_purged(&mut self, table: &str, rows: i64) {
        self.rows += rows;
        if rows > 0 {
            self.tables.entry(table.to_owned()).or_default().0 += rows;
        }
    }

    /// Notes rows that had to stay.
    pub fn note_blocked(&mut self, table: &str, rows: i64) {
        self.blocked += rows;
        if rows > 0 {
            self.tables.entry(table.to_owned()).or_default().1 += rows;
        }
    }

    /// Adds what a part of it did.
    pub fn take_in(&mut self, part: Self) {
        self.rows += part.rows;
        self.blocked += part.blocked;
        for (table, (rows, blocked)) in part.tables {
            let sums = self.tables.entry(table).or_default();
            sums.0 += rows;
            sums.1 += blocked;
        }
    }

    /// As the functions answer it.
    pub fn into_json(self, last: Option<Uuid>) -> Value {
        let more = self.is_full();
        let tables: Vec<Value> = self
            .tables
            .into_iter()
            .map(|(table, (rows, blocked))| json!({ "table": table, "rows": rows, "blocked": blocked }))
            .collect();
        let mut report =
            json!({ "rows": self.rows, "more": more, "failed": self.failed, "tables": tables });
        if let Some(last) = last.filter(|_| more) {
            report["last"] = last.to_string().into();
        }
        report
    }
}
