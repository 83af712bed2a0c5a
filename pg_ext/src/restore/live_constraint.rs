//! Unique indexes and exclusion constraints that a deleted row can escape, and the queries that
//! find what a row coming back would clash with.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::graph::cache::{self, Kept};
use crate::model::error::Outcome;
use crate::model::row_set::RowSet;
use crate::model::sql::{Ident, Literal, join};
use crate::model::table::Table;
use crate::postgres::settings::one_plan;
use crate::restore_archived::index_entry::{IndexEntry, with_entry};
use crate::spi::session::Session;

/// One of them.
pub struct LiveConstraint {
    /// The name of the constraint, or of the index where there is none.
    pub name: String,
    /// Which entries clash.
    pub entry: IndexEntry,
    relation: pg_sys::Oid,
    predicate: Option<String>,
    /// Each column of the table, as it would be in a live row.
    columns: Vec<String>,
}

const LIVE_CONSTRAINTS: &str = include_str!("read_live_constraints.sql");
const GENERATED: &str = include_str!("read_generated_columns.sql");

/// Those of each table that was asked about.
type OfTables = HashMap<pg_sys::Oid, Rc<Vec<LiveConstraint>>>;

thread_local! {
    static KNOWN: Kept<pg_sys::Oid, Rc<Vec<LiveConstraint>>> = Kept::default();
}

/// Those of each of `tables`.
pub fn of_all(session: &Session<'_, '_>, tables: &[Vec<&Table>]) -> Outcome<OfTables> {
    let before = cache::changes();
    let (mut of_all, mut unknown) = (OfTables::new(), Vec::new());
    for table in tables.iter().flatten() {
        match KNOWN.with(|known| known.get(&table.oid)) {
            Some(known) => {
                of_all.insert(table.oid, known);
            }
            None => unknown.push(*table),
        }
    }
    if !unknown.is_empty() {
        let mut read = read(session, &unknown)?;
        for table in unknown {
            let of_table = Rc::new(read.remove(&table.oid).unwrap_or_default());
            KNOWN.with(|known| known.keep(before, [(table.oid, Rc::clone(&of_table))]));
            of_all.insert(table.oid, of_table);
        }
    }
    Ok(of_all)
}

/// As they are *now*: that is what a write meets, whatever an older snapshot shows, and what later transactions meet that find it kept.
fn read(
    session: &Session<'_, '_>,
    tables: &[&Table],
) -> Outcome<HashMap<pg_sys::Oid, Vec<LiveConstraint>>> {
    let asked: Vec<pg_sys::Oid> = tables.iter().map(|table| table.oid).collect();
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    let _plan = one_plan();
    for row in session.catalog_now(&with_entry(LIVE_CONSTRAINTS), &[asked.into()])? {
        let root = row.get_by_name("root")?.unwrap_or(pg_sys::InvalidOid);
        found.entry(root).or_default().push(LiveConstraint {
            name: row.get_by_name("name")?.unwrap_or_default(),
            relation: row.get_by_name("relation")?.unwrap_or(root),
            entry: IndexEntry::read(&row)?,
            predicate: row.get_by_name("predicate")?,
            columns: Vec::new(),
        });
    }
    for table in tables {
        if let Some(constraints) = found.get_mut(&table.oid) {
            let columns = columns_when_live(session, table)?;
            for constraint in constraints {
                constraint.columns.clone_from(&columns);
            }
        }
    }
    Ok(found)
}

/// A generated column may be computed from the marks, so it is computed anew from what the row
/// would be.
fn columns_when_live(session: &Session<'_, '_>, table: &Table) -> Outcome<Vec<String>> {
    let generated: Vec<(Ident, String)> = session
        .catalog_now(GENERATED, &[table.oid.into()])?
        .into_iter()
        .map(|row| {
            let text = |name: &str| -> Outcome<String> {
                Ok(row.get_by_name::<String, _>(name)?.unwrap_or_default())
            };
            let computed = format!("(({})::{})", text("expression")?, text("type")?);
            Ok((Ident(text("name")?), computed))
        })
        .collect::<Outcome<_>>()?;
    let column = |column: &Ident| {
        let computed = generated.iter().find(|(name, _)| name == column);
        computed.map_or_else(
            || column.to_string(),
            |(_, computed)| format!("{computed} AS {column}"),
        )
    };
    Ok(table.columns.iter().map(column).collect())
}

impl LiveConstraint {
    /// What every search answers: the row's `tableoid` and `ctid`, its key and the values that
    /// clash, the holder's key, `tableoid` and `ctid`. Only what clashes is made jsonb.
    fn found(&self, table: &Table, holder_key: &str) -> String {
        let key =
            table.key.iter().zip(1..).map(|(column, n)| {
                format!("{}, keepsake_r.keepsake_o{n}", Literal(&column.name.0))
            });
        format!(
            "keepsake_r.keepsake_relation, keepsake_r.keepsake_ctid, pg_catalog.jsonb_build_object({key}),
             pg_catalog.jsonb_build_object({values}), {holder_key} AS keepsake_holder,
             keepsake_l.keepsake_relation, keepsake_l.keepsake_ctid",
            key = join(key, ", "),
            values = self.entry.values(),
        )
    }

