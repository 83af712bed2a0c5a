//! Rows of one table or partition that are written together, as `CopyMultiInsertBufferFlush` does (copyfrom.c).

use std::ptr::null_mut;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::postgres::slot::clear;

/// Rows for one table or partition that are written together.
pub struct RowBatch {
    /// The table or partition.
    pub relation: *mut pg_sys::ResultRelInfo,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    used: usize,
    bulk: *mut pg_sys::BulkInsertStateData,
}

impl RowBatch {
    /// An empty one.
    ///
    /// # Safety
    /// The relation is open, and stays so until the batch is released.
    pub unsafe fn new(relation: *mut pg_sys::ResultRelInfo) -> Self {
        Self {
            relation,
            slots: Vec::new(),
            used: 0,
            // SAFETY: takes memory in the current context and a resource of the transaction.
            bulk: unsafe { pg_sys::GetBulkInsertState() },
        }
    }

    /// A free slot for a row of the relation. It is free until [`keep`](Self::keep) is called.
    pub fn free_slot(&mut self) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: the relation is open; the slot lives as long as the executor state, or until the batch is released.
        unsafe {
            let table = (*self.relation).ri_RelationDesc;
            if self.used == self.slots.len() {
                let slot = pg_sys::table_slot_create(table, null_mut());
                self.slots.push(slot);
            }
            // In range: there is one more than are used.
            let slot = self.slots[self.used];
            (*slot).tts_tableOid = (*table).rd_id;
            slot
        }
    }

    /// Counts the free slot as one that holds a row to be written.
    pub fn keep(&mut self) {
        self.used += 1;
    }

    /// Writes the rows, and queues their AFTER triggers.
    ///
    /// # Safety
    /// The kept slots hold rows of the relation, and the executor state is the one that it was opened in.
    pub unsafe fn write(
        &mut self,
        estate: *mut pg_sys::EState,
        command: pg_sys::CommandId,
        transition: *mut pg_sys::TransitionCaptureState,
    ) {
        if self.used == 0 {
            return;
        }
        // SAFETY: the first `used` slots hold rows of the relation; memory that the table's access method leaks is that
        // of one row, as in CopyMultiInsertBufferFlush.
        unsafe {
            let table = (*self.relation).ri_RelationDesc;
            let count = i32::try_from(self.used).unwrap_or(0);
            let before = pg_sys::MemoryContextSwitchTo(per_row_memory(estate));
            if let Some(multi_insert) = (*table).rd_tableam.as_ref().and_then(|am| am.multi_insert)
            {
                let slots = self.slots.as_mut_ptr();
                pg_guard_ffi_boundary(|| multi_insert(table, slots, count, command, 0, self.bulk));
            }
            pg_sys::MemoryContextSwitchTo(before);
            let triggers = (*self.relation).ri_TrigDesc.as_ref();
            let fires = triggers.is_some_and(|triggers| {
                triggers.trig_insert_after_row || triggers.trig_insert_new_table
            });
            for slot in &self.slots[..self.used] {
                let mut recheck = null_mut();
                if (*self.relation).ri_NumIndices > 0 {
                    recheck = insert_index_entries(self.relation, *slot, estate);
                }
                if fires {
                    pg_sys::ExecARInsertTriggers(estate, self.relation, *slot, recheck, transition);
                }
                if !recheck.is_null() {
                    pg_sys::list_free(recheck);
                }
                clear(*slot);
            }
        }
        self.used = 0;
    }

    /// Lets go of its slots.
    pub fn release(self) {
        // SAFETY: made by `new` and `free_slot`, empty, and used by nobody else.
        unsafe {
            for slot in self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::FreeBulkInsertState(self.bulk);
        }
    }
}

/// Memory for what is computed of one row (GetPerTupleMemoryContext in executor.h).
///
/// # Safety
/// The executor state is valid.
pub unsafe fn per_row_memory(estate: *mut pg_sys::EState) -> pg_sys::MemoryContext {
    // SAFETY: the executor state is ours; the context is made in its memory when it is asked for first.
    unsafe {
        let context = (*estate).es_per_tuple_exprcontext;
        let context = if context.is_null() {
            pg_sys::MakePerTupleExprContext(estate)
        } else {
            context
        };
        (*context).ecxt_per_tuple_memory
    }
}

#[cfg(feature = "pg15")]
unsafe fn insert_index_entries(
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) -> *mut pg_sys::List {
    // SAFETY: the slot's row has just been written to the relation, whose indexes are open.
    unsafe {
        pg_sys::ExecInsertIndexTuples(relation, slot, estate, false, false, null_mut(), null_mut())
    }
}

#[cfg(feature = "pg19")]
unsafe fn insert_index_entries(
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) -> *mut pg_sys::List {
    // SAFETY: the slot's row has just been written to the relation, whose indexes are open.
    unsafe { pg_sys::ExecInsertIndexTuples(relation, estate, 0, slot, null_mut(), null_mut()) }
}

#[cfg(not(any(feature = "pg15", feature = "pg19")))]
unsafe fn insert_index_entries(
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) -> *mut pg_sys::List {
    // SAFETY: the slot's row has just been written to the relation, whose indexes are open.
    unsafe {
        pg_sys::ExecInsertIndexTuples(
            relation,
            slot,
            estate,
            false,
            false,
            null_mut(),
            null_mut(),
            false,
        )
    }
}
