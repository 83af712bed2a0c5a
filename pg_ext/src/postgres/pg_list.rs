//! PostgreSQL's lists (`pg_list.h`), as its planner and executor hand them around.

use pgrx::pg_sys;

/// The pointers in a list of nodes; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of pointers to `T`, and stays so while its pointers are used.
pub unsafe fn pointers<T>(list: *mut pg_sys::List) -> impl DoubleEndedIterator<Item = *mut T> {
    // SAFETY: each cell is a pointer by the caller's promise.
    unsafe { cells(list).iter().map(|cell| cell.ptr_value.cast()) }
}

/// The numbers in a list of integers; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of integers, and stays so while they are used.
pub unsafe fn integers(list: *mut pg_sys::List) -> impl Iterator<Item = i32> {
    // SAFETY: each cell is an integer by the caller's promise.
    unsafe { cells(list).iter().map(|cell| cell.int_value) }
}

/// The OIDs in a list of them; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of OIDs, and stays so while they are used.
pub unsafe fn oids(list: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: each cell is an OID by the caller's promise.
    unsafe { cells(list).iter().map(|cell| cell.oid_value) }
}

unsafe fn cells<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: a list has `length` cells at `elements` (pg_list.h).
    unsafe {
        list.as_ref().map_or(&[], |list| {
            std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0))
        })
    }
}
