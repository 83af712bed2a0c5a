//! What PostgreSQL can do with the type of a column.

use std::ffi::CString;
use std::ptr::null_mut;

use pgrx::pg_sys;

/// Whether values of a column can be hashed, by the equality that UNION and DISTINCT use. A recursive UNION is refused without.
pub fn is_hashable(table: pg_sys::Oid, column: &str) -> bool {
    let Ok(name) = CString::new(column) else {
        return false;
    };
    // SAFETY: look-ups in the system's caches, which answer 0 where there is no such column; the name outlives the call. No operator is asked for, so none
    // that is missing raises an error.
    unsafe {
        let number = pg_sys::get_attnum(table, name.as_ptr());
        let type_oid = pg_sys::get_atttype(table, number);
        let mut hashable = false;
        if type_oid != pg_sys::InvalidOid {
            pg_sys::get_sort_group_operators(
                type_oid,
                false,
                false,
                false,
                null_mut(),
                null_mut(),
                null_mut(),
                &raw mut hashable,
            );
        }
        hashable
    }
}
