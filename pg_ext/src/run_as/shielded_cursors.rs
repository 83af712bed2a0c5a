//! Keeps restricted code from cursors that it did not open, and leaves none of its own.
//!
//! `DECLARE` is refused as a statement (see [`crate::run_as::restricted_utility`]), but a procedural language opens, fetches from
//! and closes cursors past SQL. A cursor of the caller's has rows that a table's owner may not see; one that he closes,
//! and opens anew under its name, runs what he wrote when the caller fetches next, with the caller's rights.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::PortalStatus::{PORTAL_ACTIVE, PORTAL_READY};

/// Stands, until dropped, between restricted code and the cursors that were open before it. Those of the engine's own look
/// after themselves ([`crate::spi::cursor`]).
#[derive(Debug)]
pub struct ShieldedCursors {
    /// They look as if they ran: PostgreSQL then neither fetches from them nor closes them.
    shut: Vec<pg_sys::Portal>,
}

impl ShieldedCursors {
    /// Shuts off what is open.
    pub fn shut() -> Self {
        let shut = ready();
        for portal in &shut {
            set_status(*portal, PORTAL_ACTIVE);
        }
        Self { shut }
    }
}

impl Drop for ShieldedCursors {
    fn drop(&mut self) {
        // After an error what was opened goes with the transaction or subtransaction that ends.
        if !std::thread::panicking() {
            for portal in ready() {
                // SAFETY: an open portal that does not run, and was opened since: the others look as if they ran.
                unsafe {
                    (*portal).portalPinned = false;
                    pg_sys::PortalDrop(portal, false);
                }
            }
        }
        for portal in &self.shut {
            set_status(*portal, PORTAL_READY);
        }
    }
}

/// Only the state changes: `MarkPortalActive` would also note the subtransaction, whose abort would then fail the portal.
pub fn set_status(portal: pg_sys::Portal, status: pg_sys::PortalStatus::Type) {
    // SAFETY: the caller's portal is there: it is pinned, or has just been found, or was shut, and one that looks as if
    // it ran is not dropped.
    unsafe { (*portal).status = status }
}

/// The portals that are open and do not run.
fn ready() -> Vec<pg_sys::Portal> {
    // SAFETY: a portal of the backend's own table.
    let is_ready = |portal: &pg_sys::Portal| unsafe { (**portal).status == PORTAL_READY };
    all().filter(is_ready).collect()
}

/// All portals but the one without a name, which is the caller's and runs. PostgreSQL's table of them is its own; but each
/// has a memory context that names it (`CreatePortal` in portalmem.c). So nothing is run to find them, and nothing can fail.
fn all() -> impl Iterator<Item = pg_sys::Portal> {
    // SAFETY: contexts, their names and identifiers live as long as what they belong to; none is made or deleted meanwhile.
    unsafe {
        let is_named = |context: &pg_sys::MemoryContext, name: &CStr| {
            !(**context).name.is_null() && CStr::from_ptr((**context).name) == name
        };
        children(pg_sys::TopMemoryContext)
            .filter(move |context| is_named(context, c"TopPortalContext"))
            .flat_map(|context| children(context))
            .filter(move |context| is_named(context, c"PortalContext"))
            .filter(|context| !(**context).ident.is_null())
            .filter_map(|context| {
                let portal = pg_sys::GetPortalByName((*context).ident);
                let is_its = portal
                    .as_ref()
                    .is_some_and(|one| one.portalContext == context);
                is_its.then_some(portal)
            })
    }
}

/// # Safety
/// `context` is a memory context; none of its children is made or deleted before the iterator is done.
unsafe fn children(context: pg_sys::MemoryContext) -> impl Iterator<Item = pg_sys::MemoryContext> {
    // SAFETY: as the caller promises.
    let first = unsafe { (*context).firstchild };
    let next = |child: &pg_sys::MemoryContext| {
        // SAFETY: a child, or NULL behind the last one.
        unsafe { child.as_ref() }.map(|child| child.nextchild)
    };
    std::iter::successors(Some(first), next).take_while(|child| !child.is_null())
}
