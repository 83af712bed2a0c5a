//! Looks at the row that another refers to through the index of its key, without a query: for one row, to start a query takes longer than all
//! the rest. PostgreSQL 19 checks foreign keys so.
//!
//! It answers for types of PostgreSQL's own alone, whose comparisons are known and are nobody else's code. For all else a query
//! asks. Which index serves a reference is found once for each graph: a change of a table in it makes another graph.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::tupdesc::PgTupleDesc;
use pgrx::{PgMemoryContexts, pg_sys};

use crate::call::trigger_row::Row;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::reference::{Kind, Pair, Reference};
use crate::model::table::Table;
use crate::postgres::index_scan;
use crate::postgres::pg_list::oids;

/// As the foreign key's own check has locked table and index: to have the same lock once more costs nothing.
const READ: pg_sys::LOCKMODE = pg_sys::RowShareLock as pg_sys::LOCKMODE;
const KEEP_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// Types that are compared here. Equal values of a type and its index are found by the type's own operator.
const TYPES: [pg_sys::Oid; 6] = [
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::UUIDOID,
    pg_sys::TEXTOID,
    pg_sys::VARCHAROID,
];

/// From here on, OIDs are of what was not there in the beginning.
const FIRST_FOREIGN: u32 = pg_sys::FirstNormalObjectId;

/// How the row that a reference means is found.
struct Probe {
    /// A unique index of the columns that are referred to.
    index: pg_sys::Oid,
    /// For each column of it, the referring column.
    columns: Vec<Column>,
    /// For each of them, what to look for, but for the value.
    keys: Vec<pg_sys::ScanKeyData>,
}

/// A referring column: its number, and its type.
type Column = (i32, pg_sys::Oid);

/// Of a table, or a partition of it, the place of a reference in the graph.
type Place = (pg_sys::Oid, *const Reference);

/// The probes of a graph; `None` of what is not to be probed.
struct Probes {
    graph: Rc<Graph>,
    known: HashMap<Place, Option<Rc<Probe>>>,
}

thread_local! {
    static PROBES: RefCell<Option<Probes>> = const { RefCell::new(None) };
}

fn known(graph: &Rc<Graph>, place: Place) -> Option<Option<Rc<Probe>>> {
    PROBES.with_borrow(|probes| {
        let probes = probes
            .as_ref()
            .filter(|probes| Rc::ptr_eq(&probes.graph, graph))?;
        probes.known.get(&place).cloned()
    })
}

fn keep(graph: &Rc<Graph>, place: Place, probe: Option<Rc<Probe>>) {
    PROBES.with_borrow_mut(|probes| {
        let ours = match probes {
            Some(probes) if Rc::ptr_eq(&probes.graph, graph) => probes,
            _ => probes.insert(Probes {
                graph: Rc::clone(graph),
                known: HashMap::new(),
            }),
        };
        ours.known.insert(place, probe);
    });
}

