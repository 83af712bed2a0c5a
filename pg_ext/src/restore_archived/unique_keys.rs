//! Clashes of archived rows under unique indexes and exclusion constraints, with live rows and among themselves.

use pgrx::spi::SpiHeapTupleData;

use crate::graph::catalog::field;
use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::{Found, later_of_each};
use crate::model::row_id::RowId;
use crate::model::sql::{Literal, join};
use crate::restore_archived::archived_rows::{Archived, Rows, read_json};
use crate::restore_archived::index_entry::IndexEntry;
use crate::spi::session::Session;

/// A unique index or an exclusion constraint: a place that one row can hold.
#[derive(Debug)]
pub struct Place {
    name: String,
    entry: IndexEntry,
    predicate: String,
}

impl Place {
    /// Reads one of `read_unique.sql`.
    pub fn read(row: &SpiHeapTupleData<'_>) -> Outcome<Self> {
        let predicate: String = field(row, "predicate")?;
        Ok(Self {
            name: field(row, "name")?,
            entry: IndexEntry::read(row)?,
            predicate: if predicate.is_empty() {
                "true".into()
            } else {
                predicate
            },
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
        format!(
            "WITH keepsake_restored AS MATERIALIZED (
                 SELECT keepsake_relation, keepsake_ctid{key}, {parts} FROM {whole} WHERE {predicate})",
            key = join(key, ""),
            parts = self.entry.parts(),
            whole = one.whole(rows),
            predicate = self.predicate,
        )
    }

    fn found(&self, one: &Archived, holder: &str) -> String {
        format!(
            "SELECT keepsake_r.keepsake_relation, keepsake_r.keepsake_ctid, {key}, pg_catalog.jsonb_build_object({values}),
                    {holder} AS keepsake_holder, keepsake_l.keepsake_relation, keepsake_l.keepsake_ctid",
            key = computed_key(one, "keepsake_r"),
            values = self.entry.values(),
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
            clash = self.entry.clash(|_, expression| format!("({expression})")),
        )
    }

    /// Pairs of restored rows, each from either side.
    fn among_restored(&self, one: &Archived) -> String {
        format!(
            "{found} FROM {candidates} AS keepsake_r JOIN {candidates} AS keepsake_l
               ON {clash} AND (keepsake_l.keepsake_ctid OPERATOR(pg_catalog.<>) keepsake_r.keepsake_ctid
                               OR keepsake_l.keepsake_relation OPERATOR(pg_catalog.<>) keepsake_r.keepsake_relation)
             ORDER BY 3, keepsake_holder",
            candidates = self.entry.candidates(),
            found = self.found(one, &computed_key(one, "keepsake_l")),
            clash = self.entry.clash(|n, _| format!("keepsake_l.keepsake_k{n}")),
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
                    kind: self.entry.kind(),
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
