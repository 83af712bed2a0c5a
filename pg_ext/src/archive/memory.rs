//! A memory context of our own.

use std::ffi::CStr;

use pgrx::pg_sys;

/// A memory context, deleted when this is dropped.
#[derive(Debug)]
pub struct Memory(pg_sys::MemoryContext);

impl Memory {
    /// One that ends with the transaction, if not before.
    pub fn of_transaction(name: &'static CStr) -> Self {
        // SAFETY: within a transaction its context is there.
        Self::within(unsafe { pg_sys::TopTransactionContext }, name)
    }

    /// One that lasts as long as the backend, if it is not dropped.
    pub fn of_backend(name: &'static CStr) -> Self {
        // SAFETY: the context is there as long as the backend.
        Self::within(unsafe { pg_sys::TopMemoryContext }, name)
    }

    fn within(parent: pg_sys::MemoryContext, name: &'static CStr) -> Self {
        // SAFETY: the parent is valid, and the name is constant.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                parent,
                name.as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Does `work`, which allocates here.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: valid as long as `self`; whoever catches an error sets the current context himself.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = work();
            pg_sys::MemoryContextSwitchTo(before);
            result
        }
    }

    /// Frees all that was allocated here.
    pub fn reset(&self) {
        // SAFETY: valid as long as `self`; what was allocated here is not used any more, as the caller says.
        unsafe { pg_sys::MemoryContextReset(self.0) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: deleted once. A context must not be current when it is deleted, as it may be while an error unwinds.
        unsafe {
            if pg_sys::proc_exit_inprogress {
                return;
            }
            if std::ptr::eq(pg_sys::CurrentMemoryContext, self.0) {
                pg_sys::CurrentMemoryContext = (*self.0).parent;
            }
            pg_sys::MemoryContextDelete(self.0);
        }
    }
}