/// Whether the row of `relation` that `row` refers to is deleted, as it is committed *now*, or as this transaction has it. `None` where that is
/// not for this way to say. The reference is one of the graph's.
pub fn refers_to_deleted(
    graph: &Rc<Graph>,
    (relation, row): (pg_sys::Oid, Row<'_>),
    reference: &Reference,
    parent: &Table,
) -> Option<bool> {
    let place = (relation, std::ptr::from_ref(reference));
    let probe = match known(graph, place) {
        Some(probe) => probe?,
        None => {
            let probe = find(row, reference, parent).map(Rc::new);
            keep(graph, place, probe.clone());
            probe?
        }
    };
    let mut keys = probe.keys.clone();
    for (key, column) in keys.iter_mut().zip(&probe.columns) {
        // One NULL, and it refers to nothing.
        let Some(value) = row.value_of(*column)? else {
            return Some(false);
        };
        key.sk_argument = value;
    }
    let opened = Parent::open(parent.oid)?;
    // What was changed before the table was locked is known by now.
    if !cache::kept().is_some_and(|now| Rc::ptr_eq(&now, graph)) {
        return None;
    }
    opened.has_deleted(probe.index, &mut keys, parent.marks?)
}

/// The probe of a reference out of such rows.
fn find(row: Row<'_>, reference: &Reference, parent: &Table) -> Option<Probe> {
    let of_known_form = matches!(reference.kind, Kind::ForeignKey)
        && !reference.deferrable
        && !reference.lost
        && !parent.partitioned
        && reference.pairs.len() <= pg_sys::INDEX_MAX_KEYS as usize;
    if !of_known_form {
        return None;
    }
    let columns = reference.pairs.iter().map(|pair| {
        let column = row.column(&pair.child.0)?;
        let is_plain = pair.collation.is_none() && pair.parent_type.is_none();
        (is_plain && TYPES.contains(&column.1)).then_some((pair, column))
    });
    let columns: Vec<(&Pair, Column)> = columns.collect::<Option<_>>()?;
    Parent::open(parent.oid)?.probe(&columns)
}

/// The referred table, open.
struct Parent(pg_sys::Relation);

impl Parent {
    fn open(table: pg_sys::Oid) -> Option<Self> {
        // SAFETY: locks and opens the relation; an error closes it with the transaction's resources.
        let relation = unsafe { pg_sys::try_table_open(table, READ) };
        (!relation.is_null()).then(|| Self(relation))
    }

    /// Whether the row with this key is marked.
    fn has_deleted(
        &self,
        index: pg_sys::Oid,
        keys: &mut [pg_sys::ScanKeyData],
        marks: [i16; 2],
    ) -> Option<bool> {
        // SAFETY: the relation is open, and the index one of its own; what the scan gives is a row of the relation, good until the slot is dropped. An
        // error closes all of it with the transaction's resources.
        unsafe {
            // What this statement has done is to be seen as well.
            pg_sys::CommandCounterIncrement();
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let index = pg_sys::index_open(index, READ);
            let scan = index_scan::begin(self.0, index, snapshot, keys);
            let slot = pg_sys::table_slot_create(self.0, std::ptr::null_mut());
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let row = if pg_sys::index_getnext_slot(scan, forward, slot) {
                let mut is_copy = false;
                let tuple = pg_sys::ExecFetchSlotHeapTuple(slot, false, &raw mut is_copy);
                Row::of_relation(&*self.0, tuple)
            } else {
                None
            };
            let is_deleted = match row {
                // The columns may have been exchanged for others: a query says what is wrong.
                Some(row) => row.marks(marks).map(|marks| !marks.are_null()[0]),
                None => Some(false),
            };
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::index_endscan(scan);
            pg_sys::index_close(index, KEEP_LOCK);
            pg_sys::UnregisterSnapshot(snapshot);
            is_deleted
        }
    }

    /// By a unique index of just these columns.
    fn probe(&self, columns: &[(&Pair, Column)]) -> Option<Probe> {
        // SAFETY: the relation is open; the list is a copy.
        let mut indexes = unsafe { oids(pg_sys::RelationGetIndexList(self.0)) };
        indexes.find_map(|index| {
            // SAFETY: the index is one of an open and locked relation; it is closed again on every way, and what is read of it is there as long as it is
            // open.
            unsafe {
                let opened = pg_sys::index_open(index, READ);
                let probe = self.probe_by(&*opened, columns);
                pg_sys::index_close(opened, KEEP_LOCK);
                probe
            }
        })
    }

    /// # Safety
    /// The index is one of this relation's, and open.
    unsafe fn probe_by(
        &self,
        opened: &pg_sys::RelationData,
        columns: &[(&Pair, Column)],
    ) -> Option<Probe> {
        // SAFETY: an open index has an entry of pg_index and, for each key column, a family, a type and a collation.
        unsafe {
            let form = opened.rd_index.as_ref()?;
            let is_plain = form.indisunique
                && form.indisvalid
                && form.indimmediate
                && (*opened.rd_rel).relam == pg_sys::BTREE_AM_OID
                && usize::try_from(form.indnkeyatts) == Ok(columns.len())
                && pg_sys::RelationGetIndexPredicate(std::ptr::from_ref(opened).cast_mut())
                    .is_null();
            if !is_plain {
                return None;
            }
            let numbers = form.indkey.values.as_slice(columns.len());
            let shape = PgTupleDesc::from_pg_unchecked((*self.0).rd_att);
            let mut probe = Probe {
                index: opened.rd_id,
                columns: Vec::with_capacity(columns.len()),
                keys: Vec::with_capacity(columns.len()),
            };
            for (place, number) in numbers.iter().enumerate() {
                let referred = shape.get(usize::try_from(*number - 1).ok()?)?;
                let name = CStr::from_ptr(referred.attname.data.as_ptr());
                let (_, column) = columns
                    .iter()
                    .find(|(pair, _)| pair.parent.0.as_bytes() == name.to_bytes())?;
                // An index of another collation has other values equal than the reference.
                if referred.atttypid != column.1
                    || referred.attcollation != *opened.rd_indcollation.add(place)
                {
                    return None;
                }
                probe.columns.push(*column);
                probe.keys.push(key(opened, place)?);
            }
            Some(probe)
        }
    }
}

/// What to look for in a column of an index, counted from 0.
///
/// # Safety
/// The index is open, and has the column.
unsafe fn key(opened: &pg_sys::RelationData, place: usize) -> Option<pg_sys::ScanKeyData> {
    // SAFETY: as the caller promises. What the key's function keeps is kept as long as the key may be.
    unsafe {
        let compared = *opened.rd_opcintype.add(place);
        let strategy = pg_sys::BTEqualStrategyNumber as i16;
        let family = *opened.rd_opfamily.add(place);
        let equals = pg_sys::get_opfamily_member(family, compared, compared, strategy);
        if equals == pg_sys::InvalidOid || u32::from(equals) >= FIRST_FOREIGN {
            return None;
        }
        let number = i16::try_from(place + 1).ok()?;
        PgMemoryContexts::TopMemoryContext.switch_to(|_| {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyEntryInitialize(
                &raw mut key,
                0,
                number,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::InvalidOid,
                *opened.rd_indcollation.add(place),
                pg_sys::get_opcode(equals),
                pg_sys::Datum::from(0_usize),
            );
            Some(key)
        })
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // SAFETY: open since `open`; the lock stays to the end of the transaction, as that of a foreign key's check does.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::table_close(self.0, KEEP_LOCK);
            }
        }
    }
}
