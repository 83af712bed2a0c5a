//! Writes rows past the executor: into the heap, and into every index of the table. No trigger fires, no constraint is
//! looked at, and nothing that the owner of a table wrote is run.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::tupdesc::PgTupleDesc;

use crate::archive::memory::Memory;
use crate::nodes::oids;

/// A table that is open to be written to.
pub struct Target {
    relation: pg_sys::Relation,
}

impl Target {
    /// Opens a table; `None` when it is gone.
    pub fn open(table: pg_sys::Oid) -> Option<Self> {
        // SAFETY: locks and opens the relation; an error closes it with the transaction's resources.
        let relation =
            unsafe { pg_sys::try_table_open(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
        (!relation.is_null()).then_some(Self { relation })
    }

    /// The shape of its rows.
    pub fn shape(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open as long as `self` lives.
        unsafe { (*self.relation).rd_att }
    }

    /// Writes one row: `value` gives that of each column, by its name; `None` is NULL.
    pub fn insert_named(&self, mut value: impl FnMut(&CStr) -> Option<pg_sys::Datum>) {
        // SAFETY: the shape of an open relation, which is not released here.
        let shape = unsafe { PgTupleDesc::from_pg_unchecked(self.shape()) };
        let (mut datums, mut nulls) = (Vec::new(), Vec::new());
        for column in shape.iter() {
            // SAFETY: a column's name is a string.
            let name = unsafe { CStr::from_ptr(column.attname.data.as_ptr()) };
            let datum = if column.attisdropped {
                None
            } else {
                value(name)
            };
            nulls.push(datum.is_none());
            datums.push(datum.unwrap_or(pg_sys::Datum::from(0_usize)));
        }
        // SAFETY: one value and one flag for each column, of its type as the caller says; the tuple is a copy.
        unsafe {
            let row =
                pg_sys::heap_form_tuple(self.shape(), datums.as_mut_ptr(), nulls.as_mut_ptr());
            self.insert(&[row]);
        }
    }

    /// Writes the rows, which are of this shape or of one with fewer columns.
    ///
    /// # Safety
    /// The tuples are valid, and stay so during the call.
    pub unsafe fn insert(&self, rows: &[pg_sys::HeapTuple]) {
        if rows.is_empty() {
            return;
        }
        Memory::passing(c"keepsake write").enter(|| {
            // SAFETY: the relation is open; the slots have its shape and hold the caller's tuples, which a slot does not
            // free; all of it outlives the calls that take it.
            unsafe {
                let mut slots: Vec<*mut pg_sys::TupleTableSlot> = rows
                    .iter()
                    .map(|row| {
                        let slot = pg_sys::MakeSingleTupleTableSlot(
                            self.shape(),
                            &raw const pg_sys::TTSOpsHeapTuple,
                        );
                        pg_sys::ExecStoreHeapTuple(*row, slot, false);
                        slot
                    })
                    .collect();
                pg_sys::heap_multi_insert(
                    self.relation,
                    slots.as_mut_ptr(),
                    i32::try_from(slots.len()).unwrap_or(i32::MAX),
                    pg_sys::GetCurrentCommandId(true),
                    0,
                    std::ptr::null_mut(),
                );
                self.insert_into_indexes(&slots);
                for slot in slots {
                    pg_sys::ExecDropSingleTupleTableSlot(slot);
                }
            }
        });
    }

    /// # Safety
    /// The slots hold rows of the relation, with the addresses at which they were written.
    unsafe fn insert_into_indexes(&self, slots: &[*mut pg_sys::TupleTableSlot]) {
        const MOST: usize = pg_sys::INDEX_MAX_KEYS as usize;
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        // SAFETY: as `ExecOpenIndices` and `ExecInsertIndexTuples` do (execIndexing.c), with a state of our own for
        // expressions and predicates.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let context = pg_sys::MakePerTupleExprContext(state);
            for index in oids(pg_sys::RelationGetIndexList(self.relation)) {
                let index = pg_sys::index_open(index, mode);
                let info = pg_sys::BuildIndexInfo(index);
                if (*info).ii_ReadyForInserts {
                    let predicate = pg_sys::ExecPrepareQual((*info).ii_Predicate, state);
                    let unique = if (*(*index).rd_index).indisunique {
                        pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
                    } else {
                        pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
                    };
                    for slot in slots {
                        (*context).ecxt_scantuple = *slot;
                        if !holds(predicate, context) {
                            continue;
                        }
                        let mut values = [pg_sys::Datum::from(0_usize); MOST];
                        let mut nulls = [false; MOST];
                        pg_sys::FormIndexDatum(
                            info,
                            *slot,
                            state,
                            values.as_mut_ptr(),
                            nulls.as_mut_ptr(),
                        );
                        pg_sys::index_insert(
                            index,
                            values.as_mut_ptr(),
                            nulls.as_mut_ptr(),
                            &raw mut (**slot).tts_tid,
                            self.relation,
                            unique,
                            false,
                            info,
                        );
                    }
                    clean_up(index, info);
                }
                pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
            pg_sys::FreeExecutorState(state);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: open since `open`. The lock stays to the end of the transaction. While an error unwinds, the
        // transaction's resources close it.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::table_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
    }
}

/// Whether the predicate of a partial index holds; one of any other index is NULL.
///
/// # Safety
/// The predicate is NULL or was prepared as a qualification, for rows of the kind that the context has.
unsafe fn holds(predicate: *mut pg_sys::ExprState, context: *mut pg_sys::ExprContext) -> bool {
    // SAFETY: as `ExecQual` does (executor.h), which is inline.
    unsafe {
        let Some(evaluate) = predicate.as_ref().and_then(|state| state.evalfunc) else {
            return true;
        };
        let mut is_null = false;
        pg_guard_ffi_boundary(|| evaluate(predicate, context, &raw mut is_null)).value() != 0
    }
}

/// Lets go of what the index keeps between rows.
#[cfg(any(feature = "pg17", feature = "pg18"))]
unsafe fn clean_up(index: pg_sys::Relation, info: *mut pg_sys::IndexInfo) {
    // SAFETY: both were used for the rows just inserted.
    unsafe { pg_sys::index_insert_cleanup(index, info) }
}

/// Lets go of what the index keeps between rows.
#[cfg(not(any(feature = "pg17", feature = "pg18")))]
unsafe fn clean_up(_index: pg_sys::Relation, _info: *mut pg_sys::IndexInfo) {}
