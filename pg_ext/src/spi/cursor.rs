//! A cursor of the engine's own: nobody else closes it, its rows are read with the rights that it was opened with, and do
//! not pile up.

use std::ffi::CString;
use std::mem::ManuallyDrop;

use pgrx::pg_sys;
use pgrx::spi::{SpiClient, SpiCursor, SpiTupleTable};

use crate::model::error::{Failure, Outcome};
use crate::run_as::role::Role;
use crate::run_as::shielded_cursors::set_status;

/// An open cursor. A trigger that the engine's statements fire may run `CLOSE ALL`, or close this one by
/// its name: it is pinned, as PL/pgSQL pins those of its loops, so that they get an error. Between its own fetches it is
/// marked as running, so that nobody else moves it or reads from it.
pub struct Cursor<'conn> {
    cursor: ManuallyDrop<SpiCursor<'conn>>,
    portal: pg_sys::Portal,
    /// As whom its rows are read.
    role: Role,
    /// The rows that were fetched last.
    fetched: *mut pg_sys::SPITupleTable,
}

impl<'conn> Cursor<'conn> {
    /// Takes over a cursor that has just been opened as this role.
    pub fn pin(client: &SpiClient<'conn>, opened: SpiCursor<'conn>, role: Role) -> Outcome<Self> {
        let name = opened.detach_into_name();
        let cursor = client.find_cursor(&name)?;
        let name = CString::new(name).map_err(|_| Failure::ColumnGone {
            column: String::new(),
        })?;
        // SAFETY: the cursor of that name has just been found, so it is there.
        let portal = unsafe {
            let portal = pg_sys::SPI_cursor_find(name.as_ptr());
            pg_sys::PinPortal(portal);
            portal
        };
        set_status(portal, pg_sys::PortalStatus::PORTAL_ACTIVE);
        Ok(Self {
            cursor: ManuallyDrop::new(cursor),
            portal,
            role,
            fetched: std::ptr::null_mut(),
        })
    }

    /// The next rows, up to `count`; those before are freed.
    pub fn fetch(&mut self, count: i64) -> Outcome<SpiTupleTable<'_>> {
        // SAFETY: nobody reads the rows before any more, since they borrow from `self`.
        unsafe {
            pg_sys::SPI_freetuptable(std::mem::replace(&mut self.fetched, std::ptr::null_mut()))
        };
        let _as = self.role.enter();
        set_status(self.portal, pg_sys::PortalStatus::PORTAL_READY);
        let rows = self.cursor.fetch(count)?;
        // SAFETY: a fetch leaves its rows there.
        self.fetched = unsafe { pg_sys::SPI_tuptable };
        set_status(self.portal, pg_sys::PortalStatus::PORTAL_ACTIVE);
        Ok(rows)
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        // SAFETY: pinned, it is there until it is dropped here; a failed transaction drops it only after what
        // ran in it has been unwound. Nothing uses the cursor after this.
        unsafe {
            if (*self.portal).status == pg_sys::PortalStatus::PORTAL_ACTIVE {
                set_status(self.portal, pg_sys::PortalStatus::PORTAL_READY);
            }
            if (*self.portal).portalPinned {
                pg_sys::UnpinPortal(self.portal);
            }
            ManuallyDrop::drop(&mut self.cursor);
        }
    }
}
