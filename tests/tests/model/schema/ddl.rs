//! The SQL that makes a schema, and gives it to Keepsake.

use super::{MOST_ROWS, NAMESPACES, OnDelete, Reference, Schema, Table, ident, literal};

impl Schema {
    /// The statements that make it, with a row of number 0 in each table that nobody deletes.
    pub fn ddl(&self) -> Vec<String> {
        let grades: Vec<String> = (0..MOST_ROWS).map(|n| format!("'e{n}'")).collect();
        let mut ddl = vec![
            "CREATE SCHEMA kinds".to_owned(),
            "CREATE COLLATION kinds.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)".to_owned(),
            "CREATE DOMAIN kinds.code AS text CHECK (VALUE <> '')".to_owned(),
            format!("CREATE TYPE kinds.grade AS ENUM ({})", grades.join(", ")),
        ];
        for namespace in &NAMESPACES[1..] {
            ddl.push(format!("CREATE SCHEMA {}", ident(namespace)));
        }
        for number in 0..self.tables.len() {
            ddl.push(self.create_table(number));
            ddl.extend(self.create_partitions(number));
            let table = &self.tables[number];
            let references: Vec<Option<i32>> = table
                .references
                .iter()
                .map(|reference| reference.required.then_some(0))
                .collect();
            let cells = self.cells(number, &references);
            ddl.push(self.insert(number, 0, &cells, None, "kept"));
        }
        ddl.extend((0..self.tables.len()).flat_map(|number| self.give_to_keepsake(number)));
        for number in 0..self.tables.len() {
            ddl.extend(self.late_references(number));
        }
        ddl
    }

    fn create_table(&self, number: usize) -> String {
        let table = &self.tables[number];
        let mut parts = self.columns_sql(number);
        parts.push(format!("PRIMARY KEY ({})", table.key_columns().join(", ")));
        for (at, reference) in table.references.iter().enumerate() {
            if !reference.declared && reference.parent <= number {
                parts.push(self.foreign_key(number, at));
            }
        }
        let by = if table.partitioned {
            format!(" PARTITION BY HASH ({})", table.key_columns()[0])
        } else {
            String::new()
        };
        format!("CREATE TABLE {} ({}){by}", table.sql(), parts.join(", "))
    }

    /// Its columns, as a partition that is made by itself has them, too.
    fn columns_sql(&self, number: usize) -> Vec<String> {
        let table = &self.tables[number];
        let unique = if table.partitioned { "" } else { " UNIQUE" };
        let mut columns: Vec<String> = vec![
            "n int NOT NULL".into(),
            "plain int NOT NULL DEFAULT 0".into(),
            "label int".into(),
            format!("object text NOT NULL{unique}"),
        ];
        for (name, kind) in table.key_columns().iter().zip(table.key.columns()) {
            columns.push(format!("{name} {kind} NOT NULL"));
        }
        for (at, reference) in table.references.iter().enumerate() {
            columns.extend(self.reference_columns_sql(number, at, reference));
        }
        columns
    }

    /// Three partitions, of which one has its columns in another order, and had one more.
    fn create_partitions(&self, number: usize) -> Vec<String> {
        let table = &self.tables[number];
        if !table.partitioned {
            return Vec::new();
        }
        let mut columns = self.columns_sql(number);
        columns.push("dropped int".to_owned());
        columns.reverse();
        let other = partition(number, 1);
        let of = |part| {
            format!(
                "CREATE TABLE {} PARTITION OF {} {}",
                partition(number, part),
                table.sql(),
                bound(part)
            )
        };
        vec![
            of(0),
            format!("CREATE TABLE {other} ({})", columns.join(", ")),
            format!("ALTER TABLE {other} DROP COLUMN dropped"),
            self.attach(number, 1),
            of(2),
            format!("CREATE INDEX ON {} (object)", table.sql()),
        ]
    }

    fn attach(&self, number: usize, part: usize) -> String {
        let table = &self.tables[number];
        format!(
            "ALTER TABLE {} ATTACH PARTITION {} {}",
            table.sql(),
            partition(number, part),
            bound(part)
        )
    }

    /// Takes a partition away and gives it back.
    pub fn reattach(&self, number: usize, part: usize) -> String {
        let table = &self.tables[number];
        let name = partition(number, part);
        format!(
            "ALTER TABLE {} DETACH PARTITION {name}; DROP TRIGGER IF EXISTS keepsake_guard_update ON {name}; {}",
            table.sql(),
            self.attach(number, part)
        )
    }

