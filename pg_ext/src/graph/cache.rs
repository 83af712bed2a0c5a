//! The reference graph, kept in the backend until something in it changes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::graph::catalog;
use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::oid_map::OidSet;
use crate::spi::session::{Session, with_session};

/// The graph, and what it was made of.
struct Cached {
    graph: Rc<Graph>,
    relations: OidSet,
    /// The types of keys, which the graph has by their names, as the system's cache of types numbers its entries.
    types: HashSet<u32>,
}

impl Cached {
    fn of(graph: &Rc<Graph>) -> Self {
        let hash = |oid: pg_sys::Oid| {
            let (of, none) = (pg_sys::Datum::from(oid), pg_sys::Datum::from(0_usize));
            // SAFETY: computes a number from a key of the cache's type.
            unsafe {
                pg_sys::GetSysCacheHashValue(
                    pg_sys::SysCacheIdentifier::TYPEOID as _,
                    of,
                    none,
                    none,
                    none,
                )
            }
        };
        Self {
            relations: graph.oids(),
            types: graph.key_types().map(hash).collect(),
            graph: Rc::clone(graph),
        }
    }
}

thread_local! {
    static CACHE: RefCell<Option<Cached>> = const { RefCell::new(None) };
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
        CACHE.set(Some(Cached::of(&graph)));
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
    CACHE.with_borrow(|cache| cache.as_ref().map(|cached| Rc::clone(&cached.graph)))
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

/// What was read of the catalog, by what was asked for, until something that a catalog says changes: reading takes longer than restoring a few
/// rows.
#[derive(Debug)]
pub struct Kept<K, V>(RefCell<(u64, HashMap<K, V>)>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(RefCell::new((0, HashMap::new())))
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// What is known of it.
    pub fn get(&self, of: &K) -> Option<V> {
        let now = changes();
        let kept = self.0.borrow();
        let (read_under, known) = &*kept;
        known.get(of).filter(|_| *read_under == now).cloned()
    }

    /// Keeps what was read under this count of [`changes`]: what has changed meanwhile is good for one call alone.
    pub fn keep(&self, read_under: u64, found: impl IntoIterator<Item = (K, V)>) {
        if changes() != read_under {
            return;
        }
        let mut kept = self.0.borrow_mut();
        if kept.0 != read_under {
            *kept = (read_under, HashMap::new());
        }
        kept.1.extend(found);
    }
}

fn register_invalidation() {
    if REGISTERED.replace(true) {
        return;
    }
    let nothing = pg_sys::Datum::from(0_usize);
    // SAFETY: called once in a backend's life, with functions that live as long as it. Renaming a
    // schema, changing what a role may see, and giving an operator another schema or an operator family another
    // operator, tell no relation of it.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(forget), nothing);
        for (cache, forget) in [
            (
                pg_sys::SysCacheIdentifier::NAMESPACEOID,
                forget_all as Forget,
            ),
            (pg_sys::SysCacheIdentifier::AUTHOID, forget_all),
            (pg_sys::SysCacheIdentifier::OPEROID, forget_all),
            (pg_sys::SysCacheIdentifier::AMOPSTRATEGY, forget_all),
            (pg_sys::SysCacheIdentifier::COLLOID, note),
            (pg_sys::SysCacheIdentifier::PROCOID, note),
            (pg_sys::SysCacheIdentifier::TYPEOID, forget_type),
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

/// A type changed, by its number in the system's cache; 0 is all. Each table that is made has a type: those of no key matter no more than what an
/// expression is printed with.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_type(_argument: pg_sys::Datum, _cache: i32, hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    let concerned = CACHE.with_borrow(|cache| {
        cache
            .as_ref()
            .is_some_and(|cached| hash == 0 || cached.types.contains(&hash))
    });
    if concerned {
        CACHE.set(None);
    }
}

/// A schema, a role or an operator changed.
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
            cache.as_ref().is_some_and(|cached| {
                relation == pg_sys::InvalidOid || cached.relations.contains(&relation)
            })
        });
    if concerned {
        CACHE.set(None);
    }
}
