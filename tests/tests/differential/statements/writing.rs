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
                let conflict = match self.random.below(5) {
                    0 if self.schema.has_arbiters(number) => format!(
                        " ON CONFLICT ({}) DO UPDATE SET n = excluded.n + 1, label = 'met'",
                        self.schema.tables[number].key()
                    ),
                    1 => " ON CONFLICT DO NOTHING".to_owned(),
                    _ => String::new(),
                };
                let returning = self.random.one_of(&["", "", " RETURNING *"]);
                format!("{into} VALUES {row}{conflict}{returning};")
            })
            .collect()
    }

    pub fn insert(&mut self) -> String {
        let number = self.table_number();
        let into = self.schema.insertion(number);
        let ids = [self.number(), self.number() + 6];
        let rows = ids.map(|id| self.schema.row_sql(self.random, number, 0, id));
        let conflict = match self.random.below(5) {
            0 => " ON CONFLICT DO NOTHING".to_owned(),
            1 if self.schema.has_arbiters(number) => format!(
                " ON CONFLICT ({}) DO UPDATE SET n = excluded.n + 1, label = 'met'",
                self.schema.tables[number].key()
            ),
            _ => String::new(),
        };
        let rows = match self.random.below(3) {
            0 => rows.join(", "),
            _ => rows[0].clone(),
        };
        let returning = match self.random.below(4) {
            0 => " RETURNING *",
            _ => "",
        };
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
        let set = match self.random.below(8) {
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
                let parent = &self.schema.tables[table.references[at].parent];
                if parent.wide_key {
                    format!("up{at} = {to}, upk{at} = {}", crate::rows::key_part(to))
                } else {
                    format!("up{at} = {to}")
                }
            }
            _ => "n = NULL".to_owned(),
        };
        let returning = self.returning("x");
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
