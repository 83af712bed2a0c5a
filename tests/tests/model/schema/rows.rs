//! The rows of a schema: what they refer to, the SQL that writes them, and how they are shown.

use super::{Cells, Reference, Schema, Table, literal};

impl Schema {
    /// The columns of a row that refers to rows of these numbers.
    pub fn cells(&self, table: usize, references: &[Option<i32>]) -> Cells {
        let of = &self.tables[table];
        let width = |to: &Reference| self.tables[to.parent].key.columns().len();
        let mut cells = of
            .references
            .iter()
            .map(|to| vec![None; width(to)])
            .collect();
        for (at, to) in references.iter().enumerate().take(of.references.len()) {
            if to.is_some() {
                self.point(&mut cells, table, at, *to);
            }
        }
        cells
    }

    /// Makes a row refer by one reference to another row, or to none.
    pub fn point(&self, cells: &mut Cells, table: usize, at: usize, to: Option<i32>) {
        let of = &self.tables[table];
        let key = self.tables[of.references[at].parent].key;
        for part in 0..key.columns().len() {
            let (at, slot) = of.slot(at, part);
            cells[at][slot] = to.map(|number| key.parts(number)[part]);
        }
    }

    /// The row that a row refers to by one reference, when no part of it is NULL.
    pub fn target(&self, cells: &Cells, table: usize, at: usize) -> Option<i32> {
        let of = &self.tables[table];
        let key = self.tables[of.references[at].parent].key;
        let parts = (0..key.columns().len()).map(|part| {
            let (at, part) = of.slot(at, part);
            cells[at][part]
        });
        key.number(&parts.collect::<Option<Vec<i32>>>()?)
    }

    pub fn insert(
        &self,
        table: usize,
        number: i32,
        cells: &Cells,
        label: Option<i32>,
        object: &str,
    ) -> String {
        let of = &self.tables[table];
        let mut columns = vec!["n".to_owned(), "label".to_owned(), "object".to_owned()];
        let mut values = vec![
            number.to_string(),
            label.map_or_else(|| "NULL".to_owned(), |label| label.to_string()),
            literal(object),
        ];
        columns.extend(of.key_columns());
        values.extend(of.key.values(number).iter().map(|value| literal(value)));
        for at in 0..of.references.len() {
            for (column, value) in self.assignments(table, at, cells) {
                if !columns.contains(&column) {
                    columns.push(column);
                    values.push(value);
                }
            }
        }
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            of.sql(),
            columns.join(", "),
            values.join(", ")
        )
    }

    pub fn reparent(&self, table: usize, number: i32, at: usize, cells: &Cells) -> String {
        let set: Vec<String> = self
            .assignments(table, at, cells)
            .iter()
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        format!(
            "UPDATE {} SET {} WHERE n = {number}",
            self.tables[table].sql(),
            set.join(", ")
        )
    }

    /// The columns of a reference and their values in a row.
    fn assignments(&self, table: usize, at: usize, cells: &Cells) -> Vec<(String, String)> {
        let of = &self.tables[table];
        let reference = &of.references[at];
        let parent = &self.tables[reference.parent];
        let names = of.reference_columns(at, parent.key);
        let mut pairs: Vec<(String, String)> = names
            .into_iter()
            .enumerate()
            .map(|(part, name)| {
                let (at, slot) = of.slot(at, part);
                let value =
                    cells[at][slot].map(|value| literal(&parent.key.referring_value(part, value)));
                (name, value.unwrap_or_else(|| "NULL".to_owned()))
            })
            .collect();
        if reference.declared {
            let to = self.target(cells, table, at);
            let kind = to.map_or_else(|| "NULL".to_owned(), |_| literal(parent.type_value()));
            pairs.push((Table::type_column(at), kind));
        }
        pairs
    }

    /// A query whose one column is a line of text for each row.
    pub fn row_lines(&self) -> String {
        let parts: Vec<String> = self
            .tables
            .iter()
            .enumerate()
            .map(|(number, table)| {
                let references = table.references.iter().enumerate().map(|(at, reference)| {
                    let key = self.tables[reference.parent].key;
                    let columns: Vec<String> = table.reference_columns(at, key)
                        .iter()
                        .map(|column| format!("coalesce({column}::text, '~')"))
                        .collect();
                    format!("concat_ws('/', {})", columns.join(", "))
                });
                let references: Vec<String> = references.collect();
                let mark = if table.managed {
                    "CASE WHEN deletion_id IS NULL AND deleted_at IS NULL THEN 'live'
                          WHEN deletion_id IS NULL OR deleted_at IS NULL THEN 'half marked'
                          ELSE deletion_id::text END"
                } else {
                    "'live'"
                };
                format!(
                    "SELECT concat_ws(' ', 'row', {number}, n, '[' || concat_ws(', ', {}'') || ']', coalesce(label::text, '-'), plain, {mark}) FROM {}",
                    references
                        .iter()
                        .map(|reference| format!("{reference}, "))
                        .collect::<String>(),
                    table.sql()
                )
            })
            .collect();
        parts.join("\nUNION ALL ")
    }

    /// The line of one row, as [`Schema::row_lines`] reads it.
    pub fn row_line(
        &self,
        table: usize,
        number: i32,
        cells: &Cells,
        label: Option<i32>,
        plain: i32,
        mark: &str,
    ) -> String {
        let of = &self.tables[table];
        let references = of.references.iter().enumerate();
        let to: String = references
            .map(|(at, reference)| {
                let key = self.tables[reference.parent].key;
                let part = |part| {
                    let (at, slot) = of.slot(at, part);
                    let value = cells[at][slot].map(|value| key.referring_value(part, value));
                    value.unwrap_or_else(|| "~".to_owned())
                };
                let values: Vec<String> = (0..key.columns().len()).map(part).collect();
                format!("{}, ", values.join("/"))
            })
            .collect();
        let label = label.map_or_else(|| "-".to_owned(), |label| label.to_string());
        format!("row {table} {number} [{to}] {label} {plain} {mark}")
    }

    /// The key of a row, its parts joined as the lines of deletions show them.
    pub fn key_text(&self, table: usize, number: i32) -> String {
        self.tables[table].key.values(number).join("/")
    }
}
