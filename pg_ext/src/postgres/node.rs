//! Nodes of PostgreSQL's, as the executor takes them.

use pgrx::pg_sys;

/// A node of PostgreSQL's, empty (makeNode in nodes.h), in the current memory.
///
/// # Safety
/// `T` is the type that PostgreSQL has under this tag.
pub unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: every node begins with its tag, and is valid when the rest of it is zero (makeNode in nodes.h).
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>());
        node.cast::<pg_sys::NodeTag>().write(tag);
        node.cast()
    }
}
