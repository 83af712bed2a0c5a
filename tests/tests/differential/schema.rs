//! Tables that refer to each other in every way.

use keepsake_tests::random::Random;

use crate::columns::{COLUMNS, Column};
use crate::statements::periods;

/// Names, as SQL has them.
const NAMES: [&str; 6] = ["t0", "t1", "t2", "t3", "\"Odd; \"\"name\"", "t5"];

/// What the names of parts end in.
pub const PARTS: [&str; 8] = [
    "_high_0", "_high_1", "_0", "_1", "_2", "_rest", "_low", "_high",
];

/// What a foreign key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    Cascade,
    SetNull,
    /// Only the first of two columns.
    SetNullListed,
    SetDefault,
    Restrict,
    NoAction,
}

impl OnDelete {
    /// Whether rows stay, and refer to nothing or to another row.
    pub fn lets_go(self) -> bool {
        matches!(self, Self::SetNull | Self::SetNullListed | Self::SetDefault)
    }
}

/// A foreign key over the columns `up…`, and `upk…` where the parent's key has two columns.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    pub parent: usize,
    pub action: OnDelete,
    pub on_update: &'static str,
    pub required: bool,
    pub deferrable: &'static str,
    /// It refers to the parent's other key, `alt`.
    pub to_alt: bool,
    /// `MATCH FULL`.
    pub full: bool,
    /// It is written down and not enforced (PostgreSQL 18).
    pub not_enforced: bool,
}

impl Reference {
    /// Whether it may refuse the removal of a row that is referred to, at the statement.
    pub fn stops_at_once(&self) -> bool {
        matches!(self.action, OnDelete::Restrict | OnDelete::SetDefault)
            || self.action == OnDelete::NoAction && self.deferrable.is_empty()
    }
}

/// How the key `id` is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    None,
    ByDefault,
    Always,
}

/// How a table is partitioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// By list of `k`, of which one part has its columns in another order.
    List,
    /// By range of `id`, and one of the parts by hash.
    Range,
    Hash,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: &'static str,
    /// The key is `(id, k)` and not `id`.
    pub wide_key: bool,
    /// It has no primary key and is not managed.
    pub keyless: bool,
    pub identity: Identity,
    pub partitions: Option<Partitions>,
    /// Another table inherits from it.
    pub has_heir: bool,
    pub references: Vec<Reference>,
    pub columns: Vec<&'static Column>,
    pub constraints: Vec<&'static str>,
    pub unlogged: bool,
    pub policies: bool,
    /// The type of `id`.
    pub key_type: &'static str,
    /// What the application may not do.
    pub revoked: Option<&'static str>,
    /// It has another key, `alt`, of one column.
    pub has_alt: bool,
}

#[derive(Clone, Debug)]
pub struct Schema {
    pub tables: Vec<Table>,
    /// Whether there are those of `statements::periods` as well.
    pub periods: bool,
}

impl Schema {
    pub fn random(random: &mut Random, major: u16) -> Self {
        let count = 2 + random.below(NAMES.len() - 1);
        let mut tables: Vec<Table> = NAMES[..count]
            .iter()
            .map(|name| Table::random(random, name, major))
            .collect();
        for child in 0..count {
            for _ in 0..random.one_of(&[0, 1, 1, 2, 2]) {
                // Mostly to an earlier table; else to itself or, in a ring, to a later one.
                let parent = if child > 0 && !random.one_in(4) {
                    random.below(child)
                } else {
                    child + random.below(count - child)
                };
                if !tables[parent].keyless {
                    let mut reference = tables[child].random_reference(random, child, parent);
                    reference.to_alt = tables[parent].has_alt && random.one_in(2);
                    reference.full = random.one_in(8);
                    // The columns that SET NULL lists would make a row that is null in part.
                    reference.full &= reference.action != OnDelete::SetNullListed;
                    reference.not_enforced = major >= 18 && random.one_in(12);
                    tables[child].references.push(reference);
                }
            }
        }
        let periods = major >= 18 && random.one_in(4);
        let mut schema = Self { tables, periods };
        schema.log_as_parents_must();
        schema
    }

