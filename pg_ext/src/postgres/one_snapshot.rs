//! One snapshot for several readings.

use pgrx::pg_sys;

/// While it lives, reading statements see one snapshot, with what this transaction has done before.
#[derive(Debug)]
pub struct OneSnapshot(());

impl OneSnapshot {
    /// Takes it: what is committed now, or what the transaction's own snapshot shows, if it keeps one.
    pub fn take() -> Self {
        // SAFETY: within a transaction; what was done so far is to be seen.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        Self(())
    }

    /// The snapshot, as long as this lives.
    pub fn get(&self) -> pg_sys::Snapshot {
        // SAFETY: one is active since this was made.
        unsafe { pg_sys::GetActiveSnapshot() }
    }
}

impl Drop for OneSnapshot {
    fn drop(&mut self) {
        // An error ends the snapshots of its transaction or subtransaction by itself.
        if !std::thread::panicking() {
            // SAFETY: pushed when this was made; whoever pushed others since has popped them.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}
