//! Where a row version is: its table or partition, and its address (ctid) there. Good until this
//! transaction changes the row, while it holds a lock on it.

use std::collections::BTreeMap;

use pgrx::datum::DatumWithOid;
use pgrx::itemptr::{item_pointer_get_both, item_pointer_to_u64, u64_to_item_pointer};
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiTupleTable};

use crate::model::error::Outcome;

/// `(tableoid, ctid)`: in a partitioned table a ctid alone names a row of each partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    relation: u32,
    place: u64,
}

impl RowId {
    /// The row version at `place` in a table or partition.
    pub fn new(relation: pg_sys::Oid, place: pg_sys::ItemPointerData) -> Self {
        Self {
            relation: relation.to_u32(),
            place: item_pointer_to_u64(place),
        }
    }

    /// Reads a `tableoid` and the `ctid` in the column after it; `None` when they are NULL.
    pub fn read(row: &SpiHeapTupleData<'_>, ordinal: usize) -> Outcome<Option<Self>> {
        let relation: Option<pg_sys::Oid> = row.get(ordinal)?;
        let place: Option<pg_sys::ItemPointerData> = row.get(ordinal + 1)?;
        Ok(relation
            .zip(place)
            .map(|(relation, place)| Self::new(relation, place)))
    }

    /// Reads rows whose first two columns are `tableoid` and `ctid`.
    pub fn read_all(rows: SpiTupleTable<'_>) -> Outcome<Vec<Self>> {
        rows.filter_map(|row| Self::read(&row, 1).transpose())
            .collect()
    }

    /// The table or partition.
    pub fn relation(self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.relation)
    }

    /// The `ctid`.
    pub fn place(self) -> pg_sys::ItemPointerData {
        let mut place = pg_sys::ItemPointerData::default();
        u64_to_item_pointer(self.place, &mut place);
        place
    }
}

/// The rows as two parallel arguments, `oid[]` and `tid[]`.
pub fn as_arguments(rows: &[RowId]) -> [DatumWithOid<'static>; 2] {
    let relations: Vec<pg_sys::Oid> = rows.iter().map(|row| row.relation()).collect();
    let places: Vec<pg_sys::ItemPointerData> = rows.iter().map(|row| row.place()).collect();
    [relations.into(), places.into()]
}

/// The condition that row `alias` is one of `rows`. Addresses are written in as constants, whose
/// array PostgreSQL hashes: a join with them would be planned for the few rows that it expects of a
/// deletion it has no statistics of, and be quadratic.
pub fn is_among<'a>(rows: impl IntoIterator<Item = &'a RowId>, alias: &str) -> String {
    let mut relations: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in rows {
        let (block, offset) = item_pointer_get_both(row.place());
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
