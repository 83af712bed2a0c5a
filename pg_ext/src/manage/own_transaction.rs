//! What the running transaction has written.

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Whether the running transaction, or a subtransaction of it, wrote a row with this `xmin`. Others that began later may have ended by now.
#[pg_extern(stable)]
fn is_of_this_transaction(xmin: pg_sys::TransactionId) -> bool {
    // SAFETY: compares it with the transactions of this backend.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(xmin) }
}
