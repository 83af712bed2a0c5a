//! Where the rows are that the checks of foreign keys have just locked: a check finds the referred row through its index, and who looks at
//! that row next need not.
//!
//! It is no more than a place to look first: whoever looks there compares the key. A place is good within the subtransaction that locked the
//! row, which keeps its page, and until a relation changes, as when it is truncated.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::graph::cache;
use crate::model::oid_map::OidMap;
use crate::postgres::unguarded::unguarded;

/// How many tables there are places of, at most.
const MOST: usize = 64;

/// When a place is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    transaction: u64,
    subtransaction: pg_sys::SubTransactionId,
    changes: u64,
}

impl Moment {
    /// This one; `None` before the transaction has written anything.
    fn current() -> Option<Self> {
        unguarded! {
            fn GetTopFullTransactionIdIfAny() -> pg_sys::FullTransactionId;
            fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
        }
        // SAFETY: both read backend-local variables, and raise no error.
        let (transaction, subtransaction) = unsafe {
            (
                GetTopFullTransactionIdIfAny().value,
                GetCurrentSubTransactionId(),
            )
        };
        (transaction != 0).then(|| Self {
            transaction,
            subtransaction,
            changes: cache::changes(),
        })
    }
}

thread_local! {
    static LAST: RefCell<OidMap<(Moment, pg_sys::ItemPointerData)>> = RefCell::default();
}

/// Notes which row a query of one table, which has just run, has locked last against a change of its key.
pub fn note(query: &pg_sys::QueryDesc) {
    // SAFETY: the state of a query that has run and not ended yet; where it locks rows, it has a place for each of its tables.
    let mark = unsafe {
        let state = query.estate.as_ref();
        let locks =
            state.filter(|state| state.es_range_table_size == 1 && !state.es_rowmarks.is_null());
        locks.and_then(|state| (*state.es_rowmarks).as_ref())
    };
    let Some(mark) = mark else {
        return;
    };
    if mark.markType == pg_sys::RowMarkType::ROW_MARK_KEYSHARE
        && mark.ermActive
        && mark.curCtid.ip_posid != 0
        && let Some(now) = Moment::current()
    {
        LAST.with_borrow_mut(|last| {
            if last.len() >= MOST {
                last.clear();
            }
            last.insert(mark.relid, (now, mark.curCtid));
        });
    }
}

/// Where the row of a table was that was locked last; `None` where that place may be another's by now.
pub fn last(table: pg_sys::Oid) -> Option<pg_sys::ItemPointerData> {
    let (moment, place) = LAST.with_borrow(|last| last.get(&table).copied())?;
    (Moment::current() == Some(moment)).then_some(place)
}
