//! The ids of deletions, and the group that those of one transaction form.

use std::cell::Cell;

use pgrx::{Uuid, pg_sys};

thread_local! {
    /// The first deletion of this transaction, and the subtransaction that made it.
    static FIRST: Cell<Option<(pg_sys::SubTransactionId, Uuid)>> = const { Cell::new(None) };
}

/// The id of a deletion to be: in the order of time.
pub fn new_deletion() -> Uuid {
    Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// The group of a deletion that this transaction makes: the id of its first one.
pub fn group_of(deletion: Uuid) -> Uuid {
    match FIRST.get() {
        Some((_, first)) => first,
        None => {
            // SAFETY: reads a backend-local variable.
            let current = unsafe { pg_sys::GetCurrentSubTransactionId() };
            FIRST.set(Some((current, deletion)));
            deletion
        }
    }
}

/// Follows transactions. Once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, with functions that live as long as the backend.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    if matches!(
        event,
        pg_sys::XactEvent::XACT_EVENT_COMMIT
            | pg_sys::XactEvent::XACT_EVENT_ABORT
            | pg_sys::XactEvent::XACT_EVENT_PREPARE
    ) {
        FIRST.set(None);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    let Some((_, first)) = FIRST
        .get()
        .filter(|(made_in, _)| *made_in >= subtransaction)
    else {
        return;
    };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => FIRST.set(None),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => FIRST.set(Some((parent, first))),
        _ => {}
    }
}
