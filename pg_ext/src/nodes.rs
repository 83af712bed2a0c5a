//! Lists of PostgreSQL's nodes, as its planner and executor hand them around.

use pgrx::pg_sys;

/// The pointers in a list of nodes; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of pointers to `T`, and stays so while its pointers are used.
pub unsafe fn pointers<T>(list: *mut pg_sys::List) -> impl DoubleEndedIterator<Item = *mut T> {
    // SAFETY: a list has `length` cells at `elements` (pg_list.h), each a pointer by the caller's
    // promise.
    let cells: &[pg_sys::ListCell] = unsafe {
        match list.as_ref() {
            None => &[],
            Some(list) => {
                std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0))
            }
        }
    };
    // SAFETY: as above.
    cells.iter().map(|cell| unsafe { cell.ptr_value.cast() })
}
