//! A snapshot for who may find none, as when the transaction commits.

use pgrx::pg_sys;

/// A snapshot that is active, where there was none.
pub struct EnsuredSnapshot(bool);

impl EnsuredSnapshot {
    /// Makes one active, if none is.
    pub fn take() -> Self {
        // SAFETY: within a transaction; `drop` takes the snapshot off the stack again.
        unsafe {
            let is_active = pg_sys::ActiveSnapshotSet();
            if !is_active {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            Self(!is_active)
        }
    }
}

impl Drop for EnsuredSnapshot {
    fn drop(&mut self) {
        // While an error unwinds, the abort of the transaction takes it off.
        if self.0 && !std::thread::panicking() {
            // SAFETY: what `take` put there is on top: whatever came since has ended.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}
