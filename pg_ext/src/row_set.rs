//! Rows remembered from one statement to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgrx::itemptr::{item_pointer_get_both, item_pointer_to_u64, u64_to_item_pointer};
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::error::Outcome;

/// The address of a row version. In a partitioned table a ctid alone names a row of each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    relation: u32,
    place: u64,
}

impl RowId {
    /// Reads a `tableoid` and the `ctid` in the column after it; `None` when they are NULL.
    pub fn read(row: &SpiHeapTupleData<'_>, ordinal: usize) -> Outcome<Option<Self>> {
        let relation: Option<pg_sys::Oid> = row.get(ordinal)?;
        let place: Option<pg_sys::ItemPointerData> = row.get(ordinal + 1)?;
        Ok(relation.zip(place).map(|(relation, place)| Self {
            relation: relation.to_u32(),
            place: item_pointer_to_u64(place),
        }))
    }
}

/// The condition that row `alias` is one of `rows`. Addresses are written in as constants, whose
/// array PostgreSQL hashes: a join with them would be planned for the few rows that it expects of a
/// deletion it has no statistics of, and be quadratic.
pub fn is_among<'a>(rows: impl IntoIterator<Item = &'a RowId>, alias: &str) -> String {
    let mut relations: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in rows {
        let mut place = pg_sys::ItemPointerData::default();
        u64_to_item_pointer(row.place, &mut place);
        let (block, offset) = item_pointer_get_both(place);
        let places = relations.entry(row.relation).or_default();
        places.push(format!("\"({block},{offset})\""));
    }
    let terms: Vec<String> = relations
        .into_iter()
        .map(|(relation, places)| {
            format!(
                "({alias}.tableoid OPERATOR(pg_catalog.=) {relation}::pg_catalog.oid
                  AND {alias}.ctid OPERATOR(pg_catalog.=) ANY ('{{{places}}}'::pg_catalog.tid[]))",
                places = places.join(",")
            )
        })
        .collect();
    if terms.is_empty() {
        return "false".into();
    }
    format!("({})", terms.join(" OR "))
}

/// Rows of several managed tables.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    tables: HashMap<pg_sys::Oid, BTreeSet<RowId>>,
}

impl RowSet {
    /// Adds a row of `table`; false when it was there.
    pub fn insert(&mut self, table: pg_sys::Oid, row: RowId) -> bool {
        self.tables.entry(table).or_default().insert(row)
    }

    /// Whether the row is among them.
    pub fn contains(&self, table: pg_sys::Oid, row: RowId) -> bool {
        self.tables
            .get(&table)
            .is_some_and(|rows| rows.contains(&row))
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(BTreeSet::is_empty)
    }

    /// How many rows of `table`.
    pub fn count(&self, table: pg_sys::Oid) -> i64 {
        let count = self.tables.get(&table).map_or(0, BTreeSet::len);
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    /// The condition that row `alias` of `table` is one of them.
    pub fn among(&self, table: pg_sys::Oid, alias: &str) -> String {
        is_among(self.tables.get(&table).into_iter().flatten(), alias)
    }

    /// The condition that it is none of them, to follow another. Nothing when there is none, so
    /// that the usual plan stays simple.
    pub fn excluding(&self, table: pg_sys::Oid, alias: &str) -> String {
        if self.count(table) == 0 {
            return String::new();
        }
        format!(" AND {} IS NOT TRUE", self.among(table, alias))
    }
}
