//! What must hold between transactions, asked of the database in plain SQL, past the engine.

mod archives;

use crate::schema::{Reference, Schema, Table, literal};

/// Statements that keep a record of every object key that was ever committed.
pub fn record_objects(schema: &Schema) -> Vec<String> {
    let mut ddl = vec![
        "CREATE TABLE kinds.seen (object text PRIMARY KEY)".to_owned(),
        "CREATE FUNCTION kinds.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO kinds.seen VALUES (NEW.object) ON CONFLICT DO NOTHING; RETURN NULL; END $$".to_owned(),
    ];
    let recorded = schema
        .tables
        .iter()
        .filter(|table| schema.archives || (table.managed && table.objects));
    ddl.extend(recorded.map(|table| {
        format!(
            "CREATE TRIGGER see AFTER INSERT ON {} FOR EACH ROW EXECUTE FUNCTION kinds.see()",
            table.sql()
        )
    }));
    ddl
}

/// A query whose rows each tell of one thing that is wrong.
pub fn broken(schema: &Schema) -> String {
    if schema.archives {
        return archives::broken(schema);
    }
    let mut parts = Vec::new();
    for table in &schema.tables {
        if table.managed {
            parts.push(wrong_marks(table));
            parts.push(lost_root(table));
        }
        if table.unique {
            parts.push(clashes(table));
        }
        for (at, reference) in table.references.iter().enumerate() {
            let parent = &schema.tables[reference.parent];
            if reference.is_enforced() && parent.managed {
                parts.push(live_under_deleted(table, parent, at));
            }
            parts.push(dangling(table, reference, parent, at));
        }
    }
    parts.extend(wrong_counts(schema));
    parts.extend(wrong_outbox(schema));
    parts.join("\nUNION ALL ")
}

/// A query whose rows tell of deleted rows that are still there.
pub fn left_over(schema: &Schema) -> String {
    if schema.archives {
        return archives::left_over(schema);
    }
    let managed = schema.tables.iter().filter(|table| table.managed);
    let parts: Vec<String> = managed
        .map(|table| {
            format!(
                "SELECT format('row %s of %s is never purged', n, {}) FROM {} WHERE deleted_at IS NOT NULL",
                table.as_literal(),
                table.sql()
            )
        })
        .collect();
    parts.join("\nUNION ALL ")
}

fn live(table: &Table) -> &'static str {
    if table.managed {
        "c.deleted_at IS NULL"
    } else {
        "true"
    }
}

fn joins(child: &Table, parent: &Table, at: usize) -> String {
    let pairs: Vec<String> = child
        .reference_columns(at, parent.key)
        .iter()
        .zip(parent.key_columns())
        .map(|(child, key)| format!("c.{child} = p.{key}"))
        .collect();
    pairs.join(" AND ")
}

/// Both marks or none, and those of a deletion that is still open.
fn wrong_marks(table: &Table) -> String {
    format!(
        "SELECT format('row %s of %s is marked %s, by %s, which is %s', t.n, {}, t.deleted_at, t.deletion_id, d.state)
         FROM {} AS t LEFT JOIN keepsake.deletion d ON d.id = t.deletion_id
         WHERE (t.deleted_at IS NULL) <> (t.deletion_id IS NULL)
            OR (t.deletion_id IS NOT NULL AND (d.state IN ('deleted', 'purging')) IS NOT TRUE)",
        table.as_literal(),
        table.sql()
    )
}

/// The root of a deletion that can be restored is there: among its rows or, when a restore has
/// brought it back and skipped others, elsewhere.
fn lost_root(table: &Table) -> String {
    let key: Vec<String> = table
        .key_columns()
        .iter()
        .map(|column| {
            let name = column[1..column.len() - 1].replace("\"\"", "\"");
            format!("{}, t.{column}", literal(&name))
        })
        .collect();
    format!(
        "SELECT format('deletion %s has lost its root %s of %s', d.id, d.root_key, {name})
         FROM keepsake.deletion d
         WHERE d.state = 'deleted' AND d.root_table = {name}::regclass AND d.root_key IS NOT NULL
           AND NOT EXISTS (SELECT FROM {table} AS t WHERE jsonb_build_object({key}) = d.root_key)",
        name = table.as_literal(),
        table = table.sql(),
        key = key.join(", ")
    )
}

