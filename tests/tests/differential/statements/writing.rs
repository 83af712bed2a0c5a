//! What else is done to rows.

use super::{MOST, Writer};

impl Writer<'_> {
    /// Writes a row with a number that none had, and now and then another with the same.
    pub fn insert_new(&mut self) -> Vec<String> {
        self.base += 1;
        let number = self.table_number();
        let into = self.schema.insertion(number);
        let id = MOST;
        let mut rows: Vec<String> = (0..2)
            .map(|_| self.schema.row_sql(self.random, number, self.base, id))
            .collect();
        if !self.random.one_in(4) {
            rows.truncate(1);
        }
        rows.iter()
            .map(|row| {
                let conflict = self.on_conflict(number);
                let returning = self.returning_written();
                format!("{into} VALUES {row}{conflict}{returning};")
            })
            .collect()
    }

    /// What an insertion does when it meets a row, found in every way that there is to name a key.
    fn on_conflict(&mut self, number: usize) -> String {
        let table = &self.schema.tables[number];
        if !self.random.one_in(2) {
            return String::new();
        }
        if !self.schema.has_arbiters(number) {
            return " ON CONFLICT DO NOTHING".to_owned();
        }
        let pairs = table.constraints.contains(&"UNIQUE (label, k)");
        let arbiter = match self.random.below(7) {
            0 => String::new(),
            1 => format!(" ON CONSTRAINT {}", table.name_with("_pkey")),
            2 if pairs => " (label, k)".to_owned(),
            3 if pairs => " (k, label) WHERE n > 2".to_owned(),
            4 if table.has_alt => " (alt)".to_owned(),
            5 => format!(" ({}) WHERE true", table.key()),
            _ => format!(" ({})", table.key()),
        };
        let action = match self.random.below(7) {
            _ if arbiter.is_empty() => "DO NOTHING",
            0 | 1 => "DO NOTHING",
            2 => "DO UPDATE SET n = x.n + 1 WHERE x.n % 2 = 0",
            3 => "DO UPDATE SET (label, n) = (SELECT 'met ' || excluded.id, x.n)",
            4 => "DO UPDATE SET k = x.k, label = DEFAULT",
            _ => "DO UPDATE SET n = excluded.n + 1, label = 'met'",
        };
        format!(" ON CONFLICT{arbiter} {action}")
    }

    fn returning_written(&mut self) -> &'static str {
        let both: &[&str] = if self.major >= 18 {
            &[" RETURNING old.n, new.n, x.id", " RETURNING old, new"]
        } else {
            &[" RETURNING x", " RETURNING x.n + 1"]
        };
        match self.random.below(8) {
            0 | 1 => " RETURNING *",
            2 => self.random.one_of(both),
            _ => "",
        }
    }

    pub fn insert(&mut self) -> String {
        let number = self.table_number();
        let into = self.schema.insertion(number);
        let ids = [self.number(), self.number() + 6];
        let rows = ids.map(|id| self.schema.row_sql(self.random, number, 0, id));
        let conflict = self.on_conflict(number);
        let rows = match self.random.below(3) {
            0 => rows.join(", "),
            _ => rows[0].clone(),
        };
        let returning = self.returning_written();
        if self.random.one_in(8) {
            let name = self.schema.tables[number].name;
            return format!(
                "COPY {name} (id, k, label) FROM STDIN;\n{}\t1\tcopied\n{}\t2\t\\N\n\\.",
                ids[0], ids[1]
            );
        }
        format!("{into} VALUES {rows}{conflict}{returning};")
    }

    pub fn update(&mut self) -> String {
        let number = self.table_number();
        let table = &self.schema.tables[number];
        let target = if self.random.one_in(4) {
            self.target()
        } else {
            table.name.to_owned()
        };
        let condition = self.condition("x");
        let references = table.references.len();
        let to = self.number();
        let set = match self.random.below(10) {
            8 => "(n, label) = (SELECT x.n + 1, 'sub')".to_owned(),
            9 => format!("label = NULL, k = x.k, n = {}", self.random.below(9)),
            0 => "n = n + 1".to_owned(),
            1 => format!("label = 'row {to}'"),
            2 if self.in_place() => {
                self.base += 1;
                format!("id = id + {}", 100_000 * self.base)
            }
            2 => format!("id = id + {}", self.random.one_of(&[20, 1])),
            // From one partition into another.
            3 => "k = 1 + k % 3".to_owned(),
            4 if references > 0 => "up0 = NULL".to_owned(),
            _ if references > 0 => {
                let at = self.random.below(references);
                let columns = self.schema.columns_of(number, at).into_iter();
                let values = self.schema.referring(number, at, &to.to_string());
                let sets: Vec<String> = columns
                    .zip(values)
                    .map(|(column, value)| format!("{column} = {value}"))
                    .collect();
                sets.join(", ")
            }
            _ => "n = NULL".to_owned(),
        };
        let returning = self.returning("x");
        if self.random.one_in(6) {
            let other = self.name();
            return format!(
                "UPDATE {target} AS x SET {set} FROM {other} AS o WHERE o.id = x.id AND {condition}{returning};"
            );
        }
        format!("UPDATE {target} AS x SET {set} WHERE {condition}{returning};")
    }

    /// Fills the tables again, of which removals leave little.
    pub fn refill(&mut self) -> Vec<String> {
        if self.in_place() {
            self.base += MOST;
        }
        let base = self.base;
        let mut sql = if self.random.one_in(3) && !self.in_place() {
            let number = self.table_number();
            self.schema.fill_table_sql(self.random, number, base)
        } else {
            self.schema.fill_sql(self.random, base)
        };
        sql.extend(self.schema.close_rings_sql(base));
        sql.into_iter().map(|statement| statement + ";").collect()
    }
}
