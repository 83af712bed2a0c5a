//! Clashes of archived rows under unique indexes and exclusion constraints, with live rows and among themselves.

use pgrx::spi::SpiHeapTupleData;

use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::{Found, later_of_each};
use crate::model::row_id::RowId;
use crate::model::sql::{Literal, join};
use crate::restore_archived::archived_rows::{Archived, Rows, field, read_json};
use crate::spi::session::Session;

/// A unique index or an exclusion constraint: a place that one row can hold.
#[derive(Debug)]
pub struct Place {
    name: String,
    exclusion: bool,
    predicate: String,
    nulls_equal: bool,
    expressions: Vec<String>,
    operators: Vec<String>,
    collations: Vec<String>,
}

impl Place {
    /// Reads one of `read_unique.sql`.
    pub fn read(row: &SpiHeapTupleData<'_>) -> Outcome<Self> {
        let predicate: String = field(row, "predicate")?;
        Ok(Self {
            name: field(row, "name")?,
            exclusion: field(row, "exclusion")?,
            predicate: if predicate.is_empty() {
                "true".into()
            } else {
                predicate
            },
            nulls_equal: field(row, "nulls_equal")?,
            expressions: field(row, "expressions")?,
            operators: field(row, "operators")?,
            collations: field(row, "collations")?,
        })
    }

    /// Adds the rows that clash.
    pub fn search(
        &self,
        session: &mut Session<'_, '_>,
        one: &Archived,
        rows: &Rows,
        found: &mut Vec<Found>,
    ) -> Outcome<()> {
        let others = format!("{} {}", self.restored(one, rows), self.against_live(one));
        let others = self.look(session, one, &others)?;
        found.extend(others.into_iter().map(|mut pair| {
            pair.among_restored = false;
            pair
        }));
        let among = format!("{} {}", self.restored(one, rows), self.among_restored(one));
        let among = self.look(session, one, &among)?;
        found.extend(later_of_each(among));
        Ok(())
    }

    /// The rows that would have an entry in the index, with its columns computed.
    fn restored(&self, one: &Archived, rows: &Rows) -> String {
        let key = one.table.key.iter().zip(1..);
        let key = key.map(|(column, n)| format!(", {} AS keepsake_o{n}", column.name));
        let parts = self.expressions.iter().zip(1..);
        let parts = parts.map(|(expression, n)| format!(", ({expression}) AS keepsake_k{n}"));
        format!(
            "WITH keepsake_restored AS MATERIALIZED (
                 SELECT keepsake_relation, keepsake_ctid{key}{parts} FROM {whole} WHERE {predicate})",
            key = join(key, ""),
            parts = join(parts, ""),
            whole = one.whole(rows),
            predicate = self.predicate,
        )
    }

    fn clash(&self, left: impl Fn(usize, &str) -> String) -> String {
        let terms = self
            .expressions
            .iter()
            .zip(&self.operators)
            .zip(&self.collations)
            .zip(1..);
        let terms = terms.map(|(((expression, operator), collation), n)| {
            let left = left(n, expression);
            let equal = format!("{left}{collation} {operator} keepsake_r.keepsake_k{n}");
            if self.nulls_equal {
                format!("({equal} OR ({left} IS NULL AND keepsake_r.keepsake_k{n} IS NULL))")
            } else {
                equal
            }
        });
        join(terms, " AND ")
    }

    fn found(&self, one: &Archived, holder: &str) -> String {
        let values = self.expressions.iter().zip(1..);
        let values = values
            .map(|(expression, n)| format!("{}, keepsake_r.keepsake_k{n}", Literal(expression)));
        format!(
            "SELECT keepsake_r.keepsake_relation, keepsake_r.keepsake_ctid, {key}, pg_catalog.jsonb_build_object({values}),
                    {holder} AS keepsake_holder, keepsake_l.keepsake_relation, keepsake_l.keepsake_ctid",
            key = computed_key(one, "keepsake_r"),
            values = join(values, ", "),
        )
    }

    fn against_live(&self, one: &Archived) -> String {
        let alias = &one.table.name.name;
        format!(
            "{found} FROM keepsake_restored AS keepsake_r
             JOIN LATERAL (SELECT {key} AS keepsake_key, {alias}.tableoid AS keepsake_relation, {alias}.ctid AS keepsake_ctid
                           FROM {rows} AS {alias} WHERE ({predicate}) AND {clash}) AS keepsake_l ON true
             ORDER BY 3, keepsake_holder",
            found = self.found(one, "keepsake_l.keepsake_key"),
            key = one.key_json(&alias.to_string()),
            rows = one.table.rows(),
            predicate = self.predicate,
            clash = self.clash(|_, expression| format!("({expression})")),
        )
    }

    /// Pairs of restored rows, each from either side. Of a unique index only keys that come twice are looked at.
    fn among_restored(&self, one: &Archived) -> String {
        let candidates = if self.exclusion {
            "keepsake_restored".to_owned()
        } else {
            let parts = || self.collations.iter().zip(1..);
            let key = parts().map(|(collation, n)| format!("a.keepsake_k{n}{collation}"));
            let set = parts().map(|(_, n)| format!("a.keepsake_k{n} IS NOT NULL"));
            format!(
                "(SELECT n.* FROM (SELECT a.*, pg_catalog.count(*) OVER (PARTITION BY {key}) AS keepsake_n
                                   FROM keepsake_restored AS a WHERE {set}) AS n WHERE n.keepsake_n OPERATOR(pg_catalog.>) 1)",
                key = join(key, ", "),
                set = if self.nulls_equal { "true".into() } else { join(set, " AND ") },
            )
        };
        format!(
            "{found} FROM {candidates} AS keepsake_r JOIN {candidates} AS keepsake_l
               ON {clash} AND (keepsake_l.keepsake_ctid OPERATOR(pg_catalog.<>) keepsake_r.keepsake_ctid
                               OR keepsake_l.keepsake_relation OPERATOR(pg_catalog.<>) keepsake_r.keepsake_relation)
             ORDER BY 3, keepsake_holder",
            found = self.found(one, &computed_key(one, "keepsake_l")),
            clash = self.clash(|n, _| format!("keepsake_l.keepsake_k{n}")),
        )
    }

    fn look(
        &self,
        session: &mut Session<'_, '_>,
        one: &Archived,
        sql: &str,
    ) -> Outcome<Vec<Found>> {
        let mut found = Vec::new();
        for row in session.over_archives(&one.table, sql, &[])? {
            let Some(place) = RowId::read(&row, 1)? else {
                continue;
            };
            found.push(Found {
                conflict: Conflict {
                    kind: if self.exclusion {
                        "exclusion"
                    } else {
                        "unique"
                    },
                    table: one.table.shown.clone(),
                    key: read_json(&row, 3)?,
                    constraint: Some(self.name.clone()),
                    values: read_json(&row, 4)?,
                    holder: read_json(&row, 5)?,
                    deletion_id: None,
                },
                row: (one.table.oid, place),
                holder: RowId::read(&row, 6)?.map(|holder| (one.table.oid, holder)),
                among_restored: true,
            });
        }
        Ok(found)
    }
}

/// The key of a row whose key columns are `keepsake_o1` and so on.
fn computed_key(one: &Archived, alias: &str) -> String {
    if one.table.key.is_empty() {
        return "NULL::pg_catalog.jsonb".into();
    }
    let key = one.table.key.iter().zip(1..);
    let key = key.map(|(column, n)| format!("{}, {alias}.keepsake_o{n}", Literal(&column.name.0)));
    format!("pg_catalog.jsonb_build_object({})", join(key, ", "))
}
