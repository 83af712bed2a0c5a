//! The deletions of one transaction: they form a group, and what one of them removed beneath a row goes over to the deletion of
//! that row.

use std::cell::RefCell;

use pgrx::{Uuid, pg_sys};

struct Made {
    deletion: Uuid,
    how: How,
    subtransaction: pg_sys::SubTransactionId,
    /// The managed tables that it has rows of in place, once it is carried out.
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
    /// Those of this transaction, in the order in which they began.
    static MADE: RefCell<Vec<Made>> = const { RefCell::new(Vec::new()) };
    /// Those of which statements that still run have marked rows.
    static BEGUN: RefCell<Vec<Uuid>> = const { RefCell::new(Vec::new()) };
}

/// The id of a deletion to be: in the order of time.
pub fn new_deletion() -> Uuid {
    let deletion = Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes());
    BEGUN.with_borrow_mut(|begun| begun.push(deletion));
    deletion
}

/// The deletions that are not entered in the registry yet: what refers to their rows is looked at when they are.
pub fn begun() -> Vec<Uuid> {
    BEGUN.with_borrow(Clone::clone)
}

/// The group of a deletion that this transaction makes: the id of its first one.
pub fn group_of(deletion: Uuid, how: How) -> Uuid {
    // SAFETY: reads a backend-local variable.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    BEGUN.with_borrow_mut(|begun| begun.retain(|one| *one != deletion));
    MADE.with_borrow_mut(|made| {
        if made.last().is_none_or(|last| last.deletion != deletion) {
            made.push(Made {
                deletion,
                how,
                subtransaction,
                tables: Vec::new(),
            });
        }
        made.first().map_or(deletion, |first| first.deletion)
    })
}

/// Notes that a deletion is carried out, and the managed tables that it has rows of in place.
pub fn carried_out(deletion: Uuid, tables: impl IntoIterator<Item = pg_sys::Oid>) {
    MADE.with_borrow_mut(|made| {
        let mut latest_first = made.iter_mut().rev();
        if let Some(one) = latest_first.find(|one| one.deletion == deletion) {
            one.tables.extend(tables);
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
        MADE.with_borrow_mut(Vec::clear);
        BEGUN.with_borrow_mut(Vec::clear);
    }
}

/// What began in an aborted subtransaction, or in one within it, was not made: those have higher numbers.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        MADE.with_borrow_mut(|made| made.retain(|one| one.subtransaction < subtransaction));
    }
}
