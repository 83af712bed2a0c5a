//! What stands in the way of a restore, found before anything is written: each row of the deletion
//! is judged as it would be when live.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiHeapTupleData;
use pgrx::{JsonB, Uuid, pg_sys};
use serde::Serialize;
use serde_json::Value;

use crate::error::Outcome;
use crate::graph::{Graph, Reference, Table};
use crate::held::Held;
use crate::session::Session;
use crate::sql::{Literal, join};

/// One reason why a deletion cannot be restored.
#[derive(Clone, Debug, Serialize)]
pub struct Conflict {
    /// `unique`, `exclusion` or `parent_deleted`.
    pub kind: &'static str,
    /// The table of the row that would come back.
    pub table: String,
    /// That row's key.
    pub key: Value,
    /// The index, exclusion constraint or reference that would be broken.
    pub constraint: String,
    /// The values that clash.
    pub values: Value,
    /// The key of the row that holds the place, or of the deleted parent; null where the caller
    /// may not see it.
    pub holder: Value,
}

impl Conflict {
    /// All of them as one JSON array.
    pub fn to_json(conflicts: &[Self]) -> Value {
        serde_json::to_value(conflicts).unwrap_or(Value::Null)
    }
}

/// Every conflict that restoring `deletion` would meet. `held` are its rows that stay deleted.
pub fn find_all(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    held: &Held,
) -> Outcome<Vec<Conflict>> {
    let mut conflicts = Vec::new();
    for table in tables.iter().flatten() {
        for constraint in live_constraints(session, table)? {
            let against_live = constraint.against_live(table);
            conflicts.extend(look(
                session,
                table,
                table,
                &constraint.name,
                constraint.kind(),
                &against_live,
                deletion,
                held,
            )?);
            let among_restored = constraint.among_restored(table);
            conflicts.extend(look(
                session,
                table,
                table,
                &constraint.name,
                constraint.kind(),
                &among_restored,
                deletion,
                held,
            )?);
        }
        for (reference, parent) in graph.references_of(table.oid) {
            if !reference.on_delete.detaches() {
                reference.check_readable(table, parent)?;
                let sql = under_deleted_parent(reference, table, parent);
                conflicts.extend(look(
                    session,
                    table,
                    parent,
                    &reference.name,
                    "parent_deleted",
                    &sql,
                    deletion,
                    held,
                )?);
            }
        }
    }
    Ok(conflicts)
}

/// Runs one search: its rows are (key, values, holder's key, holder's ctid).
#[expect(
    clippy::too_many_arguments,
    reason = "one call shape for the three kinds of search"
)]
fn look(
    session: &mut Session<'_, '_>,
    table: &Table,
    holders: &Table,
    constraint: &str,
    kind: &'static str,
    sql: &str,
    deletion: Uuid,
    held: &Held,
) -> Outcome<Vec<Conflict>> {
    let found: Vec<(Conflict, Option<pg_sys::ItemPointerData>)> = session
        .as_owner(table, sql, &[deletion.into(), held.rows_of(table.oid)])?
        .map(|row| read(&row, table, constraint, kind))
        .collect::<Outcome<_>>()?;
    found
        .into_iter()
        .map(|(mut conflict, ctid)| {
            if !may_see(session, holders, ctid)? {
                conflict.holder = Value::Null;
            }
            Ok(conflict)
        })
        .collect()
}

fn read(
    row: &SpiHeapTupleData<'_>,
    table: &Table,
    constraint: &str,
    kind: &'static str,
) -> Outcome<(Conflict, Option<pg_sys::ItemPointerData>)> {
    let json = |ordinal: usize| -> Outcome<Value> {
        Ok(row
            .get::<JsonB>(ordinal)?
            .map_or(Value::Null, |value| value.0))
    };
    let conflict = Conflict {
        kind,
        table: table.shown.clone(),
        key: json(1)?,
        constraint: constraint.to_owned(),
        values: json(2)?,
        holder: json(3)?,
    };
    Ok((conflict, row.get(4)?))
}

/// Whether the caller could read that row himself: privileges and policies decide.
fn may_see(
    session: &mut Session<'_, '_>,
    table: &Table,
    ctid: Option<pg_sys::ItemPointerData>,
) -> Outcome<bool> {
    let allowed = session.catalog(
        "SELECT has_table_privilege($1, 'SELECT')",
        &[table.oid.into()],
    )?;
    if allowed.first().get_one::<bool>()? != Some(true) {
        return Ok(false);
    }
    let sql = format!(
        "SELECT 1 FROM {} AS t WHERE t.ctid OPERATOR(pg_catalog.=) $1",
        table.rows()
    );
    let ctid = ctid.map_or_else(DatumWithOid::null::<pg_sys::ItemPointerData>, Into::into);
    Ok(!session.as_caller(&sql, &[ctid])?.is_empty())
}

/// A unique index or exclusion constraint that holds among live rows.
struct LiveConstraint {
    name: String,
    exclusion: bool,
    predicate: Option<String>,
    nulls_equal: bool,
    expressions: Vec<String>,
    operators: Vec<String>,
    collations: Vec<String>,
}

const LIVE_CONSTRAINTS: &str = include_str!("../sql/read_live_constraints.sql");

