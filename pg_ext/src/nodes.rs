//! Lists of PostgreSQL's nodes and triggers, as its planner and executor hand them around.

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

unsafe fn cells<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: a list has `length` cells at `elements` (pg_list.h).
    unsafe {
        list.as_ref().map_or(&[], |list| {
            std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0))
        })
    }
}

/// The triggers of a table.
///
/// # Safety
/// The relation is open, and stays so while they are used.
pub unsafe fn triggers<'a>(relation: pg_sys::Relation) -> &'a [pg_sys::Trigger] {
    // SAFETY: a trigger description, if there is one, has that many triggers, and stays while the
    // relation is open.
    unsafe {
        (*relation).trigdesc.as_ref().map_or(&[], |description| {
            let count = usize::try_from(description.numtriggers).unwrap_or(0);
            std::slice::from_raw_parts(description.triggers, count)
        })
    }
}
