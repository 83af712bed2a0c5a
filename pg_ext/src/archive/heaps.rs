//! The tables that have an archive's rows: the archive itself, and its month tables where it is divided by month.
//!
//! Readers ask the archive, from which its month tables inherit. Who writes past SQL, or deletes by place, goes to one of these.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::{Uuid, pg_sys};

use crate::archive::memory::Memory;
use crate::archive::write::Target;
use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::postgres::ensured_snapshot::EnsuredSnapshot;
use crate::spi::session::{Session, with_session};

/// One month of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Month {
    /// The table that has the rows of the month's deletions.
    pub table: pg_sys::Oid,
    /// Its deletions have ids from this on,
    pub begins: Uuid,
    /// and before this.
    pub ends: Uuid,
}

impl Month {
    /// Whether a deletion is of the month.
    pub fn has(&self, deletion: &[u8; 16]) -> bool {
        (self.begins.as_bytes()..self.ends.as_bytes()).contains(&deletion)
    }
}

thread_local! {
    /// By archive. Most have none.
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Rc<[Month]>>> = RefCell::default();
    /// How often something has been forgotten, to notice what changes during a reading.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// A relation changed; all of them, when it is none.
pub fn forget(relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    KNOWN.with(|known| {
        if let Ok(mut known) = known.try_borrow_mut() {
            known.retain(|archive, months| {
                relation != pg_sys::InvalidOid
                    && relation != *archive
                    && months.iter().all(|month| month.table != relation)
            });
        }
    });
}

/// A table that the registry has lost has no month, and its rows are the archive's all the same.
const MONTHS: &str = "
    SELECT h.inhrelid AS month_table, coalesce(m.begins, none) AS begins, coalesce(m.ends, none) AS ends
    FROM pg_inherits h LEFT JOIN keepsake.archive_month m ON m.month_table = h.inhrelid
    CROSS JOIN (VALUES ('00000000-0000-0000-0000-000000000000'::uuid)) AS v (none)
    WHERE h.inhparent = $1 ORDER BY m.month, h.inhrelid";

/// The month tables of an archive, oldest first.
pub fn months(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Rc<[Month]>> {
    if let Some(known) = known(archive) {
        return Ok(known);
    }
    let before = CHANGES.get();
    let rows = session.registry_now(MONTHS, &[archive.into()])?;
    let months = rows.iter().map(|row| {
        Ok(Month {
            table: field(row, "month_table")?,
            begins: field(row, "begins")?,
            ends: field(row, "ends")?,
        })
    });
    let months: Rc<[Month]> = months.collect::<Outcome<Vec<_>>>()?.into();
    // What changed while it was read is good for this call alone.
    if CHANGES.get() == before {
        KNOWN.with_borrow_mut(|known| known.insert(archive, Rc::clone(&months)));
    }
    Ok(months)
}

fn known(archive: pg_sys::Oid) -> Option<Rc<[Month]>> {
    KNOWN.with_borrow(|known| known.get(&archive).cloned())
}

/// The tables that may have rows of these deletions, likely ones first: those of their months, the archive, the other months. A row that was
/// passed on to another deletion stays where it is.
pub fn in_order(
    archive: pg_sys::Oid,
    months: &[Month],
    deletions: &[[u8; 16]],
) -> Vec<pg_sys::Oid> {
    let is_likely = |month: &&Month| deletions.iter().any(|deletion| month.has(deletion));
    let (likely, others): (Vec<_>, Vec<_>) = months.iter().partition(is_likely);
    let table = |month: &Month| month.table;
    let likely = likely.into_iter().map(table);
    likely
        .chain([archive])
        .chain(others.into_iter().map(table))
        .collect()
}

/// A table to which the rows of a deletion are written.
pub struct Heap {
    target: Target,
    /// Where its columns stand otherwise than the archive's: those that were dropped from the archive before the month table was made, it never had.
    map: Option<Map>,
}

/// How rows of the archive become rows of a month table.
struct Map {
    map: *mut pg_sys::TupleConversionMap,
    /// The map reads its shape.
    _archive: Target,
    _memory: Memory,
}

impl Map {
    /// `None` where the shapes are the same.
    fn between(archive: Target, table: &Target) -> Option<Self> {
        let memory = Memory::of_transaction(c"keepsake month table");
        // SAFETY: the shapes of open relations: the map keeps the archive open, and is used as long as the table is.
        let map = memory
            .enter(|| unsafe { pg_sys::convert_tuples_by_name(archive.shape(), table.shape()) });
        (!map.is_null()).then(|| Self {
            map,
            _archive: archive,
            _memory: memory,
        })
    }
}

impl Heap {
    /// Opens that of the deletion's month, or the archive; `None` when that is gone.
    pub fn open(archive: pg_sys::Oid, deletion: Uuid) -> Outcome<Option<Self>> {
        let months = match known(archive) {
            Some(known) => known,
            None => {
                // There is no snapshot when the transaction commits.
                let _snapshot = EnsuredSnapshot::take();
                with_session(|session| months(session, archive))?
            }
        };
        let Some(whole) = Target::open(archive) else {
            return Ok(None);
        };
        let month = months.iter().find(|month| month.has(deletion.as_bytes()));
        let Some(table) = month.and_then(|month| Target::open(month.table)) else {
            return Ok(Some(Self {
                target: whole,
                map: None,
            }));
        };
        let map = Map::between(whole, &table);
        Ok(Some(Self { target: table, map }))
    }

    /// As [`Target::insert`], for rows of the archive's shape.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn insert(&self, rows: &[pg_sys::HeapTuple]) {
        let Some(Map { map, .. }) = &self.map else {
            // SAFETY: as the caller promises.
            return unsafe { self.target.insert(rows) };
        };
        // SAFETY: as the caller promises, the rows are of the shape that the map begins with; those that it makes are in the current memory.
        unsafe {
            let rows = rows
                .iter()
                .map(|row| pg_sys::execute_attr_map_tuple(*row, *map));
            self.target.insert(&rows.collect::<Vec<_>>());
        }
    }
}
