//! The same where deleted rows go to archives. Each row that was ever inserted has an object of its own name, by which it is
//! known.

use super::dangling;
use crate::schema::{Schema, Table};

/// A query whose rows each tell of one thing that is wrong.
pub fn broken(schema: &Schema) -> String {
    let mut parts = vec![in_two_places(schema), lost(schema)];
    parts.extend(wrong_counts(schema));
    for table in &schema.tables {
        parts.push(of_no_deletion(table));
        for (at, reference) in table.references.iter().enumerate() {
            parts.push(dangling(
                table,
                reference,
                &schema.tables[reference.parent],
                at,
            ));
        }
    }
    parts.join("\nUNION ALL ")
}

/// A query whose rows tell of archived rows that are still there.
pub fn left_over(schema: &Schema) -> String {
    let parts: Vec<String> = schema
        .tables
        .iter()
        .map(|table| {
            format!(
                "SELECT format('row %s of %s is never purged', n, {}) FROM {}",
                table.as_literal(),
                table.archive()
            )
        })
        .collect();
    parts.join("\nUNION ALL ")
}

/// Every row, live or archived.
fn everywhere(schema: &Schema) -> String {
    let parts: Vec<String> = schema
        .tables
        .iter()
        .flat_map(|table| {
            [table.sql(), table.archive()].map(|of| format!("SELECT object FROM {of} WHERE n <> 0"))
        })
        .collect();
    parts.join(" UNION ALL ")
}

/// A3: a row is never live and archived at once, nor archived twice.
fn in_two_places(schema: &Schema) -> String {
    format!(
        "SELECT format('the row of %s is there %s times', object, count(*)) FROM ({}) AS e GROUP BY object HAVING count(*) > 1",
        everywhere(schema)
    )
}

/// A1: what is not live is archived, until it is purged.
fn lost(schema: &Schema) -> String {
    format!(
        "SELECT format('%s rows are lost: %s', count(*), string_agg(object, ', ')) FROM (SELECT object FROM kinds.seen EXCEPT ({})) AS l
         HAVING count(*) <> (SELECT coalesce(sum(purged), 0) FROM keepsake.deletion_table)",
        everywhere(schema)
    )
}

fn of_no_deletion(table: &Table) -> String {
    format!(
        "SELECT format('row %s of %s is archived by %s, which is %s', a.n, {}, a.keepsake_deletion, d.state)
         FROM {} AS a LEFT JOIN keepsake.deletion AS d ON d.id = a.keepsake_deletion
         WHERE (d.state IN ('deleted', 'purging')) IS NOT TRUE",
        table.as_literal(),
        table.archive()
    )
}

/// The registry counts the rows that are there.
fn wrong_counts(schema: &Schema) -> Option<String> {
    let counts: Vec<String> = schema
        .tables
        .iter()
        .map(|table| {
            format!(
                "SELECT keepsake_deletion AS deletion_id, {}::regclass AS relation, count(*) AS rows FROM {} GROUP BY 1",
                table.as_literal(),
                table.archive()
            )
        })
        .collect();
    (!counts.is_empty()).then(|| super::counted_otherwise(&counts.join(" UNION ALL ")))
}