fn clashes(table: &Table) -> String {
    format!(
        "SELECT format('label %s is that of %s live rows of %s', c.label, count(*), {}) FROM {} AS c
         WHERE c.label IS NOT NULL AND {} GROUP BY c.label HAVING count(*) > 1",
        table.as_literal(),
        table.sql(),
        live(table)
    )
}

fn live_under_deleted(child: &Table, parent: &Table, at: usize) -> String {
    let kind = if child.references[at].declared {
        format!(
            "c.{} = {}",
            Table::type_column(at),
            literal(parent.type_value())
        )
    } else {
        "true".to_owned()
    };
    format!(
        "SELECT format('live row %s of %s refers by its reference {at} to row %s of %s, deleted by %s', c.n, {}, p.n, {}, p.deletion_id)
         FROM {} AS c JOIN {} AS p ON {} WHERE {} AND {kind} AND p.deleted_at IS NOT NULL",
        child.as_literal(),
        parent.as_literal(),
        child.sql(),
        parent.sql(),
        joins(child, parent, at),
        live(child)
    )
}

fn dangling(child: &Table, reference: &Reference, parent: &Table, at: usize) -> String {
    let set: Vec<String> = child
        .reference_columns(at, parent.key)
        .iter()
        .map(|column| format!("c.{column} IS NOT NULL"))
        .collect();
    // Nothing but the engine checks a declared reference, and it lets deleted rows be.
    let judged = if reference.declared {
        live(child)
    } else {
        "true"
    };
    format!(
        "SELECT format('row %s of %s refers by its reference {at} to a row of %s that is not there', c.n, {}, {})
         FROM {} AS c WHERE {judged} AND {} AND NOT EXISTS (SELECT FROM {} AS p WHERE {})",
        child.as_literal(),
        parent.as_literal(),
        child.sql(),
        set.join(" AND "),
        parent.sql(),
        joins(child, parent, at)
    )
}

/// The registry counts the rows that are there.
fn wrong_counts(schema: &Schema) -> Option<String> {
    let counts: Vec<String> = schema
        .tables
        .iter()
        .filter(|table| table.managed)
        .map(|table| {
            format!(
                "SELECT deletion_id, {}::regclass AS relation, count(*) AS rows FROM {} WHERE deletion_id IS NOT NULL GROUP BY 1",
                table.as_literal(),
                table.sql()
            )
        })
        .collect();
    (!counts.is_empty()).then(|| counted_otherwise(&counts.join(" UNION ALL ")))
}

/// Where a query that counts the rows of each deletion and table says other numbers than the registry.
fn counted_otherwise(counts: &str) -> String {
    format!(
        "SELECT format('deletion %s has %s rows of %s, not %s', deletion_id, coalesce(r.rows, 0), relation, coalesce(h.rows, 0))
         FROM (SELECT h.deletion_id, h.relation, h.row_count - h.purged AS rows
               FROM keepsake.deletion_table h JOIN keepsake.deletion d ON d.id = h.deletion_id
               WHERE d.state <> 'restored') AS h
         FULL JOIN ({counts}) AS r USING (deletion_id, relation)
         WHERE coalesce(h.rows, 0) <> coalesce(r.rows, 0)"
    )
}

fn bound(schema: &Schema) -> impl Iterator<Item = &Table> {
    schema
        .tables
        .iter()
        .filter(|table| table.managed && table.objects)
}

/// The outbox holds the objects of purged rows, all of them and no others.
fn wrong_outbox(schema: &Schema) -> Vec<String> {
    let present: Vec<String> = bound(schema)
        .map(|table| format!("SELECT object FROM {} WHERE n <> 0", table.sql()))
        .collect();
    if present.is_empty() {
        return Vec::new();
    }
    let present = present.join(" UNION ALL ");
    vec![
        format!(
            "SELECT format('object %s is lost', object) FROM
             (SELECT object FROM kinds.seen EXCEPT (({present}) UNION ALL SELECT object_key FROM keepsake.outbox)) AS o"
        ),
        format!(
            "SELECT format('object %s of a row that is there waits in the outbox', object) FROM
             (({present}) INTERSECT SELECT object_key FROM keepsake.outbox) AS o"
        ),
    ]
}
