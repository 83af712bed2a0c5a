//! Tells of one row, without a query, that it refers to no deleted row: it looks at the referred rows through the index of their key, as PostgreSQL 19
//! checks foreign keys. For one row, to start a query takes longer than all the rest.
//!
//! Which foreign keys the row's table has, and which of them lead to tables that may be kept in place, PostgreSQL's own caches say: to read the
//! graph takes a new session as long as hundreds of rows. Where they do not say enough, as of declared references, and where a referred row
//! is marked, a query asks, which knows the graph.
//!
//! The foreign key's own check has mostly just locked the referred row, and so is known where it is.
//!
//! It answers for types of PostgreSQL's own alone, whose comparisons are known and are nobody else's code.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::tupdesc::PgTupleDesc;
use pgrx::{PgMemoryContexts, pg_sys};

use crate::call::own_triggers::{self, Carrier};
use crate::call::trigger_call::Updated;
use crate::call::trigger_row::Row;
use crate::graph::cache;
use crate::intercept::locked_row;
use crate::model::error::Outcome;
use crate::model::oid_map::OidMap;
use crate::postgres::index_scan;
use crate::postgres::pg_list::{oids, pointers};
use crate::postgres::table_triggers::{name, triggers};
use crate::postgres::unguarded::unguarded;
use crate::spi::session::with_reading_session;

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

/// What a table or partition refers to.
struct References {
    /// Its own columns `deleted_at` and `deletion_id`, if it has them.
    marks: Option<[i16; 2]>,
    /// Its foreign keys into tables that may be kept in place.
    probes: Vec<Probe>,
}

/// How the row that a foreign key means is found.
struct Probe {
    /// The table that is referred to.
    parent: pg_sys::Oid,
    /// Its column `deleted_at`.
    deleted_at: i32,
    /// A unique index of the columns that are referred to.
    index: pg_sys::Oid,
    /// For each column of it, the pair.
    pairs: Vec<Pair>,
    /// For each of them, what to look for, but for the value.
    keys: Vec<pg_sys::ScanKeyData>,
}

/// A column's number, and its type.
type Column = (i32, pg_sys::Oid);

/// A pair of columns of a foreign key.
#[derive(Clone, Copy)]
struct Pair {
    child: Column,
    /// The number of the referred column.
    parent: i16,
    collation: pg_sys::Oid,
    /// How a value of their type is stored.
    by_value: bool,
    length: i16,
    /// The operator by which the foreign key compares them.
    equals: pg_sys::Oid,
}

/// By table or partition; `None` where a query is to ask.
type Known = OidMap<Option<Rc<References>>>;

thread_local! {
    /// What was found, and under which count of changes.
    static KNOWN: RefCell<(u64, Known)> = RefCell::default();
}

/// Whether the row is live and refers to no deleted one, as they are committed *now*, or as this transaction has them. Where it is not for
/// this way to say, it says no.
pub fn refers_to_live(relation: &pg_sys::RelationData, row: Row<'_>) -> Outcome<bool> {
    let changes = cache::changes();
    let references = known(relation, changes)?;
    Ok(references.is_some_and(|references| references.are_to_live(row, changes)))
}

/// Whether the row was live and refers to what it referred to, or to no deleted row. Where it is not for this way to say, it says no.
pub fn still_refers_to_live(relation: &pg_sys::RelationData, rows: &Updated<'_>) -> Outcome<bool> {
    let changes = cache::changes();
    let Some(references) = known(relation, changes)? else {
        return Ok(false);
    };
    Ok(!references.have_moved(rows)
        || references.is_live(rows.old) && references.are_to_live(rows.new, changes))
}

/// The numbers of the columns by which the table refers to such that may be kept in place; `None` where it is not for this way to say.
pub fn referring_columns(relation: &pg_sys::RelationData) -> Outcome<Option<Vec<i32>>> {
    let references = known(relation, cache::changes())?;
    Ok(references.map(|references| references.columns().collect()))
}

fn known(relation: &pg_sys::RelationData, changes: u64) -> Outcome<Option<Rc<References>>> {
    let kept = KNOWN.with_borrow(|(read_under, known)| {
        let is_good = *read_under == changes;
        known.get(&relation.rd_id).filter(|_| is_good).cloned()
    });
    if let Some(references) = kept {
        return Ok(references);
    }
    let references = References::of(relation)?.map(Rc::new);
    // What changed meanwhile may have been read before it did.
    if cache::changes() != changes {
        return Ok(None);
    }
    KNOWN.with_borrow_mut(|(read_under, known)| {
        if *read_under != changes {
            known.clear();
            *read_under = changes;
        }
        known.insert(relation.rd_id, references.clone());
    });
    Ok(references)
}

