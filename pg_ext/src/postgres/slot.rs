//! What tuptable.h does to a slot inline: by the functions of its kind.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// Empties a slot (ExecClearTuple).
///
/// # Safety
/// The slot is a valid one.
pub unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: every kind of slot can be cleared.
    unsafe {
        if let Some(clear) = (*slot).tts_ops.as_ref().and_then(|ops| ops.clear) {
            pg_guard_ffi_boundary(|| clear(slot));
        }
    }
}

/// Makes the slot's row independent of where its values came from (ExecMaterializeSlot).
///
/// # Safety
/// The slot holds a row.
pub unsafe fn materialize(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: the slot holds a row.
    unsafe {
        if let Some(materialize) = (*slot).tts_ops.as_ref().and_then(|ops| ops.materialize) {
            pg_guard_ffi_boundary(|| materialize(slot));
        }
    }
}