    fn reference_columns_sql(&self, table: usize, at: usize, reference: &Reference) -> Vec<String> {
        let key = self.tables[reference.parent].key;
        let of = &self.tables[table];
        let kinds = if reference.wide {
            &["bigint"]
        } else {
            key.columns()
        };
        let parts = kinds.iter().enumerate();
        let own = parts.filter(|(part, _)| of.slot(at, *part) == (at, *part));
        let mut columns: Vec<String> = own
            .map(|(part, kind)| {
                let name = format!("to_{at}_{part}");
                let is_default = |(other, reference): (usize, &Reference)| {
                    let is_here = of.slot(other, part) == (at, part);
                    is_here && reference.action == OnDelete::SetDefault
                };
                let required = if reference.required { " NOT NULL" } else { "" };
                let default = if of.references.iter().enumerate().any(is_default) {
                    format!(" DEFAULT {}", literal(&key.referring_value(part, 0)))
                } else {
                    String::new()
                };
                format!("{name} {kind}{default}{required}")
            })
            .collect();
        if reference.declared {
            columns.push(format!("{} text", Table::type_column(at)));
        }
        columns
    }

    fn foreign_key(&self, table: usize, at: usize) -> String {
        let of = &self.tables[table];
        let reference = &of.references[at];
        let parent = &self.tables[reference.parent];
        let columns = of.reference_columns(at, parent.key);
        let listed = reference.listed.map_or_else(String::new, |parts| {
            let listed: Vec<&str> = parts.iter().map(|part| columns[*part].as_str()).collect();
            format!(" ({})", listed.join(", "))
        });
        format!(
            "CONSTRAINT key{at} FOREIGN KEY ({}) REFERENCES {} ON DELETE {}{listed}{}",
            columns.join(", "),
            parent.sql(),
            reference.overridden.unwrap_or(reference.action).sql(),
            if reference.deferrable {
                " DEFERRABLE INITIALLY DEFERRED"
            } else {
                ""
            }
        )
    }

    fn give_to_keepsake(&self, number: usize) -> Vec<String> {
        let table = &self.tables[number];
        let mut ddl = Vec::new();
        if self.archives {
            ddl.push(format!(
                "SELECT keepsake.manage({}, '0', keep => 'archive', cascade => true)",
                table.as_literal()
            ));
        } else if table.managed {
            ddl.push(format!(
                "SELECT keepsake.manage({}, '0', '{}')",
                table.as_literal(),
                table.policy.sql()
            ));
        }
        if table.unique {
            let live = if table.managed && !self.archives {
                " WHERE deleted_at IS NULL"
            } else {
                ""
            };
            ddl.push(format!(
                "CREATE UNIQUE INDEX ON {} (label){live}",
                table.sql()
            ));
        }
        if table.managed && table.objects {
            ddl.push(format!(
                "SELECT keepsake.bind_storage({}, 'object')",
                table.as_literal()
            ));
        }
        ddl
    }

    fn late_references(&self, number: usize) -> Vec<String> {
        let table = &self.tables[number];
        let mut ddl = Vec::new();
        for (at, reference) in table.references.iter().enumerate() {
            let parent = &self.tables[reference.parent];
            if reference.declared {
                ddl.push(format!(
                    "SELECT keepsake.declare_reference({}, {}, {}, {}, {})",
                    table.as_literal(),
                    literal(&Table::type_column(at)),
                    literal(&table.reference_columns(at, parent.key).concat()),
                    literal(parent.type_value()),
                    parent.as_literal(),
                ));
            } else if reference.parent > number {
                ddl.push(format!(
                    "ALTER TABLE {} ADD {}",
                    table.sql(),
                    self.foreign_key(number, at)
                ));
            }
            if reference.overridden.is_some() {
                ddl.push(format!(
                    "SELECT keepsake.override_reference({}, 'key{at}', {})",
                    table.as_literal(),
                    literal(&reference.action.sql().to_lowercase()),
                ));
            }
        }
        ddl
    }
}

fn partition(table: usize, part: usize) -> String {
    format!("kinds.\"part {part} of {table}\"")
}

fn bound(part: usize) -> String {
    format!("FOR VALUES WITH (MODULUS 3, REMAINDER {part})")
}
