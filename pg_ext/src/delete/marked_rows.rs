//! Finds the only row that a deletion has marked, through the index, without a query: a DELETE of one row waits for it.

use pgrx::{Uuid, pg_sys};

use crate::archive::key::Key;
use crate::call::trigger_row::Row;
use crate::model::table::Table;
use crate::postgres::index_scan;
use crate::postgres::pg_list::oids;

/// As the statement that marked the row has locked table and index.
const WRITTEN: pg_sys::LOCKMODE = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
const KEEP_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// Types of keys that are read here: PostgreSQL's own, which print the same by any way.
const TYPES: [pg_sys::Oid; 7] = [
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::BOOLOID,
    pg_sys::UUIDOID,
    pg_sys::TEXTOID,
    pg_sys::VARCHAROID,
];

/// The key, a jsonb in the current memory, of the row that this transaction has marked with the deletion. `None` where it has marked none or several,
/// and where that is not for this way to say.
pub fn only_key(table: &Table, deletion: Uuid) -> Option<pg_sys::Datum> {
    let is_known = |type_oid: pg_sys::Oid, declared: pg_sys::Oid| {
        type_oid == declared && TYPES.contains(&type_oid)
    };
    let index = table.deletion_index?;
    let is_plain = !table.partitioned
        && table
            .key
            .iter()
            .all(|column| is_known(column.type_oid, column.declared_type));
    if !is_plain {
        return None;
    }
    // SAFETY: the table is locked since the statement that marked its rows began, and so an index that it has now stays; the row that the scan gives is
    // good until the slot is dropped. An error closes all of it with the transaction's resources.
    unsafe {
        let relation = pg_sys::try_table_open(table.oid, WRITTEN);
        if relation.is_null() {
            return None;
        }
        // It may have been dropped before the table was locked.
        if !oids(pg_sys::RelationGetIndexList(relation)).any(|one| one == index) {
            pg_sys::table_close(relation, KEEP_LOCK);
            return None;
        }
        pg_sys::CommandCounterIncrement();
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let index = pg_sys::index_open(index, WRITTEN);
        let id = *deletion.as_bytes();
        let mut condition = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &raw mut condition,
            1,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_UUID_EQ),
            pg_sys::Datum::from(id.as_ptr()),
        );
        let keys = std::slice::from_mut(&mut condition);
        let scan = index_scan::begin(relation, index, snapshot, keys);
        let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
        let next =
            || pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot);
        let key = if next() {
            let mut is_copy = false;
            let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &raw mut is_copy);
            Row::of_relation(&*relation, tuple).and_then(|row| key_of(table, row))
        } else {
            None
        };
        let key = if key.is_some() && next() { None } else { key };
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_endscan(scan);
        pg_sys::index_close(index, KEEP_LOCK);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(relation, KEEP_LOCK);
        key
    }
}

fn key_of(table: &Table, row: Row<'_>) -> Option<pg_sys::Datum> {
    let columns = table.key.iter().map(|column| {
        let (number, type_oid) = row.column(&column.name.0)?;
        let value = row.value_of((number, column.type_oid))??;
        Some((column.name.0.as_str(), type_oid, value))
    });
    Key::of_values(columns)?.jsonb()
}