fn live_constraints(session: &Session<'_, '_>, table: &Table) -> Outcome<Vec<LiveConstraint>> {
    session
        .catalog(LIVE_CONSTRAINTS, &[table.oid.into()])?
        .map(|row| {
            Ok(LiveConstraint {
                name: row.get_by_name("name")?.unwrap_or_default(),
                exclusion: row.get_by_name("exclusion")?.unwrap_or(false),
                predicate: row.get_by_name("predicate")?,
                nulls_equal: row.get_by_name("nulls_equal")?.unwrap_or(false),
                expressions: row.get_by_name("expressions")?.unwrap_or_default(),
                operators: row.get_by_name("operators")?.unwrap_or_default(),
                collations: row.get_by_name("collations")?.unwrap_or_default(),
            })
        })
        .collect()
}

impl LiveConstraint {
    fn kind(&self) -> &'static str {
        if self.exclusion {
            "exclusion"
        } else {
            "unique"
        }
    }

    fn predicate(&self) -> &str {
        self.predicate.as_deref().unwrap_or("true")
    }

    /// The rows of the deletion as they would be live, with their key parts computed: a common
    /// table expression named `keepsake_restored`.
    fn restored(&self, table: &Table) -> String {
        let columns = table.columns.iter().map(|column| match column.0.as_str() {
            "deleted_at" => "NULL::timestamptz AS deleted_at".to_owned(),
            "deletion_id" => "NULL::uuid AS deletion_id".to_owned(),
            _ => format!("t.{column}"),
        });
        let parts = self
            .expressions
            .iter()
            .zip(1..)
            .map(|(expression, n)| format!("({expression}) AS keepsake_k{n}"));
        let values = self
            .expressions
            .iter()
            .map(|expression| format!("{}, ({expression})", Literal(expression)));
        format!(
            "WITH keepsake_restored AS MATERIALIZED (
                 SELECT h.keepsake_ctid, {key} AS keepsake_key, jsonb_build_object({values}) AS keepsake_values, {parts}
                 FROM (SELECT t.ctid AS keepsake_ctid, {columns} FROM {rows} AS t
                       WHERE t.deletion_id = $1 AND t.ctid <> ALL ($2)) AS h
                 WHERE {predicate})",
            key = table.key_json("h"),
            values = join(values, ", "),
            parts = join(parts, ", "),
            columns = join(columns, ", "),
            rows = table.rows(),
            predicate = self.predicate(),
        )
    }

    fn clash(&self, left: impl Fn(usize, &str) -> String, right: &str) -> String {
        let terms = self
            .expressions
            .iter()
            .zip(&self.operators)
            .zip(&self.collations)
            .zip(1..)
            .map(|(((expression, operator), collation), n)| {
                let left = left(n, expression);
                let right = format!("{right}.keepsake_k{n}");
                let equal = format!("{left}{collation} {operator} {right}");
                if self.nulls_equal {
                    format!("({equal} OR ({left} IS NULL AND {right} IS NULL))")
                } else {
                    equal
                }
            });
        join(terms, " AND ")
    }

    fn against_live(&self, table: &Table) -> String {
        let rows = table.rows();
        format!(
            "{restored}
             SELECT r.keepsake_key, r.keepsake_values, l.keepsake_key, l.keepsake_ctid
             FROM keepsake_restored AS r
             JOIN LATERAL (SELECT {key} AS keepsake_key, {relation}.ctid AS keepsake_ctid FROM {rows}
                           WHERE ({predicate}) AND {clash} AND {relation}.deletion_id IS DISTINCT FROM $1) AS l ON true
             ORDER BY r.keepsake_key, l.keepsake_key",
            restored = self.restored(table),
            key = table.key_json(&table.name.name.to_string()),
            relation = table.name.name,
            predicate = self.predicate(),
            clash = self.clash(|_, expression| format!("({expression})"), "r"),
        )
    }

    fn among_restored(&self, table: &Table) -> String {
        format!(
            "{restored}
             SELECT r.keepsake_key, r.keepsake_values, l.keepsake_key, l.keepsake_ctid
             FROM keepsake_restored AS r JOIN keepsake_restored AS l
               ON l.keepsake_ctid < r.keepsake_ctid AND {clash}
             ORDER BY r.keepsake_key, l.keepsake_key",
            restored = self.restored(table),
            clash = self.clash(|n, _| format!("l.keepsake_k{n}"), "r"),
        )
    }
}

/// Rows that would come back live under a parent that stays deleted.
fn under_deleted_parent(reference: &Reference, child: &Table, parent: &Table) -> String {
    let values = reference
        .child_columns()
        .into_iter()
        .map(|column| format!("{}, c.{column}", Literal(&column.0)));
    format!(
        "SELECT {child_key}, jsonb_build_object({values}), {parent_key}, p.ctid
         FROM {child} AS c JOIN {parent} AS p ON {joins}
         WHERE c.deletion_id = $1 AND c.ctid <> ALL ($2)
           AND p.deleted_at IS NOT NULL AND p.deletion_id IS DISTINCT FROM $1
         ORDER BY 1, 3",
        child_key = child.key_json("c"),
        values = join(values, ", "),
        parent_key = parent.key_json("p"),
        child = child.rows(),
        parent = parent.rows(),
        joins = reference.joins_by_parent_key("c", "p"),
    )
}
