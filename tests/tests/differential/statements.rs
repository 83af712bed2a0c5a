//! Statements for psql, each a line or a few that belong together.

mod definitions;
mod idioms;
pub mod periods;
mod removing;
mod transactions;
mod writing;

use keepsake_tests::random::Random;

use crate::case::Mode;
use crate::code::Code;
use crate::schema::{Schema, Table};

/// Makes statements on a schema.
pub struct Writer<'a> {
    pub schema: &'a Schema,
    pub code: &'a Code,
    pub random: &'a mut Random,
    pub major: u16,
    /// Whether statements may change the tables' definitions.
    pub defines: bool,
    /// How deleted rows are kept on one side: what works otherwise there is left out.
    pub mode: Mode,
    /// The highest number before those of the rows that statements are about. Where rows are kept in place, a number is
    /// taken for good: it grows with each row that is written.
    pub base: usize,
    /// Statements that make the session another role.
    pub roles: &'static [&'static str],
}

/// Has a block undo what it did.
pub const UNDONE: &str = " RAISE EXCEPTION 'undone';";

/// The highest number of a row that statements name.
pub const MOST: usize = 12;

impl Writer<'_> {
    /// Statements that are sent one after the other.
    pub fn phrase(&mut self) -> Vec<String> {
        match self.random.below(100) {
            0..40 => vec![self.removal()],
            40..50 if self.in_place() => self.insert_new(),
            40..50 => vec![self.insert()],
            50..58 => vec![self.update()],
            58..64 => self.refill(),
            64..72 => self.transaction(),
            72..78 => vec![self.setting()],
            78..84 => self.cursor(),
            84..87 => vec![self.read()],
            87..92 if self.schema.periods => self.period(),
            _ if self.defines => self.definition(),
            _ => vec![self.removal()],
        }
    }

    fn in_place(&self) -> bool {
        self.mode == Mode::InPlace
    }

    fn table_number(&mut self) -> usize {
        self.random.below(self.schema.tables.len())
    }

    fn table(&mut self) -> &Table {
        let number = self.table_number();
        &self.schema.tables[number]
    }

    fn name(&mut self) -> &'static str {
        self.table().name
    }

    /// A table, one of its parts or, now and then, a view.
    fn target(&mut self) -> String {
        if !self.code.views.is_empty() && self.random.one_in(8) {
            return self.random.one_of(&self.code.views).to_owned();
        }
        let parts = self.table().parts();
        let name = self.name();
        // The policy of the whole does not cover its parts.
        if self.in_place() || parts.is_empty() || self.random.one_in(2) {
            return name.to_owned();
        }
        parts[self.random.below(parts.len())].clone()
    }

    fn number(&mut self) -> usize {
        1 + self.base + self.random.below(MOST)
    }

    /// A condition on the rows of an alias.
    fn condition(&mut self, of: &str) -> String {
        let (x, y) = (self.number(), self.number());
        match self.random.below(12) {
            0..4 => format!("{of}.id = {x}"),
            4 => format!("{of}.id IN ({x}, {y})"),
            5 => format!("{of}.id BETWEEN {x} AND {}", x + 2),
            6 => format!("{of}.n % 3 = {}", x % 3),
            7 => format!("{of}.k = {}", 1 + x % 3),
            8 => format!("{of}.id = (SELECT max(id) FROM {})", self.name()),
            9 => format!(
                "EXISTS (SELECT FROM {} AS o WHERE o.id = {of}.id AND o.n > {x})",
                self.name()
            ),
            10 => format!("{of}.n IS NOT DISTINCT FROM {y}"),
            _ => format!("({of}.id + {of}.k) % 4 = {}", x % 4),
        }
    }

    /// What comes back from a statement that removes or changes rows of an alias, if anything.
    fn returning(&mut self, of: &str) -> String {
        match self.random.below(7) {
            3 => format!(
                " RETURNING (SELECT {of}), (SELECT {of}.id + max(o.n) FROM (VALUES ({of}.n)) AS o (n))"
            ),
            0 => format!(" RETURNING {of}.*"),
            1 => format!(" RETURNING {of}.id, {of}.n"),
            2 if self.major >= 18 => self
                .random
                .one_of(&[
                    " RETURNING old.id, new.id",
                    " RETURNING old, new",
                    " RETURNING (SELECT old.n), (SELECT new.n), (SELECT new)",
                    " RETURNING WITH (OLD AS o, NEW AS f) o.n, f.n, coalesce(f.id, o.id)",
                ])
                .to_owned(),
            2 => format!(" RETURNING {of}"),
            _ => String::new(),
        }
    }

    fn read(&mut self) -> String {
        let name = self.name();
        let condition = self.condition("x");
        // Plans differ, and a policy makes a query of a COPY.
        let first = if self.in_place() { 3 } else { 0 };
        let lock = if self.in_place() {
            "KEY SHARE"
        } else {
            "UPDATE"
        };
        let (other, value) = (self.name(), self.random.one_of(&["id", "n", "label"]));
        match first + self.random.below(8 - first) {
            // Beside a transaction that is prepared: deletions in place that it joined lock parents as new rows do.
            4 => format!(
                "SELECT x.id, o.{value} FROM {name} AS x LEFT JOIN {other} AS o ON o.id = x.id WHERE {condition} FOR {lock} OF x SKIP LOCKED;"
            ),
            5 => format!(
                "SELECT x.{value}, count(*), count(DISTINCT x.k) FROM {name} AS x GROUP BY x.{value} HAVING count(*) > 0;"
            ),
            6 => format!(
                "SELECT count(*) FROM (SELECT {value} FROM {name} EXCEPT ALL SELECT {value} FROM {other}) AS rest;"
            ),
            0 => format!("EXPLAIN (COSTS OFF) DELETE FROM {name} AS x WHERE {condition};"),
            1 => format!("EXPLAIN (COSTS OFF) SELECT * FROM {name} AS x WHERE {condition};"),
            2 => format!("COPY {name} TO STDOUT;"),
            3 => format!("SELECT x.* FROM {name} AS x WHERE {condition} ORDER BY x.id FOR UPDATE;"),
            _ => format!("TABLE {name};"),
        }
    }
}
