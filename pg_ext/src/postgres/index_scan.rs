//! Scans of an index, whatever the release calls them with.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::postgres::unguarded::unguarded;

/// Begins to look for rows with these keys.
///
/// # Safety
/// `table` and `index`, which is one of its indexes, are open and locked until the scan has ended; the snapshot is one that outlives it; each key
/// is of a column of the index.
pub unsafe fn begin(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: &mut [pg_sys::ScanKeyData],
) -> pg_sys::IndexScanDesc {
    // SAFETY: as the caller promises.
    unsafe { pg_guard_ffi_boundary(|| begin_guarded(table, index, snapshot, keys)) }
}

/// The same under a guard of the caller's.
///
/// # Safety
/// As of `begin`; an error is caught by a guard of the caller's.
pub unsafe fn begin_guarded(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: &mut [pg_sys::ScanKeyData],
) -> pg_sys::IndexScanDesc {
    unguarded! {
        fn index_rescan(
            scan: pg_sys::IndexScanDesc,
            keys: pg_sys::ScanKey,
            key_count: i32,
            order_bys: pg_sys::ScanKey,
            order_by_count: i32,
        ) -> ();
    }
    let count = i32::try_from(keys.len()).unwrap_or(i32::MAX);
    // SAFETY: as the caller promises; the keys are copied.
    unsafe {
        let scan = begin_unset(table, index, snapshot, count);
        index_rescan(scan, keys.as_mut_ptr(), count, std::ptr::null_mut(), 0);
        scan
    }
}

#[cfg(not(any(feature = "pg18", feature = "pg19")))]
unsafe fn begin_unset(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    unguarded! {
        fn index_beginscan(
            table: pg_sys::Relation,
            index: pg_sys::Relation,
            snapshot: pg_sys::Snapshot,
            key_count: i32,
            order_by_count: i32,
        ) -> pg_sys::IndexScanDesc;
    }
    // SAFETY: as the caller of `begin` promises.
    unsafe { index_beginscan(table, index, snapshot, keys, 0) }
}

#[cfg(feature = "pg18")]
unsafe fn begin_unset(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    unguarded! {
        fn index_beginscan(
            table: pg_sys::Relation,
            index: pg_sys::Relation,
            snapshot: pg_sys::Snapshot,
            instrument: *mut pg_sys::IndexScanInstrumentation,
            key_count: i32,
            order_by_count: i32,
        ) -> pg_sys::IndexScanDesc;
    }
    // SAFETY: as the caller of `begin` promises.
    unsafe { index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0) }
}

#[cfg(feature = "pg19")]
unsafe fn begin_unset(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    let flags = pg_sys::ScanOptions::SO_NONE;
    unguarded! {
        fn index_beginscan(
            table: pg_sys::Relation,
            index: pg_sys::Relation,
            snapshot: pg_sys::Snapshot,
            instrument: *mut pg_sys::IndexScanInstrumentation,
            key_count: i32,
            order_by_count: i32,
            flags: u32,
        ) -> pg_sys::IndexScanDesc;
    }
    // SAFETY: as the caller of `begin` promises.
    unsafe { index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0, flags) }
}
