//! Rows that refer by a key with a PERIOD (PostgreSQL 18), to several others that lie side by side.

use super::Writer;

/// The tables, parents first.
pub const TABLES: [&str; 2] = ["span", "spanned"];

/// Makes the tables. They have the columns that every table has.
pub const TABLES_SQL: &str = "
    CREATE TABLE span (id int4range, k int, n int, during int4range, PRIMARY KEY (id, during WITHOUT OVERLAPS));
    CREATE TABLE spanned (id int PRIMARY KEY, k int, n int, up int4range, during int4range,
        CONSTRAINT key0 FOREIGN KEY (up, PERIOD during) REFERENCES span (id, PERIOD during));
    CREATE INDEX ON spanned (up)";

impl Writer<'_> {
    pub fn period(&mut self) -> Vec<String> {
        match self.random.below(8) {
            0 | 1 => self.fill_periods(),
            2 | 3 => {
                let (id, from) = (self.number(), self.random.below(30));
                let narrow = match self.random.below(3) {
                    0 => format!(" AND during && '[{from},{})'", from + 3),
                    1 => format!(" AND during @> {from}"),
                    _ => String::new(),
                };
                let returning = self.random.one_of(&["", " RETURNING *"]);
                vec![format!(
                    "DELETE FROM span WHERE id @> {id}{narrow}{returning};"
                )]
            }
            4 | 5 => {
                let (id, n) = (self.number(), self.random.below(3));
                vec![format!(
                    "DELETE FROM spanned WHERE up @> {id} AND n % 3 = {n} RETURNING id;"
                )]
            }
            6 => {
                let id = self.number();
                vec![format!(
                    "WITH a AS (DELETE FROM spanned WHERE up @> {id} RETURNING up) DELETE FROM span WHERE id IN (SELECT up FROM a) RETURNING id;"
                )]
            }
            // The range of a deleted row is its own, and keeps that of its parents.
            _ if self.in_place() => {
                let id = self.number();
                vec![format!(
                    "UPDATE span SET n = n + 1 WHERE id @> {id} RETURNING n;"
                )]
            }
            _ => {
                let (id, to) = (self.number(), 5 + self.random.below(20));
                vec![format!(
                    "UPDATE span SET during = during * '[0,{to})' WHERE id @> {id} AND NOT isempty(during * '[0,{to})');"
                )]
            }
        }
    }

    /// Parents of three ranges each, and rows within one or over several.
    pub fn fill_periods(&mut self) -> Vec<String> {
        if self.in_place() {
            self.base += super::MOST;
        }
        let (first, last) = (self.base + 1, self.base + 6);
        let (from, length) = (self.random.below(15), 2 + self.random.below(14));
        vec![
            format!(
                "INSERT INTO span SELECT int4range(i, i, '[]'), 1, r, int4range(10 * r, 10 * r + 10) FROM generate_series({first}, {last}) AS i, generate_series(0, 2) AS r WHERE NOT EXISTS (SELECT FROM span AS s WHERE s.id = int4range(i, i, '[]') AND s.during && int4range(10 * r, 10 * r + 10));"
            ),
            format!(
                "INSERT INTO spanned SELECT 10 * i + j, 1, j, int4range(i, i, '[]'), int4range({from} + j, {from} + {length} + 2 * j) FROM generate_series({first}, {last}) AS i, generate_series(0, 2) AS j ON CONFLICT DO NOTHING;"
            ),
        ]
    }
}
