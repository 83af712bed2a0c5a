//! The reference graph, kept in the backend until something in it changes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;

use crate::graph::catalog;
use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::oid_map::OidSet;
use crate::spi::session::{Session, with_session};

thread_local! {
    static CACHE: RefCell<Option<(Rc<Graph>, OidSet)>> = const { RefCell::new(None) };
    /// How often something has been forgotten, to notice what changes during a reading.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    /// The table of managed tables.
    static REGISTRY: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// The graph as the catalog has it now; kept for the backend until something in it changes.
pub fn current(session: &Session<'_, '_>) -> Outcome<Rc<Graph>> {
    if let Some(graph) = kept() {
        return Ok(graph);
    }
    register_invalidation();
    REGISTRY.set(registry());
    let before = CHANGES.get();
    let graph = Rc::new(catalog::read(session)?);
    // What changed while it was read is good for this call alone.
    if CHANGES.get() == before {
        CACHE.set(Some((Rc::clone(&graph), graph.oids())));
    }
    Ok(graph)
}

/// Of the graph what concerns one table, for what changes the schema and so forgets it at once: reading all of it each time
/// would make the work for many tables quadratic.
pub fn near(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<Rc<Graph>> {
    kept().map_or_else(|| catalog::read_near(session, table).map(Rc::new), Ok)
}

/// The whole, for a row's trigger: opens a session only when nothing is kept.
pub fn known() -> Outcome<Rc<Graph>> {
    kept().map_or_else(|| with_session(|session| current(session)), Ok)
}

/// How often something that a catalog says may have changed, in the backend's life: what was read under another count is to be read
/// again.
pub fn changes() -> u64 {
    register_invalidation();
    CHANGES.get()
}

/// The graph, where it is in the cache.
pub fn kept() -> Option<Rc<Graph>> {
    CACHE.with_borrow(|cache| cache.as_ref().map(|(graph, _)| Rc::clone(graph)))
}

/// The table of managed tables; none where there is no extension.
fn registry() -> pg_sys::Oid {
    // SAFETY: looks into the system's caches, within a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        pg_sys::get_relname_relid(c"managed_table".as_ptr(), schema)
    }
}

/// Tells every backend that what is known of `table` has changed, once the transaction commits. Those that do not know it yet hear of the registry.
pub fn invalidate(table: pg_sys::Oid) {
    CACHE.set(None);
    let registry = registry();
    if registry != pg_sys::InvalidOid {
        // SAFETY: as below.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(registry) }
    }
    // SAFETY: looks the relation up in the system's caches, which refuse an OID that is none, and queues a
    // message.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) }
}

fn register_invalidation() {
    if REGISTERED.replace(true) {
        return;
    }
    let nothing = pg_sys::Datum::from(0_usize);
    // SAFETY: called once in a backend's life, with functions that live as long as it. Renaming a
    // schema, and changing what a role may see, tell no relation of it.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(forget), nothing);
        for (cache, forget) in [
            (
                pg_sys::SysCacheIdentifier::NAMESPACEOID,
                forget_all as Forget,
            ),
            (pg_sys::SysCacheIdentifier::AUTHOID, forget_all),
            (pg_sys::SysCacheIdentifier::COLLOID, note),
            (pg_sys::SysCacheIdentifier::OPEROID, note),
            (pg_sys::SysCacheIdentifier::PROCOID, note),
            (pg_sys::SysCacheIdentifier::TYPEOID, note),
            (pg_sys::SysCacheIdentifier::ENUMOID, note),
            (pg_sys::SysCacheIdentifier::TSCONFIGOID, note),
            (pg_sys::SysCacheIdentifier::CLAOID, note),
        ] {
            // What numbers the caches has another type in each release.
            #[allow(clippy::unnecessary_cast)]
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget), nothing);
        }
    }
}

type Forget = unsafe extern "C-unwind" fn(pg_sys::Datum, i32, u32);

/// What an expression is printed with changed: the graph has none.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn note(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
}

/// A schema or role changed.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    CACHE.set(None);
}

/// A relation changed. One outside the graph matters only when it begins to refer into it, and
/// then the referred table changes as well (a foreign key adds triggers to both sides); or when it becomes managed, and then the registry changes.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    // A nested borrow is impossible: no catalog access happens while the cache is borrowed.
    let concerned = relation == REGISTRY.get()
        || CACHE.with_borrow(|cache| {
            cache.as_ref().is_some_and(|(_, known)| {
                relation == pg_sys::InvalidOid || known.contains(&relation)
            })
        });
    if concerned {
        CACHE.set(None);
    }
}
