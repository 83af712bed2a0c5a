//! Looks at the row that another refers to through the index of its key, without a query: for one row, to start a query takes longer than all
//! the rest. PostgreSQL 19 checks foreign keys so.
//!
//! It answers for types of PostgreSQL's own alone, whose comparisons are known and are nobody else's code. For all else a query
//! asks.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::tupdesc::PgTupleDesc;

use crate::call::trigger_row::Row;
use crate::model::reference::{Kind, Reference};
use crate::model::table::Table;
use crate::postgres::pg_list::oids;

const READ: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// Types that are compared here. Equal values of a type and its index are found by the type's own operator.
const TYPES: [pg_sys::Oid; 6] = [
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::UUIDOID,
    pg_sys::TEXTOID,
    pg_sys::VARCHAROID,
];

/// A value of a referring column, and the column that it refers to.
struct Term {
    parent_column: CString,
    type_oid: pg_sys::Oid,
    value: pg_sys::Datum,
}

/// Whether the row that `row` refers to is deleted, as it is committed *now*, or as this transaction has it. `None` where that is not for
/// this way to say.
pub fn refers_to_deleted(row: Row<'_>, reference: &Reference, parent: &Table) -> Option<bool> {
    let of_known_form = matches!(reference.kind, Kind::ForeignKey)
        && !reference.deferrable
        && !reference.lost
        && !parent.partitioned
        && reference.pairs.len() <= pg_sys::INDEX_MAX_KEYS as usize;
    if !of_known_form {
        return None;
    }
    let marks = parent.marks?;
    let mut terms = Vec::with_capacity(reference.pairs.len());
    for pair in &reference.pairs {
        if pair.collation.is_some() || pair.parent_type.is_some() {
            return None;
        }
        let value = row.argument(&pair.child.0).ok()?;
        if !TYPES.contains(&value.oid()) {
            return None;
        }
        // One NULL, and it refers to nothing.
        let Some(datum) = value.datum() else {
            return Some(false);
        };
        terms.push(Term {
            parent_column: CString::new(pair.parent.0.as_str()).ok()?,
            type_oid: value.oid(),
            value: datum.sans_lifetime(),
        });
    }
    Parent::open(parent.oid)?.has_deleted(&terms, marks)
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
    fn has_deleted(&self, terms: &[Term], marks: [i16; 2]) -> Option<bool> {
        let index = self.index(terms)?;
        let mut keys = index.keys;
        // SAFETY: the relation is open, and the index one of its own; what the scan gives is a row of the relation, good until the scan ends. An error
        // closes all of it with the transaction's resources.
        unsafe {
            // What this statement has done is to be seen as well.
            pg_sys::CommandCounterIncrement();
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let count = i32::try_from(keys.len()).ok()?;
            let scan = pg_sys::systable_beginscan(
                self.0,
                index.oid,
                true,
                snapshot,
                count,
                keys.as_mut_ptr(),
            );
            let row = Row::of_relation(&*self.0, pg_sys::systable_getnext(scan));
            let is_deleted = match row {
                // The columns may have been exchanged for others: a query says what is wrong.
                Some(row) => row.marks(marks).map(|marks| !marks.are_null()[0]),
                None => Some(false),
            };
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            is_deleted
        }
    }

    /// A unique index of just these columns.
    fn index(&self, terms: &[Term]) -> Option<KeyIndex> {
        // SAFETY: the relation is open; the list is a copy.
        let mut indexes = unsafe { oids(pg_sys::RelationGetIndexList(self.0)) };
        indexes.find_map(|index| self.keys_of(index, terms))
    }

    /// What to look for in the index, if it is of these columns.
    fn keys_of(&self, oid: pg_sys::Oid, terms: &[Term]) -> Option<KeyIndex> {
        // SAFETY: the index is one of an open and locked relation; it is closed again on every way, and what is read of it is there as long as it is
        // open.
        unsafe {
            let opened = pg_sys::index_open(oid, READ);
            let keys = self.scan_keys(&*opened, terms);
            pg_sys::index_close(opened, READ);
            Some(KeyIndex { oid, keys: keys? })
        }
    }

    /// # Safety
    /// The index is one of this relation's, and open.
    unsafe fn scan_keys(
        &self,
        opened: &pg_sys::RelationData,
        terms: &[Term],
    ) -> Option<Vec<pg_sys::ScanKeyData>> {
        // SAFETY: an open index has an entry of pg_index and, for each key column, a family, a type and a collation.
        unsafe {
            let form = opened.rd_index.as_ref()?;
            let is_plain = form.indisunique
                && form.indisvalid
                && form.indimmediate
                && (*opened.rd_rel).relam == pg_sys::BTREE_AM_OID
                && usize::try_from(form.indnkeyatts) == Ok(terms.len())
                && pg_sys::RelationGetIndexPredicate(std::ptr::from_ref(opened).cast_mut())
                    .is_null();
            if !is_plain {
                return None;
            }
            let columns = form.indkey.values.as_slice(terms.len());
            let shape = PgTupleDesc::from_pg_unchecked((*self.0).rd_att);
            let mut keys = Vec::with_capacity(terms.len());
            for (place, number) in columns.iter().enumerate() {
                let column = shape.get(usize::try_from(*number - 1).ok()?)?;
                let name = CStr::from_ptr(column.attname.data.as_ptr());
                let term = terms
                    .iter()
                    .find(|term| term.parent_column.as_c_str() == name)?;
                if column.atttypid != term.type_oid {
                    return None;
                }
                let compared = *opened.rd_opcintype.add(place);
                let strategy = pg_sys::BTEqualStrategyNumber as i16;
                let family = *opened.rd_opfamily.add(place);
                let equals = pg_sys::get_opfamily_member(family, compared, compared, strategy);
                if equals == pg_sys::InvalidOid || u32::from(equals) >= FIRST_FOREIGN {
                    return None;
                }
                let mut key = pg_sys::ScanKeyData::default();
                pg_sys::ScanKeyEntryInitialize(
                    &raw mut key,
                    0,
                    *number,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::InvalidOid,
                    *opened.rd_indcollation.add(place),
                    pg_sys::get_opcode(equals),
                    term.value,
                );
                keys.push(key);
            }
            Some(keys)
        }
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        // SAFETY: open since `open`; the lock stays to the end of the transaction, as that of a foreign key's check does.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::table_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
    }
}

/// From here on, OIDs are of what was not there in the beginning.
const FIRST_FOREIGN: u32 = pg_sys::FirstNormalObjectId;

/// An index, and what to look for in it.
struct KeyIndex {
    oid: pg_sys::Oid,
    keys: Vec<pg_sys::ScanKeyData>,
}