/// Whether the table or partition has declared references, of which no cache of PostgreSQL's knows.
fn has_declared(relation: pg_sys::Oid) -> Outcome<bool> {
    with_reading_session(|session| {
        let rows = session.registry_now(
            "SELECT 1 FROM keepsake.declared_reference d
             WHERE d.child = $1 OR d.child IN (SELECT relid FROM pg_partition_ancestors($1)) LIMIT 1",
            &[relation.into()],
        )?;
        Ok(!rows.is_empty())
    })
}

impl References {
    fn of(relation: &pg_sys::RelationData) -> Outcome<Option<Self>> {
        let Some(marks) = marks(relation) else {
            return Ok(None);
        };
        if has_declared(relation.rd_id)? {
            return Ok(None);
        }
        let open = std::ptr::from_ref(relation).cast_mut();
        // SAFETY: the relation is open; the list is a copy, since to read what the foreign keys lead to may have it made anew.
        let keys: Vec<pg_sys::ForeignKeyCacheInfo> = unsafe {
            let list = pg_sys::RelationGetFKeyList(open);
            pointers::<pg_sys::ForeignKeyCacheInfo>(list)
                .map(|key| *key)
                .collect()
        };
        let mut probes = Vec::new();
        for key in keys.iter().filter(|key| is_enforced(key)) {
            match Probe::of(relation, key) {
                Some(probe) => probes.extend(probe),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { marks, probes }))
    }

    fn is_live(&self, row: Row<'_>) -> bool {
        self.marks.is_none_or(|numbers| {
            let marks = row.marks(numbers);
            marks.is_some_and(|marks| marks.are_null() == [true, true])
        })
    }

    fn are_to_live(&self, row: Row<'_>, changes: u64) -> bool {
        self.is_live(row)
            && self
                .probes
                .iter()
                .all(|probe| probe.finds_live(row, changes))
    }

    /// The numbers of the referring columns.
    fn columns(&self) -> impl Iterator<Item = i32> {
        let pairs = self.probes.iter().flat_map(|probe| &probe.pairs);
        pairs.map(|pair| pair.child.0)
    }

    /// Whether a referring column has changed, by so much as a bit.
    fn have_moved(&self, rows: &Updated<'_>) -> bool {
        self.columns()
            .any(|number| !rows.old.has_same_at(rows.new, number))
    }
}

#[cfg(any(feature = "pg18", feature = "pg19"))]
fn is_enforced(key: &pg_sys::ForeignKeyCacheInfo) -> bool {
    key.conenforced
}

#[cfg(not(any(feature = "pg18", feature = "pg19")))]
fn is_enforced(_key: &pg_sys::ForeignKeyCacheInfo) -> bool {
    true
}

/// The columns `deleted_at` and `deletion_id` of a table that may be kept in place, `Some(None)` of one that is not; `None` of one that is and has
/// them no longer as it had them.
fn marks(relation: &pg_sys::RelationData) -> Option<Option<[i16; 2]>> {
    // SAFETY: the descriptor of an open relation, which is not released here.
    let shape = unsafe { PgTupleDesc::from_pg_unchecked(relation.rd_att) };
    let column = |name: &str, type_oid: pg_sys::Oid| {
        let mut columns = shape.iter();
        let found = columns.find(|column| !column.attisdropped && column.name() == name)?;
        let fits = found.atttypid == type_oid && found.attgenerated == 0;
        fits.then_some(found.attnum)
    };
    let deleted_at = column("deleted_at", pg_sys::TIMESTAMPTZOID);
    match deleted_at.zip(column("deletion_id", pg_sys::UUIDOID)) {
        Some((deleted_at, deletion_id)) => Some(Some([deleted_at, deletion_id])),
        None if is_managed(relation) => None,
        None => Some(None),
    }
}

/// Whether the table has a trigger of every table kept in place.
fn is_managed(relation: &pg_sys::RelationData) -> bool {
    let ours = |trigger: &pg_sys::Trigger| {
        own_triggers::on(Carrier::Managed).any(|own| own.name == name(trigger))
    };
    triggers(relation).iter().any(ours)
}

/// A relation of which only PostgreSQL's caches are read, without a lock: to wait for whoever changes a referred table is not for a
/// statement that does not touch it.
struct Described(pg_sys::Relation);