    /// Leaves out what works otherwise where rows are kept in place (`docs/compatibility.md`).
    ///
    /// `owner_only`: no other role writes.
    pub fn keep_in_place(&mut self, owner_only: bool) {
        for table in &mut self.tables {
            // Tables that inherit from a managed one are not managed.
            table.has_heir = false;
            // Of a deferrable constraint `live_unique()` makes another kind; an exclusion constraint stays as it is.
            table.constraints.retain(|constraint| {
                !constraint.contains("DEFERRABLE") && !constraint.contains("EXCLUDE")
            });
            for reference in &mut table.references {
                let waits = owner_only && reference.deferrable.ends_with("INITIALLY DEFERRED");
                if reference.action == OnDelete::NoAction && !waits {
                    reference.deferrable = "";
                }
            }
        }
    }

    /// A logged table cannot refer to an unlogged one.
    fn log_as_parents_must(&mut self) {
        for _ in 0..self.tables.len() {
            for child in 0..self.tables.len() {
                if !self.tables[child].unlogged {
                    for at in 0..self.tables[child].references.len() {
                        let parent = self.tables[child].references[at].parent;
                        self.tables[parent].unlogged = false;
                    }
                }
            }
        }
    }

    /// Whether a key is not enforced: PostgreSQL then refuses to TRUNCATE the table that it refers to if that has any trigger, and only then.
    pub fn has_unenforced(&self) -> bool {
        let mut references = self.tables.iter().flat_map(|table| &table.references);
        references.any(|reference| reference.not_enforced)
    }

    /// Whether a table refers to no table, and none to it.
    pub fn is_alone(&self, number: usize) -> bool {
        let refers = |table: &Table| {
            let mut references = table.references.iter();
            references.any(|reference| reference.parent == number)
        };
        self.tables[number].references.is_empty() && !self.tables.iter().any(refers)
    }

    /// The names of all tables, as SQL has them.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.tables.iter().map(|table| table.name).collect();
        if self.periods {
            names.extend(periods::TABLES);
        }
        names
    }

    /// The tables, each after those that it refers to, but for what refers to each other.
    pub fn parents_first(&self) -> impl Iterator<Item = &Table> {
        let parents = |child: usize| self.tables[child].references.iter().map(|one| one.parent);
        let mut reached: Vec<Vec<usize>> = Vec::new();
        for first in 0..self.tables.len() {
            let mut known = vec![first];
            let mut at = 0;
            while at < known.len() {
                let new: Vec<usize> = parents(known[at])
                    .filter(|one| !known.contains(one))
                    .collect();
                for one in new {
                    if !known.contains(&one) {
                        known.push(one);
                    }
                }
                at += 1;
            }
            reached.push(known);
        }
        // Whoever reaches fewer tables comes first; those that reach each other reach as many.
        let mut order: Vec<usize> = (0..self.tables.len()).collect();
        order.sort_by_key(|one| reached[*one].len());
        order.into_iter().map(|one| &self.tables[one])
    }

    /// The columns of a reference.
    pub fn columns_of(&self, child: usize, at: usize) -> Vec<String> {
        let mut columns = vec![format!("up{at}")];
        if self.is_wide(child, at) {
            columns.push(format!("upk{at}"));
        }
        columns
    }

    /// Whether a reference has two columns.
    pub fn is_wide(&self, child: usize, at: usize) -> bool {
        let reference = self.tables[child].references[at];
        !reference.to_alt && self.tables[reference.parent].wide_key
    }

    /// The values of a reference's columns that refer to the row with a number, an expression of SQL.
    pub fn referring(&self, child: usize, at: usize, number: &str) -> Vec<String> {
        if self.tables[child].references[at].to_alt {
            return vec![format!("{number} + {ALT}")];
        }
        let mut values = vec![number.to_owned()];
        if self.is_wide(child, at) {
            values.push(format!("1 + ({number}) % 3"));
        }
        values
    }
}

/// How much the key `alt` of a row is above its `id`.
pub const ALT: usize = 1000;

