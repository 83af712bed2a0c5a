//! Rows remembered from one statement to the next.

use std::collections::{BTreeSet, HashMap};

use pgrx::datum::DatumWithOid;
use pgrx::itemptr::{item_pointer_to_u64, u64_to_item_pointer};
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

/// The rows as two arguments, `oid[]` and `tid[]`, that run side by side.
pub fn arrays<'a>(rows: impl IntoIterator<Item = &'a RowId>) -> [DatumWithOid<'static>; 2] {
    let (relations, places): (Vec<pg_sys::Oid>, Vec<pg_sys::ItemPointerData>) = rows
        .into_iter()
        .map(|row| {
            let mut place = pg_sys::ItemPointerData::default();
            u64_to_item_pointer(row.place, &mut place);
            (pg_sys::Oid::from(row.relation), place)
        })
        .unzip();
    [relations.into(), places.into()]
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

    /// The rows of `table` as the arguments that `excluding` and `including` name.
    pub fn arrays(&self, table: pg_sys::Oid) -> [DatumWithOid<'static>; 2] {
        arrays(self.tables.get(&table).into_iter().flatten())
    }

    /// The condition that row `alias` of `table` is none of them, to follow another; its arguments
    /// are `$first` and the next. Nothing when there is none, so that the usual plan stays simple.
    pub fn excluding(&self, table: pg_sys::Oid, alias: &str, first: usize) -> String {
        if self.count(table) == 0 {
            return String::new();
        }
        format!(" AND NOT {}", is_among(alias, first))
    }

    /// The condition that row `alias` of `table` is one of them, as an alternative to another.
    pub fn including(&self, table: pg_sys::Oid, alias: &str, first: usize) -> String {
        if self.count(table) == 0 {
            return String::new();
        }
        format!(" OR {}", is_among(alias, first))
    }
}

fn is_among(alias: &str, first: usize) -> String {
    format!(
        "EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(${first}), pg_catalog.unnest(${next})) AS among (relation, place)
                 WHERE among.relation OPERATOR(pg_catalog.=) {alias}.tableoid AND among.place OPERATOR(pg_catalog.=) {alias}.ctid)",
        next = first + 1
    )
}
