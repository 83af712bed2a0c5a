//! Locks of our own in PostgreSQL's lock manager, released with the transaction. None is of a whole table of the
//! registry: whoever could take one would stop everybody.

use std::ffi::CStr;

use pgrx::pg_sys;

/// With whom a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With others who share it.
    Shared,
    /// With nobody.
    Exclusive,
}

/// What is locked.
#[derive(Clone, Copy, Debug)]
pub enum Lock {
    /// The retention of a table: shared by who makes a deletion, which expires by it.
    Retention(pg_sys::Oid),
    /// The holds on tenants whose names fall into this place: shared by a purge.
    Tenants(u32),
}

impl Lock {
    /// Takes the lock, waiting for whoever has it.
    pub fn take(self, mode: Mode) {
        let (table, object) = match self {
            Self::Retention(table) => (c"managed_table", table),
            Self::Tenants(place) => (c"hold", pg_sys::Oid::from(place)),
        };
        let mode = match mode {
            Mode::Shared => pg_sys::ShareLock,
            Mode::Exclusive => pg_sys::ExclusiveLock,
        };
        // SAFETY: takes a lock on a tag, which need not be an object's. The tag is ours: a table of the registry is its
        // class.
        unsafe {
            pg_sys::LockDatabaseObject(registry_table(table), object, 0, mode as pg_sys::LOCKMODE);
        }
    }
}

/// A table of the registry.
pub fn registry_table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: looks names up in the system's caches; a schema that is not there has no relation.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}
