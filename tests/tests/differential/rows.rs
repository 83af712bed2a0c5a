//! Rows to write.

use keepsake_tests::random::Random;

use crate::schema::{ALT, Identity, Schema};

/// Rows that each table has at first, of the numbers from 1 on.
pub const ROWS: usize = 8;

impl Schema {
    /// Statements that put rows into all tables, where they are not yet: those with the numbers after `base`.
    pub fn fill_sql(&self, random: &mut Random, base: usize) -> Vec<String> {
        (0..self.tables.len())
            .flat_map(|table| self.fill_table_sql(random, table, base))
            .collect()
    }

    /// The same for one table.
    pub fn fill_table_sql(&self, random: &mut Random, number: usize, base: usize) -> Vec<String> {
        let table = &self.tables[number];
        let into = self.insertion(number);
        let rows: Vec<String> = (1..=ROWS)
            .map(|id| self.row_sql(random, number, base, id))
            .collect();
        let mut sql = if self.has_arbiters(number) {
            vec![format!(
                "{into} VALUES {} ON CONFLICT DO NOTHING",
                rows.join(", ")
            )]
        } else {
            rows.iter()
                .map(|row| format!("{into} VALUES {row}"))
                .collect()
        };
        if table.has_heir {
            sql.push(format!(
                "INSERT INTO {} (id, k, label, n, extra) SELECT i, 1, 'heir ' || i, i, 'x' FROM generate_series(51, 53) AS i ON CONFLICT DO NOTHING",
                table.name_with("_heir")
            ));
        }
        // Not of a table that rows of this one must refer to.
        if table.references.iter().any(|reference| reference.required) {
            sql.retain(|statement| !statement.contains("extra) SELECT"));
        }
        sql
    }

    /// Whether ON CONFLICT works: not with a deferrable constraint.
    pub fn has_arbiters(&self, number: usize) -> bool {
        let table = &self.tables[number];
        !table.keyless
            && !table
                .constraints
                .iter()
                .any(|constraint| constraint.contains("DEFERRABLE"))
    }

    /// `INSERT INTO table AS x (columns)`, with what an identity needs.
    pub fn insertion(&self, number: usize) -> String {
        let table = &self.tables[number];
        let overriding = match table.identity {
            Identity::Always => " OVERRIDING SYSTEM VALUE",
            _ => "",
        };
        format!(
            "INSERT INTO {} AS x ({}){overriding}",
            table.name,
            self.written_columns(number).join(", ")
        )
    }

    /// The columns that `row_sql` gives values of.
    pub fn written_columns(&self, number: usize) -> Vec<String> {
        let table = &self.tables[number];
        let mut columns = ["id", "k", "label", "n"].map(str::to_owned).to_vec();
        columns.extend(table.has_alt.then(|| "alt".to_owned()));
        for at in 0..table.references.len() {
            columns.extend(self.columns_of(number, at));
        }
        let written = table
            .columns
            .iter()
            .filter(|column| !column.values.is_empty());
        columns.extend(written.map(|column| column.name.to_owned()));
        columns
    }

    /// A row in parentheses, the one with this number after `base`.
    pub fn row_sql(&self, random: &mut Random, number: usize, base: usize, id: usize) -> String {
        let table = &self.tables[number];
        let mut values = vec![
            (base + id).to_string(),
            key_part(base + id).to_string(),
            format!("'row {}'", base + id),
            random.one_of(&[id, id, id, 3 * id]).to_string(),
        ];
        if table.has_alt {
            values.push((base + id + ALT).to_string());
        }
        for (at, reference) in table.references.iter().enumerate() {
            // A ring is closed later, by an UPDATE.
            let to = (reference.parent < number || random.one_in(3))
                .then(|| 1 + (id * (at + 3) + at) % ROWS);
            let to = to.filter(|_| reference.required || !random.one_in(6));
            let to = to.filter(|_| reference.parent < number || id > ROWS);
            let to = to.map(|to| base + to);
            match to {
                Some(to) => values.extend(self.referring(number, at, &to.to_string())),
                None => values.extend(
                    self.columns_of(number, at)
                        .iter()
                        .map(|_| "NULL".to_owned()),
                ),
            }
        }
        for column in table
            .columns
            .iter()
            .filter(|column| !column.values.is_empty())
        {
            values.push(random.one_of(column.values).to_owned());
        }
        format!("({})", values.join(", "))
    }
}

/// The second part of the key of a row.
pub const fn key_part(id: usize) -> usize {
    1 + id % 3
}
