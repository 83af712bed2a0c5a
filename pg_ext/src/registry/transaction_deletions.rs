//! The deletions that this transaction has made so far: they form a group, and what one of them removed beneath a row goes over to the
//! deletion of that row.

use std::cell::RefCell;

use pgrx::{Uuid, pg_sys};

struct Made {
    deletion: Uuid,
    how: How,
    subtransaction: pg_sys::SubTransactionId,
    /// The tables that it has rows of, once it is carried out.
    tables: Vec<pg_sys::Oid>,
}

/// How a deletion was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By `keepsake.soft_delete()`: whoever called it knows its id, and it stays a deletion of its own.
    Call,
    /// By a plain statement.
    Statement,
}

thread_local! {
    static MADE: RefCell<Vec<Made>> = const { RefCell::new(Vec::new()) };
}

/// Forgets what a transaction or subtransaction made when it ends or is undone. Once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, with functions that live as long as the backend.
    unsafe {
        pg_sys::RegisterXactCallback(Some(forget_all), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(forget_undone), std::ptr::null_mut());
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(
    _event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    MADE.with_borrow_mut(Vec::clear);
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_undone(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        MADE.with_borrow_mut(|made| made.retain(|one| one.subtransaction < subtransaction));
    }
}

/// The group of a deletion that this transaction makes: the id of its first one.
pub fn group_of(deletion: Uuid, how: How) -> Uuid {
    // SAFETY: reads a backend-local variable.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    MADE.with_borrow_mut(|made| {
        made.push(Made {
            deletion,
            how,
            subtransaction,
            tables: Vec::new(),
        });
        made.first().map_or(deletion, |first| first.deletion)
    })
}

/// Notes that a deletion is carried out, and the tables that it has rows of.
pub fn carried_out(deletion: Uuid, tables: impl IntoIterator<Item = pg_sys::Oid>) {
    MADE.with_borrow_mut(|made| {
        if let Some(one) = made.iter_mut().find(|one| one.deletion == deletion) {
            one.tables = tables.into_iter().collect();
        }
    });
}

/// The other deletions that plain statements of this transaction made, that are carried out and have rows of `table`.
pub fn others_of(deletion: Uuid, table: pg_sys::Oid) -> Vec<Uuid> {
    MADE.with_borrow(|made| {
        let others = made.iter().filter(|one| {
            one.deletion != deletion && one.how == How::Statement && one.tables.contains(&table)
        });
        others.map(|one| one.deletion).collect()
    })
}