impl Described {
    fn open(oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: within a transaction; an error closes it with the transaction's resources.
        let relation = unsafe { pg_sys::RelationIdGetRelation(oid) };
        (!relation.is_null()).then(|| Self(relation))
    }

    fn get(&self) -> &pg_sys::RelationData {
        // SAFETY: open as long as `self` lives.
        unsafe { &*self.0 }
    }

    fn kind(&self) -> u8 {
        // SAFETY: an open relation has an entry of pg_class.
        unsafe { (*self.get().rd_rel).relkind as u8 }
    }
}

impl Drop for Described {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: open since `open`.
            unsafe { pg_sys::RelationClose(self.0) };
        }
    }
}

impl Probe {
    /// That of a foreign key: `Some(None)` where it leads to a table that is not kept in place, `None` where a query is to ask.
    fn of(
        relation: &pg_sys::RelationData,
        key: &pg_sys::ForeignKeyCacheInfo,
    ) -> Option<Option<Self>> {
        let parent = Described::open(key.confrelid)?;
        let Some([deleted_at, _]) = marks(parent.get())? else {
            return Some(None);
        };
        if parent.kind() != pg_sys::RELKIND_RELATION {
            return None;
        }
        let pairs = pairs(relation, parent.get(), key)?;
        // The check of such a one may be put off to the commit, after ours.
        if is_deferrable(key.conoid)? {
            return None;
        }
        // SAFETY: the relation is open; the list is a copy.
        let mut indexes = unsafe { oids(pg_sys::RelationGetIndexList(parent.0)) };
        let (index, pairs, keys) = indexes.find_map(|index| {
            let opened = Described::open(index)?;
            // SAFETY: the index is open as long as it is read.
            let (pairs, keys) = unsafe { keys_of(opened.get(), &pairs)? };
            Some((index, pairs, keys))
        })?;
        Some(Some(Self {
            parent: key.confrelid,
            deleted_at: i32::from(deleted_at),
            index,
            pairs,
            keys,
        }))
    }

    /// Whether the row that is referred to is not deleted.
    fn finds_live(&self, row: Row<'_>, changes: u64) -> bool {
        let mut keys = self.keys.clone();
        for (key, pair) in keys.iter_mut().zip(&self.pairs) {
            match row.value_of(pair.child) {
                Some(Some(value)) => key.sk_argument = value,
                // One NULL, and it refers to nothing.
                Some(None) => return true,
                None => return false,
            }
        }
        self.is_live(&mut keys, changes)
    }

