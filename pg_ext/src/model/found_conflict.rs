//! Conflicts while a restore still decides which rows they concern.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys;

use crate::model::conflict::Conflict;
use crate::model::row_id::RowId;

/// A conflict with the rows that it is about.
#[derive(Clone, Debug)]
pub struct Found {
    /// What there is to tell.
    pub conflict: Conflict,
    /// The table of the row that would come back, and its address.
    pub row: (pg_sys::Oid, RowId),
    /// The same of the holder, if there is one.
    pub holder: Option<(pg_sys::Oid, RowId)>,
    /// Whether the holder would come back too: then the first by key keeps the place.
    pub among_restored: bool,
}

/// Of pairs that come once from either side, in the order of the key: the side where the later row
/// is told of the earlier.
pub fn later_of_each(pairs: Vec<Found>) -> Vec<Found> {
    let mut order = HashMap::new();
    for pair in &pairs {
        let next = order.len();
        order.entry(pair.row).or_insert(next);
    }
    let place = |row: Option<(pg_sys::Oid, RowId)>| row.and_then(|row| order.get(&row).copied());
    pairs
        .into_iter()
        .filter(|pair| place(pair.holder) < place(Some(pair.row)))
        .map(|pair| Found {
            among_restored: true,
            ..pair
        })
        .collect()
}

/// The conflicts whose rows stay deleted. Those with rows outside the deletion come first: they may
/// settle others. Among the rows themselves the first by key keeps its place.
pub fn losers(found: Vec<Found>) -> Vec<Found> {
    let (among, outside): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|one| one.among_restored);
    if !outside.is_empty() {
        return outside;
    }
    let mut lost: HashSet<(pg_sys::Oid, RowId)> = HashSet::new();
    let mut losers = Vec::new();
    for one in among {
        if !one.holder.is_some_and(|holder| lost.contains(&holder)) {
            lost.insert(one.row);
            losers.push(one);
        }
    }
    losers
}
