//! What a restore answers.

use pgrx::Uuid;
use serde_json::{Value, json};

use crate::model::conflict::Conflict;
use crate::model::on_conflict::OnConflict;
use crate::model::table::Table;
use crate::registry::deletion::Deletion;
use crate::restore::survey::Survey;

/// What a restore did, table by table.
#[derive(Default)]
pub struct Report {
    restored: Vec<Value>,
    passed: Vec<Value>,
    skipped: Vec<Value>,
}

impl Report {
    /// Of a restore that left every row where it was.
    pub fn nothing(surveyed: &Survey) -> Self {
        let mut report = Self::default();
        for (_, table, rows) in surveyed.rows.iter().rev() {
            report.skipped.extend(line(table, *rows));
        }
        report
    }

    pub fn note(&mut self, table: &Table, restored: i64, passed: Vec<(Uuid, i64)>, skipped: i64) {
        self.restored.extend(line(&table.shown, restored));
        self.skipped.extend(line(&table.shown, skipped));
        self.passed.extend(passed.into_iter().map(|(holder, rows)| {
            json!({ "table": table.shown, "rows": rows, "deletion_id": holder.to_string() })
        }));
    }

    pub fn into_json(
        self,
        deletion: &Deletion,
        on_conflict: OnConflict,
        conflicts: Vec<Conflict>,
    ) -> Value {
        let mut answer = json!({
            "deletion_id": deletion.id.to_string(), "restored": self.restored, "passed": self.passed,
        });
        if on_conflict == OnConflict::Skip {
            answer["skipped"] = self.skipped.into();
            answer["conflicts"] = Conflict::to_json(&conflicts);
        }
        answer
    }
}

pub fn line(table: &str, rows: i64) -> Option<Value> {
    (rows > 0).then(|| json!({ "table": table, "rows": rows }))
}

/// Adds to one answer the rows of another, which refer to its own: they come first, as in a deletion of one kind.
pub fn add_to(answer: &mut Value, rest: &Value) {
    for list in ["restored", "passed", "skipped", "superseded", "conflicts"] {
        let Some(more) = rest.get(list).and_then(Value::as_array) else {
            continue;
        };
        let known = answer.get(list).and_then(Value::as_array);
        let lines = more.iter().chain(known.into_iter().flatten()).cloned();
        answer[list] = lines.collect::<Vec<Value>>().into();
    }
}