    /// The condition under which row `alias` has an entry in the index. Column names are bare: the
    /// catalog prints them so.
    fn is_entered(&self, table: &Table, alias: &str) -> String {
        let predicate = self.predicate.as_deref().unwrap_or("true");
        if self.relation == table.oid {
            format!("({predicate})")
        } else {
            let relation = self.relation.to_u32();
            format!("({predicate}) AND {alias} OPERATOR(pg_catalog.=) {relation}::pg_catalog.oid")
        }
    }

    /// The rows of the deletion (`$1`) that would come back, as they would be live, with their key
    /// parts computed: a common table expression named `keepsake_restored`. `stays` stay deleted. OFFSET has them found by their deletion,
    /// where the planner knows nothing better of it than of the index's condition.
    fn restored(&self, table: &Table, stays: &RowSet) -> String {
        let when_marked = table.columns.iter().map(|column| match column.0.as_str() {
            "deleted_at" => "NULL::pg_catalog.timestamptz AS deleted_at".to_owned(),
            "deletion_id" => "NULL::pg_catalog.uuid AS deletion_id".to_owned(),
            _ => format!("t.{column}"),
        });
        let order = table
            .key
            .iter()
            .zip(1..)
            .map(|(column, n)| format!("h.{} AS keepsake_o{n}", column.name));
        format!(
            "WITH keepsake_restored AS MATERIALIZED (
                 SELECT h.keepsake_relation, h.keepsake_ctid, {order}, {parts}
                 FROM (SELECT m.keepsake_relation, m.keepsake_ctid, {when_live}
                       FROM (SELECT t.tableoid AS keepsake_relation, t.ctid AS keepsake_ctid, {when_marked}
                             FROM {rows} AS t
                             WHERE t.deletion_id OPERATOR(pg_catalog.=) $1{stays} OFFSET 0) AS m) AS h
                 WHERE {entered})",
            order = join(order, ", "),
            parts = self.entry.parts(),
            when_live = join(&self.columns, ", "),
            when_marked = join(when_marked, ", "),
            rows = table.rows(),
            stays = stays.excluding(table.oid, "t"),
            entered = self.is_entered(table, "h.keepsake_relation"),
        )
    }

    /// Clashes with rows outside the deletion: live ones, and, where the index covers them, deleted
    /// ones.
    pub fn against_others(&self, table: &Table, stays: &RowSet) -> String {
        let alias = &table.name.name;
        format!(
            "{restored}
             SELECT {found}
             FROM keepsake_restored AS keepsake_r
             JOIN LATERAL (SELECT {key} AS keepsake_key, {alias}.tableoid AS keepsake_relation, {alias}.ctid AS keepsake_ctid
                           FROM {rows} AS {alias}
                           WHERE {entered} AND {clash} AND {alias}.deletion_id IS DISTINCT FROM $1) AS keepsake_l ON true
             ORDER BY {order}, keepsake_holder",
            restored = self.restored(table, stays),
            found = self.found(table, "keepsake_l.keepsake_key"),
            key = table.key_json(&alias.to_string()),
            rows = table.rows(),
            entered = self.is_entered(table, &format!("{alias}.tableoid")),
            clash = self.entry.clash(|_, expression| format!("({expression})")),
            order = by_key(table),
        )
    }

    /// Clashes among the rows that would come back: each pair twice, once from either side, in the
    /// order of the key of `keepsake_r`.
    pub fn among_restored(&self, table: &Table, stays: &RowSet) -> String {
        let holder_key =
            table.key.iter().zip(1..).map(|(column, n)| {
                format!("{}, keepsake_l.keepsake_o{n}", Literal(&column.name.0))
            });
        let holder_key = format!("pg_catalog.jsonb_build_object({})", join(holder_key, ", "));
        format!(
            "{restored}
             SELECT {found}
             FROM {candidates} AS keepsake_r JOIN {candidates} AS keepsake_l
               ON {clash} AND (keepsake_l.keepsake_ctid OPERATOR(pg_catalog.<>) keepsake_r.keepsake_ctid
                               OR keepsake_l.keepsake_relation OPERATOR(pg_catalog.<>) keepsake_r.keepsake_relation)
             ORDER BY {order}, keepsake_holder",
            restored = self.restored(table, stays),
            found = self.found(table, &holder_key),
            candidates = self.entry.candidates(),
            clash = self.entry.clash(|n, _| format!("keepsake_l.keepsake_k{n}")),
            order = by_key(table),
        )
    }
}

fn by_key(table: &Table) -> String {
    join(
        (1..=table.key.len()).map(|n| format!("keepsake_r.keepsake_o{n}")),
        ", ",
    )
}