impl Table {
    fn random(random: &mut Random, name: &'static str, major: u16) -> Self {
        let partitions = random.weighted(&[
            (7, None),
            (1, Some(Partitions::List)),
            (1, Some(Partitions::Range)),
            (1, Some(Partitions::Hash)),
        ]);
        let keyless = partitions.is_none() && random.one_in(10);
        let columns = COLUMNS
            .iter()
            .filter(|column| column.since <= major)
            .filter(|_| random.one_in(4))
            // Virtual columns are not generated in what is partitioned before they were.
            .collect::<Vec<_>>();
        let mut constraints = Vec::new();
        if random.one_in(4) {
            constraints.push("CONSTRAINT at_most CHECK (n < 1000)");
        }
        if partitions.is_none() && random.one_in(4) {
            constraints.push(random.one_of(&[
                "UNIQUE (label, k)",
                "UNIQUE (label, k) DEFERRABLE INITIALLY DEFERRED",
                "UNIQUE NULLS NOT DISTINCT (label, n)",
                "EXCLUDE USING btree (label WITH =, n WITH =) WHERE (n > 3)",
                "EXCLUDE USING gist (int4range(id::int, id::int, '[]') WITH &&) DEFERRABLE",
            ]));
        }
        Self {
            name,
            wide_key: partitions == Some(Partitions::List) || random.one_in(6),
            keyless,
            identity: if partitions.is_some() {
                Identity::None
            } else {
                random.weighted(&[
                    (4, Identity::None),
                    (1, Identity::ByDefault),
                    (1, Identity::Always),
                ])
            },
            partitions,
            has_heir: partitions.is_none() && random.one_in(8),
            references: Vec::new(),
            columns,
            constraints,
            unlogged: partitions.is_none() && random.one_in(8),
            policies: random.one_in(6),
            key_type: random.one_of(&["int", "int", "int", "bigint", "smallint"]),
            revoked: random.one_in(4).then(|| {
                random.one_of(&["DELETE", "UPDATE", "INSERT", "SELECT", "SELECT, UPDATE"])
            }),
            has_alt: partitions.is_none() && random.one_in(4),
        }
    }

    fn random_reference(&self, random: &mut Random, child: usize, parent: usize) -> Reference {
        // What a managed row's removal does to a table that is not managed cannot be undone.
        let action = if self.keyless {
            random.one_of(&[OnDelete::Restrict, OnDelete::NoAction])
        } else {
            random.weighted(&[
                (8, OnDelete::Cascade),
                (3, OnDelete::SetNull),
                (1, OnDelete::SetNullListed),
                (2, OnDelete::SetDefault),
                (1, OnDelete::Restrict),
                (2, OnDelete::NoAction),
            ])
        };
        let required = parent < child
            && !matches!(action, OnDelete::SetNull | OnDelete::SetNullListed)
            && random.one_in(3);
        Reference {
            parent,
            action,
            on_update: random.one_of(&[
                "",
                "",
                " ON UPDATE CASCADE",
                " ON UPDATE CASCADE",
                " ON UPDATE NO ACTION",
                " ON UPDATE SET NULL",
                " ON UPDATE SET DEFAULT",
                " ON UPDATE RESTRICT",
            ]),
            required,
            to_alt: false,
            full: false,
            not_enforced: false,
            deferrable: random.one_of(&[
                "",
                "",
                "",
                " DEFERRABLE",
                " DEFERRABLE INITIALLY DEFERRED",
            ]),
        }
    }

    /// The key's columns.
    pub const fn key(&self) -> &'static str {
        if self.wide_key { "id, k" } else { "id" }
    }

    /// The name without quotes, as errors have it.
    pub fn bare_name(&self) -> String {
        match self
            .name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'))
        {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => self.name.to_owned(),
        }
    }

    /// A name made of this one's, as SQL has it.
    pub fn name_with(&self, suffix: &str) -> String {
        self.name.strip_suffix('"').map_or_else(
            || format!("{}{suffix}", self.name),
            |open| format!("{open}{suffix}\""),
        )
    }

    /// Partitions and heirs, by name.
    pub fn parts(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.partitions {
            Some(Partitions::List) => &["_1", "_2", "_rest"],
            Some(Partitions::Range) => &["_low", "_high"],
            Some(Partitions::Hash) => &["_0", "_1"],
            None if self.has_heir => &["_heir"],
            None => &[],
        };
        suffixes
            .iter()
            .map(|suffix| self.name_with(suffix))
            .collect()
    }
}
