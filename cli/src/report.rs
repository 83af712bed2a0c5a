//! The result of a command, for people and for programs.

use serde_json::Value;

use crate::failure::Exit;
use crate::output;

/// The result of a command.
#[derive(Debug)]
pub struct Report {
    value: Value,
    form: Form,
    /// The exit code.
    pub exit: Exit,
}

#[derive(Debug)]
enum Form {
    /// A list of objects, with a column for each of these names.
    Table {
        columns: Vec<&'static str>,
        when_empty: String,
    },
    /// A sentence.
    Text(String),
    /// Nothing to be printed.
    Silence,
}

impl Report {
    /// A table with these columns, from a list of objects.
    #[must_use]
    pub fn table(rows: Vec<Value>, columns: &[&'static str], when_empty: &str) -> Self {
        Self {
            value: Value::from(rows),
            form: Form::Table {
                columns: columns.to_vec(),
                when_empty: when_empty.to_owned(),
            },
            exit: Exit::Ok,
        }
    }

    /// A sentence, and the value behind it.
    #[must_use]
    pub fn text(text: impl Into<String>, value: Value) -> Self {
        Self {
            value,
            form: Form::Text(text.into()),
            exit: Exit::Ok,
        }
    }

    /// Nothing: all was said while the command ran.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            value: Value::Null,
            form: Form::Silence,
            exit: Exit::Ok,
        }
    }

    /// The same, with another exit code.
    #[must_use]
    pub fn leaving(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The value that `--json` prints.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The text to print.
    #[must_use]
    pub fn render(&self, json: bool) -> String {
        match &self.form {
            Form::Silence => String::new(),
            _ if json => format!("{}\n", self.value),
            Form::Text(text) => format!("{}\n", output::shown(text)),
            Form::Table {
                columns,
                when_empty,
            } => match self.value.as_array() {
                Some(rows) if !rows.is_empty() => aligned(columns, rows),
                _ => format!("{when_empty}\n"),
            },
        }
    }
}

fn aligned(columns: &[&str], rows: &[Value]) -> String {
    let mut lines = vec![
        columns
            .iter()
            .map(|name| name.to_uppercase().replace('_', " "))
            .collect::<Vec<_>>(),
    ];
    lines.extend(
        rows.iter()
            .map(|row| columns.iter().map(|name| shown(&row[*name])).collect()),
    );
    let width = |place: usize| {
        lines
            .iter()
            .map(|line| line[place].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A value on one line. Text from a database must not move the terminal's cursor.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_holds_no_control_characters() {
        let rows = vec![
            json!({"id": 1, "reason": "spring\u{1b}[2J clean"}),
            json!({"id": 10, "reason": null}),
        ];
        let text = Report::table(rows, &["id", "reason"], "none").render(false);
        assert_eq!(text, "ID  REASON\n1   spring [2J clean\n10\n");
    }

    #[test]
    fn a_sentence_holds_no_control_characters_either() {
        let text = Report::text("\tof \u{1b}[2J\u{9b}2J\nname", Value::Null).render(false);
        assert_eq!(text, "\tof  [2J 2J\nname\n");
    }

    #[test]
    fn silence_prints_not_even_a_line() {
        assert_eq!(Report::silent().render(false), "");
        assert_eq!(Report::silent().render(true), "");
    }

    #[test]
    fn an_empty_table_is_a_sentence_for_people_and_a_list_for_machines() {
        let empty = Report::table(Vec::new(), &["id"], "There is none.");
        assert_eq!(empty.render(false), "There is none.\n");
        assert_eq!(empty.render(true), "[]\n");
    }
}