    fn is_live(&self, keys: &mut [pg_sys::ScanKeyData], changes: u64) -> bool {
        unguarded! {
            fn try_table_open(table: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> pg_sys::Relation;
            fn table_close(table: pg_sys::Relation, lock: pg_sys::LOCKMODE) -> ();
            fn CommandCounterIncrement() -> ();
            fn GetLatestSnapshot() -> pg_sys::Snapshot;
            fn RegisterSnapshot(snapshot: pg_sys::Snapshot) -> pg_sys::Snapshot;
            fn UnregisterSnapshot(snapshot: pg_sys::Snapshot) -> ();
        }
        // SAFETY: locks and opens the table; what was changed before it was locked is known by then, and the index is one of its own. An error
        // closes all of it with the transaction's resources, and leaves nothing that would have to be dropped.
        unsafe {
            pg_guard_ffi_boundary(|| {
                let table = try_table_open(self.parent, READ);
                if table.is_null() {
                    return false;
                }
                let is_live = cache::changes() == changes && {
                    // What this statement has done is to be seen as well.
                    CommandCounterIncrement();
                    let snapshot = RegisterSnapshot(GetLatestSnapshot());
                    let locked = self.is_live_where_locked(table, snapshot, keys);
                    let is_live = locked.unwrap_or_else(|| self.is_live_in(table, snapshot, keys));
                    UnregisterSnapshot(snapshot);
                    is_live
                };
                // The lock stays to the end of the transaction, as that of a foreign key's check does.
                table_close(table, KEEP_LOCK);
                is_live
            })
        }
    }

    /// The same for the row that the foreign key's check has just locked; `None` where that is another one, or there is none.
    ///
    /// # Safety
    /// As of `is_live_in`.
    unsafe fn is_live_where_locked(
        &self,
        table: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
        keys: &[pg_sys::ScanKeyData],
    ) -> Option<bool> {
        unguarded! {
            fn GetHeapamTableAmRoutine() -> *const pg_sys::TableAmRoutine;
            fn heap_fetch(
                table: pg_sys::Relation,
                snapshot: pg_sys::Snapshot,
                row: pg_sys::HeapTuple,
                buffer: *mut pg_sys::Buffer,
                keep_buffer: bool,
            ) -> bool;
            fn heap_attisnull(
                row: pg_sys::HeapTuple,
                column: i32,
                shape: pg_sys::TupleDesc,
            ) -> bool;
            fn ReleaseBuffer(buffer: pg_sys::Buffer) -> ();
        }
        let mut row = pg_sys::HeapTupleData {
            t_self: locked_row::last(self.parent)?,
            ..Default::default()
        };
        // SAFETY: as the caller promises; the place is one of the table's, and the row good until its buffer is released.
        unsafe {
            let mut buffer = 0;
            if (*table).rd_tableam != GetHeapamTableAmRoutine()
                || !heap_fetch(table, snapshot, &raw mut row, &raw mut buffer, false)
            {
                return None;
            }
            let mut compared = self.pairs.iter().zip(keys);
            let has_key = compared.all(|(pair, key)| pair.is_in(&raw mut row, table, key));
            let is_live = heap_attisnull(&raw mut row, self.deleted_at, (*table).rd_att);
            ReleaseBuffer(buffer);
            has_key.then_some(is_live)
        }
    }

    /// # Safety
    /// The table is the parent, open and locked, and as it was found; an error is caught by a guard of the caller's.
    unsafe fn is_live_in(
        &self,
        table: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
        keys: &mut [pg_sys::ScanKeyData],
    ) -> bool {
        unguarded! {
            fn index_open(index: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> pg_sys::Relation;
            fn index_close(index: pg_sys::Relation, lock: pg_sys::LOCKMODE) -> ();
            fn index_getnext_slot(
                scan: pg_sys::IndexScanDesc,
                direction: pg_sys::ScanDirection::Type,
                slot: *mut pg_sys::TupleTableSlot,
            ) -> bool;
            fn index_endscan(scan: pg_sys::IndexScanDesc) -> ();
            fn table_slot_create(
                table: pg_sys::Relation,
                list: *mut *mut pg_sys::List,
            ) -> *mut pg_sys::TupleTableSlot;
            fn ExecFetchSlotHeapTuple(
                slot: *mut pg_sys::TupleTableSlot,
                materialize: bool,
                is_copy: *mut bool,
            ) -> pg_sys::HeapTuple;
            fn heap_attisnull(
                row: pg_sys::HeapTuple,
                column: i32,
                shape: pg_sys::TupleDesc,
            ) -> bool;
            fn ExecDropSingleTupleTableSlot(slot: *mut pg_sys::TupleTableSlot) -> ();
        }
        // SAFETY: as the caller promises; what the scan gives is a row of the table, good until the slot is dropped.
        unsafe {
            let index = index_open(self.index, READ);
            let scan = index_scan::begin_guarded(table, index, snapshot, keys);
            let slot = table_slot_create(table, std::ptr::null_mut());
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            let is_live = !index_getnext_slot(scan, forward, slot) || {
                let mut is_copy = false;
                let row = ExecFetchSlotHeapTuple(slot, false, &raw mut is_copy);
                heap_attisnull(row, self.deleted_at, (*table).rd_att)
            };
            ExecDropSingleTupleTableSlot(slot);
            index_endscan(scan);
            index_close(index, KEEP_LOCK);
            is_live
        }
    }
}

impl Pair {
    /// Whether a row of the referred table has the key's value, by the bit.
    ///
    /// # Safety
    /// The row is one of the table's, which is open; an error is caught by a guard of the caller's.
    unsafe fn is_in(
        &self,
        row: pg_sys::HeapTuple,
        table: pg_sys::Relation,
        key: &pg_sys::ScanKeyData,
    ) -> bool {
        unguarded! {
            fn SPI_getbinval(
                row: pg_sys::HeapTuple,
                shape: pg_sys::TupleDesc,
                number: i32,
                is_null: *mut bool,
            ) -> pg_sys::Datum;
            fn datumIsEqual(
                one: pg_sys::Datum,
                another: pg_sys::Datum,
                by_value: bool,
                length: i32,
            ) -> bool;
        }
        let mut is_null = true;
        // SAFETY: as the caller promises; the key's value is of the column's type.
        unsafe {
            let value = SPI_getbinval(
                row,
                (*table).rd_att,
                i32::from(self.parent),
                &raw mut is_null,
            );
            !is_null
                && datumIsEqual(
                    value,
                    key.sk_argument,
                    self.by_value,
                    i32::from(self.length),
                )
        }
    }
}

/// The columns of a foreign key; `None` where they are not compared as both tables have them, by types that are compared here.
fn pairs(
    child: &pg_sys::RelationData,
    parent: &pg_sys::RelationData,
    key: &pg_sys::ForeignKeyCacheInfo,
) -> Option<Vec<Pair>> {
    // SAFETY: the descriptors of open relations, which are not released here.
    let (child, parent) = unsafe {
        (
            PgTupleDesc::from_pg_unchecked(child.rd_att),
            PgTupleDesc::from_pg_unchecked(parent.rd_att),
        )
    };
    let at = |number: i16| usize::try_from(number - 1).ok();
    let numbers = key.conkey.iter().zip(&key.confkey).zip(&key.conpfeqop);
    let pairs = numbers.take(usize::try_from(key.nkeys).ok()?);
    pairs
        .map(|((referring, referred), equals)| {
            let (from, to) = (child.get(at(*referring)?)?, parent.get(at(*referred)?)?);
            let is_plain = TYPES.contains(&from.atttypid)
                && from.atttypid == to.atttypid
                && from.attcollation == to.attcollation;
            is_plain.then(|| Pair {
                child: (i32::from(*referring), from.atttypid),
                parent: *referred,
                collation: to.attcollation,
                by_value: to.attbyval,
                length: to.attlen,
                equals: *equals,
            })
        })
        .collect()
}

/// Whether a constraint may be deferred; `None` where it is gone.
fn is_deferrable(constraint: pg_sys::Oid) -> Option<bool> {
    // SAFETY: looks into the system's caches, within a transaction; an entry begins with the constraint's fixed columns.
    unsafe {
        let entry = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::CONSTROID as _,
            pg_sys::Datum::from(constraint),
        );
        let row = entry.as_ref()?.t_data;
        let begin = usize::from((*row).t_hoff);
        let form = row.cast::<u8>().add(begin);
        let is_deferrable = (*form.cast::<pg_sys::FormData_pg_constraint>()).condeferrable;
        pg_sys::ReleaseSysCache(entry);
        Some(is_deferrable)
    }
}

/// For each column of an index, the pair, and what to look for; `None` where it is not a unique index of just the referred columns.
///
/// # Safety
/// The index is open.
unsafe fn keys_of(
    index: &pg_sys::RelationData,
    pairs: &[Pair],
) -> Option<(Vec<Pair>, Vec<pg_sys::ScanKeyData>)> {
    // SAFETY: an open index has an entry of pg_index and, for each key column, a family, a type and a collation.
    unsafe {
        let form = index.rd_index.as_ref()?;
        let is_plain = form.indisunique
            && form.indisvalid
            && form.indimmediate
            && (*index.rd_rel).relam == pg_sys::BTREE_AM_OID
            && usize::try_from(form.indnkeyatts) == Ok(pairs.len())
            && pg_sys::RelationGetIndexPredicate(std::ptr::from_ref(index).cast_mut()).is_null();
        if !is_plain {
            return None;
        }
        let numbers = form.indkey.values.as_slice(pairs.len());
        let found = numbers.iter().enumerate().map(|(place, number)| {
            let pair = pairs.iter().find(|pair| pair.parent == *number)?;
            Some((*pair, key(index, place, pair)?))
        });
        found.collect()
    }
}

/// What to look for in a column of an index, counted from 0.
///
/// # Safety
/// The index is open, and has the column.
unsafe fn key(
    index: &pg_sys::RelationData,
    place: usize,
    pair: &Pair,
) -> Option<pg_sys::ScanKeyData> {
    // SAFETY: as the caller promises. What the key's function keeps is kept as long as the key may be.
    unsafe {
        let collation = *index.rd_indcollation.add(place);
        let compared = *index.rd_opcintype.add(place);
        let strategy = pg_sys::BTEqualStrategyNumber as i16;
        let family = *index.rd_opfamily.add(place);
        let equals = pg_sys::get_opfamily_member(family, compared, compared, strategy);
        // An index of another collation has other values equal than the reference.
        if equals == pg_sys::InvalidOid
            || equals != pair.equals
            || collation != pair.collation
            || u32::from(equals) >= FIRST_FOREIGN
        {
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
                collation,
                pg_sys::get_opcode(equals),
                pg_sys::Datum::from(0_usize),
            );
            Some(key)
        })
    }
}
