//! The words that statements are made of: few, so that statements meet.

use std::sync::Arc;

use keepsake_tests::random::Random;

use crate::calls::Routine;
use crate::world::{PARTS, Role, TABLES};

/// Columns that tables have, had, or come to have.
const COLUMNS: [(usize, &str); 9] = [
    (3, "id"),
    (1, "k"),
    (3, "up"),
    (4, "label"),
    (3, "n"),
    (4, "deleted_at"),
    (4, "deletion_id"),
    (1, "x1"),
    (1, "x2"),
];

const TYPES: [&str; 14] = [
    "int",
    "bigint",
    "text",
    "uuid",
    "timestamptz",
    "timestamp",
    "jsonb",
    "boolean",
    "numeric",
    "varchar(3)",
    "bytea",
    "name",
    "int[]",
    "date",
];

/// What one session's statements are made with.
pub struct Words {
    pub random: Random,
    pub role: Role,
    /// Everything in the schema `keepsake` that can be called.
    pub routines: Arc<Vec<Routine>>,
}

impl Words {
    /// A schema of an owner's: mostly one's own.
    pub fn schema(&mut self) -> &'static str {
        match self.role.schema() {
            Some(own) if !self.random.one_in(6) => own,
            _ => self.random.one_of(&["sa", "sb"]),
        }
    }

    pub fn own_schema(&self) -> &'static str {
        self.role.schema().unwrap_or("sa")
    }

    /// A table of the first ones, a partition, or what one was renamed to.
    pub fn bare_table(&mut self) -> &'static str {
        match self.random.below(16) {
            0..=10 => self.random.one_of(&TABLES),
            11 | 12 => self.random.one_of(&PARTS),
            13 => "j",
            14 => self
                .random
                .one_of(&["y0", "y1", "heir", "ft", "guest", "o"]),
            _ => self.random.one_of(&["v", "t1_live", "t2_live", "m"]),
        }
    }

    pub fn table(&mut self) -> String {
        format!("{}.{}", self.schema(), self.bare_table())
    }

    pub fn own_table(&mut self) -> String {
        format!("{}.{}", self.own_schema(), self.bare_table())
    }

    pub fn column(&mut self) -> &'static str {
        self.random.weighted(&COLUMNS)
    }

    pub fn kind(&mut self) -> String {
        let own = self.own_schema();
        match self.random.below(TYPES.len() + 2) {
            at if at < TYPES.len() => TYPES[at].to_owned(),
            at => format!("{own}.{}", ["dom", "wrapped"][at - TYPES.len()]),
        }
    }

    pub fn id(&mut self) -> usize {
        1 + self.random.below(9)
    }

    /// A value for one of the columns.
    pub fn value(&mut self, column: &str) -> String {
        let id = self.id();
        match column {
            "deleted_at" => self
                .random
                .one_of(&[
                    "now()",
                    "now()",
                    "NULL",
                    "'infinity'",
                    "now() - interval '60 days'",
                ])
                .to_owned(),
            "deletion_id" => self
                .random
                .one_of(&["NULL", "keepsake.uuid_v7()", "gen_random_uuid()"])
                .to_owned(),
            "label" | "x1" | "x2" => match self.random.below(5) {
                0 => "NULL".to_owned(),
                1 => "''".to_owned(),
                2 => "repeat('wide ', 2000)".to_owned(),
                _ => format!("'row {id}'"),
            },
            _ if self.random.one_in(6) => "NULL".to_owned(),
            _ => id.to_string(),
        }
    }

    pub fn condition(&mut self) -> String {
        let (one, other) = (self.id(), self.id());
        match self.random.below(12) {
            0..=4 => format!("id = {one}"),
            5 => format!("id IN ({one}, {other})"),
            6 => format!("up = {one}"),
            7 => "deleted_at IS NOT NULL".to_owned(),
            8 => "deleted_at IS NULL".to_owned(),
            9 => format!("label = 'row {one}'"),
            10 => format!("id < {one}"),
            _ => "true".to_owned(),
        }
    }

    /// An open deletion, as an expression. The operator's calls leave the bystander's alone.
    pub fn deletion(&mut self) -> String {
        let table = self.table();
        let at = self.random.below(4);
        let theirs = if self.role.only_calls() {
            "AND root_table::text NOT LIKE 'sc.%'"
        } else {
            ""
        };
        match self.random.below(8) {
            0 => "gen_random_uuid()".to_owned(),
            1 => "NULL::uuid".to_owned(),
            2 | 3 => format!(
                "(SELECT id FROM keepsake.deletion WHERE root_table = to_regclass('{table}') {theirs} ORDER BY id DESC LIMIT 1 OFFSET {at})"
            ),
            _ => format!(
                "(SELECT id FROM keepsake.deletion WHERE state = 'deleted' {theirs} ORDER BY id DESC LIMIT 1 OFFSET {at})"
            ),
        }
    }

    pub fn coin(&mut self) -> bool {
        self.random.one_in(2)
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.random.one_in(chances)
    }

    pub fn pick(&mut self, among: &[&'static str]) -> &'static str {
        self.random.one_of(among)
    }

    pub fn number(&mut self, below: usize) -> usize {
        self.random.below(below)
    }
}
