//! A table that rows are written to: each to its partition, computed and checked as an INSERT does, and then in batches.

use std::collections::HashSet;

use pgrx::pg_sys;

use crate::call::own_triggers::{self, Carrier};
use crate::model::error::{Failure, Outcome};
use crate::postgres::node::node;
use crate::postgres::slot::{clear, materialize};
use crate::postgres::table_triggers;
use crate::restore_archived::row_batch::{RowBatch, per_row_memory};
use crate::run_as::role;

/// A table that rows come back to.
#[derive(Debug)]
pub struct Target {
    /// Its OID; locked by now against changes of the schema.
    pub oid: pg_sys::Oid,
    /// Its name, for messages.
    pub shown: String,
    /// Whether its own AFTER INSERT triggers fire.
    pub fires: bool,
    /// Whether its guards do not: the rows refer to deleted ones that come back next.
    pub unguarded: bool,
    /// Foreign keys, partitions' copies among them, that the restore checks for all rows at once: their triggers do not fire.
    pub checked: HashSet<pg_sys::Oid>,
    /// The number of the column that each column of the query gives.
    pub columns: Vec<i16>,
}

/// How many rows are written at a time (`MAX_BUFFERED_TUPLES` in copyfrom.c).
const BATCH: usize = 1000;
/// How many partitions keep their empty slots from one batch to the next (`MAX_PARTITION_BUFFERS` in copyfrom.c).
const KEPT_BATCHES: usize = 32;

/// One table being written.
pub struct WrittenTable<'target> {
    estate: *mut pg_sys::EState,
    target: &'target Target,
    relation: *mut pg_sys::ResultRelInfo,
    routing: Option<Routing>,
    batches: Vec<RowBatch>,
    waiting: usize,
    command: pg_sys::CommandId,
    transition: *mut pg_sys::TransitionCaptureState,
    /// How many rows it has had.
    pub written: u64,
}

/// Finds the partition of each row.
struct Routing {
    state: *mut pg_sys::ModifyTableState,
    partitions: *mut pg_sys::PartitionTupleRouting,
    slot: *mut pg_sys::TupleTableSlot,
    /// Partitions whose triggers have been looked at.
    seen: HashSet<*mut pg_sys::ResultRelInfo>,
}

impl<'target> WrittenTable<'target> {
    /// Opens it.
    ///
    /// # Safety
    /// The executor state's range table has an entry with this number for the target, whose table is locked.
    pub unsafe fn open(
        estate: *mut pg_sys::EState,
        target: &'target Target,
        number: u32,
    ) -> Outcome<Self> {
        // SAFETY: the range table has that entry, whose table is locked; memory as in `Level::begin`.
        unsafe {
            let relation: *mut pg_sys::ResultRelInfo = node(pg_sys::NodeTag::T_ResultRelInfo);
            pg_sys::ExecInitResultRelation(estate, relation, number);
            let table = (*relation).ri_RelationDesc;
            let kind = (*(*table).rd_rel).relkind as u8;
            settle_triggers(relation, target);
            let routing = if kind == pg_sys::RELKIND_PARTITIONED_TABLE {
                Some(Routing::open(estate, relation))
            } else if kind == pg_sys::RELKIND_RELATION {
                pg_sys::ExecOpenIndices(relation, false);
                None
            } else {
                return Err(Failure::Exchanged {
                    relation: target.oid.to_u32(),
                });
            };
            let transition = pg_sys::MakeTransitionCaptureState(
                (*relation).ri_TrigDesc,
                target.oid,
                pg_sys::CmdType::CMD_INSERT,
            );
            Ok(Self {
                estate,
                target,
                relation,
                routing,
                batches: Vec::new(),
                waiting: 0,
                command: pg_sys::GetCurrentCommandId(true),
                transition,
                written: 0,
            })
        }
    }

    /// Refuses a query whose columns are not of the table's types.
    ///
    /// # Safety
    /// The descriptor is valid.
    pub unsafe fn check_types(&self, given: pg_sys::TupleDesc) -> Outcome<()> {
        // SAFETY: the relation is open, and both descriptors valid.
        unsafe {
            let table = (*(*self.relation).ri_RelationDesc).rd_att;
            let natts = usize::try_from((*given).natts).unwrap_or(0);
            let fit = natts == self.target.columns.len()
                && self.target.columns.iter().enumerate().all(|(n, column)| {
                    let place = usize::try_from(*column).unwrap_or(0).wrapping_sub(1);
                    place < usize::try_from((*table).natts).unwrap_or(0)
                        && type_of(given, n) == type_of(table, place)
                });
            if fit {
                Ok(())
            } else {
                Err(Failure::Exchanged {
                    relation: self.target.oid.to_u32(),
                })
            }
        }
    }

    /// Takes one row of the query.
    ///
    /// # Safety
    /// The slot holds a row of the query, whose columns [`check_types`](Self::check_types) has found to be the table's.
    pub unsafe fn take(&mut self, source: *mut pg_sys::TupleTableSlot) -> Outcome<()> {
        // SAFETY: the slot holds a row of the query, valid until we return; by then the row has been copied. The slots
        // written to were made for the relations that they are used with.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
            pg_sys::MemoryContextReset(per_row_memory(self.estate));
            let given = self.target.columns.len();
            if usize::try_from((*source).tts_nvalid).unwrap_or(0) < given {
                pg_sys::slot_getsomeattrs_int(source, i32::try_from(given).unwrap_or(0));
            }
            let (relation, slot) = match self.routing.take() {
                None => {
                    let slot = self.next_slot(self.relation);
                    self.spread(source, slot);
                    (self.relation, slot)
                }
                Some(mut routing) => {
                    self.spread(source, routing.slot);
                    let found = self.route(&mut routing);
                    self.routing = Some(routing);
                    found?
                }
            };
            self.check(relation, slot);
            materialize(slot);
            let is_its = |batch: &&mut RowBatch| batch.relation == relation;
            if let Some(batch) = self.batches.iter_mut().find(is_its) {
                batch.keep();
            }
            self.waiting += 1;
            if self.waiting >= BATCH {
                self.flush();
            }
            pg_sys::MemoryContextSwitchTo(before);
        }
        Ok(())
    }

    /// Puts the values of the query's row where the table has them; all other columns are NULL.
    unsafe fn spread(
        &self,
        source: *mut pg_sys::TupleTableSlot,
        slot: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: `check_types` has found the numbers to be those of columns; the slot has a place for each.
        unsafe {
            clear(slot);
            let natts = usize::try_from((*(*slot).tts_tupleDescriptor).natts).unwrap_or(0);
            std::slice::from_raw_parts_mut((*slot).tts_isnull, natts).fill(true);
            for (n, column) in self.target.columns.iter().enumerate() {
                let place = usize::try_from(*column).unwrap_or(0).wrapping_sub(1);
                *(*slot).tts_values.add(place) = *(*source).tts_values.add(n);
                *(*slot).tts_isnull.add(place) = *(*source).tts_isnull.add(n);
            }
            pg_sys::ExecStoreVirtualTuple(slot);
        }
    }

    /// The partition of the row in the routing's slot, and a slot of the partition's with it.
    unsafe fn route(
        &mut self,
        routing: &mut Routing,
    ) -> Outcome<(*mut pg_sys::ResultRelInfo, *mut pg_sys::TupleTableSlot)> {
        // SAFETY: as CopyFrom: the routing was set up for this table.
        unsafe {
            let partition = pg_sys::ExecFindPartition(
                routing.state,
                self.relation,
                routing.partitions,
                routing.slot,
                self.estate,
            );
            if !(*partition).ri_FdwRoutine.is_null() {
                return Err(Failure::ForeignPartition {
                    table: self.target.shown.clone(),
                });
            }
            if routing.seen.insert(partition) {
                settle_triggers(partition, self.target);
            }
            #[cfg(feature = "pg15")]
            let map = (*partition).ri_RootToPartitionMap;
            #[cfg(not(feature = "pg15"))]
            let map = pg_sys::ExecGetRootToChildMap(partition, self.estate);
            let slot = self.next_slot(partition);
            if map.is_null() {
                let natts = usize::try_from((*(*slot).tts_tupleDescriptor).natts).unwrap_or(0);
                clear(slot);
                std::ptr::copy_nonoverlapping(
                    (*routing.slot).tts_values,
                    (*slot).tts_values,
                    natts,
                );
                std::ptr::copy_nonoverlapping(
                    (*routing.slot).tts_isnull,
                    (*slot).tts_isnull,
                    natts,
                );
                pg_sys::ExecStoreVirtualTuple(slot);
            } else {
                pg_sys::execute_attr_map_slot((*map).attrMap, routing.slot, slot);
            }
            Ok((partition, slot))
        }
    }

    /// A free slot for a row of the relation.
    unsafe fn next_slot(
        &mut self,
        relation: *mut pg_sys::ResultRelInfo,
    ) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: the relation is open; the slot lives as long as the executor state, or until it is dropped in `flush`.
        unsafe {
            let place = self
                .batches
                .iter()
                .position(|batch| batch.relation == relation);
            let place = place.unwrap_or_else(|| {
                self.batches.push(RowBatch::new(relation));
                self.batches.len() - 1
            });
            // In range: found or pushed just now.
            self.batches[place].free_slot()
        }
    }

    /// What an INSERT computes and checks of a row before it writes it.
    unsafe fn check(
        &self,
        relation: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: the slot holds a row of the relation, as CopyFrom has it at this point.
        unsafe {
            let table = (*relation).ri_RelationDesc;
            if let Some(constraints) = (*(*table).rd_att).constr.as_ref() {
                if constraints.has_generated_stored {
                    pg_sys::ExecComputeStoredGenerated(
                        relation,
                        self.estate,
                        slot,
                        pg_sys::CmdType::CMD_INSERT,
                    );
                }
                pg_sys::ExecConstraints(relation, slot, self.estate);
            }
            // Of a partition that was found by routing PostgreSQL has checked it.
            if self.routing.is_none() && (*(*table).rd_rel).relispartition {
                pg_sys::ExecPartitionCheck(relation, slot, self.estate, true);
            }
        }
    }

    /// Writes the rows that wait.
    unsafe fn flush(&mut self) {
        // SAFETY: as CopyMultiInsertBufferFlush: the slots hold rows of the buffer's relation.
        unsafe {
            for batch in &mut self.batches {
                batch.write(self.estate, self.command, self.transition);
            }
            self.written += self.waiting as u64;
            self.waiting = 0;
            if self.batches.len() > KEPT_BATCHES {
                self.batches.drain(..).for_each(RowBatch::release);
            }
        }
    }

    /// Writes the rest, and fires or queues the triggers of the statement.
    ///
    /// # Safety
    /// The table's trigger level is open.
    pub unsafe fn finish(&mut self) {
        // SAFETY: as the end of CopyFrom.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
            self.flush();
            self.batches.drain(..).for_each(RowBatch::release);
            if self.written > 0 {
                pg_sys::ExecASInsertTriggers(self.estate, self.relation, self.transition);
            }
            pg_sys::MemoryContextSwitchTo(before);
        }
    }

    /// Closes what was opened for its partitions.
    ///
    /// # Safety
    /// No row is written any more.
    pub unsafe fn close(&mut self) {
        if let Some(routing) = self.routing.take() {
            // SAFETY: opened by `Routing::open`; no row is routed any more.
            unsafe { pg_sys::ExecCleanupTupleRouting(routing.state, routing.partitions) };
        }
    }
}

impl Routing {
    unsafe fn open(estate: *mut pg_sys::EState, relation: *mut pg_sys::ResultRelInfo) -> Self {
        // SAFETY: as CopyFrom, which needs such a state for the routing alone.
        unsafe {
            let state: *mut pg_sys::ModifyTableState = node(pg_sys::NodeTag::T_ModifyTableState);
            (*state).ps.state = estate;
            (*state).operation = pg_sys::CmdType::CMD_INSERT;
            (*state).mt_nrels = 1;
            (*state).resultRelInfo = relation;
            (*state).rootResultRelInfo = relation;
            let table = (*relation).ri_RelationDesc;
            Self {
                state,
                partitions: pg_sys::ExecSetupPartitionTupleRouting(estate, table),
                slot: pg_sys::table_slot_create(table, &raw mut (*estate).es_tupleTable),
                seen: HashSet::new(),
            }
        }
    }
}

/// Decides which triggers fire. What is changed is the executor's copy of them.
unsafe fn settle_triggers(relation: *mut pg_sys::ResultRelInfo, target: &Target) {
    // SAFETY: the triggers are NULL, or the copy that InitResultRelInfo made (CopyTriggerDesc), which holds that many.
    unsafe {
        let Some(description) = (*relation).ri_TrigDesc.as_mut() else {
            return;
        };
        let count = usize::try_from(description.numtriggers).unwrap_or(0);
        let triggers = std::slice::from_raw_parts_mut(description.triggers, count);
        let (mut fires, mut captures) = (false, false);
        for trigger in triggers {
            let checks = pg_sys::RI_FKey_trigger_type(trigger.tgfoid)
                == pg_sys::RI_TRIGGER_FK as i32
                && target.checked.contains(&trigger.tgconstraint);
            let guards = own_triggers::on(Carrier::Referring)
                .any(|own| own.name == table_triggers::name(trigger));
            let skipped = !target.fires
                && !trigger.tgisinternal
                && trigger.tgenabled as u8 != pg_sys::TRIGGER_FIRES_ALWAYS;
            let off = skipped || target.unguarded && guards;
            if checks || off {
                trigger.tgenabled = pg_sys::TRIGGER_DISABLED as _;
            }
            if role::is_restricted() {
                trigger.tgdeferrable = false;
                trigger.tginitdeferred = false;
            }
            let is_on = trigger.tgenabled as u8 != pg_sys::TRIGGER_DISABLED;
            fires |= is_on && trigger.tgtype & AFTER_INSERT_ROW_MASK == AFTER_INSERT_ROW;
            captures |= is_on && trigger.tgtype & INSERT != 0 && !trigger.tgnewtable.is_null();
        }
        description.trig_insert_after_row &= fires;
        description.trig_insert_new_table &= captures;
    }
}

/// For each row, before, on INSERT, instead of (src/include/catalog/pg_trigger.h).
const AFTER_INSERT_ROW_MASK: i16 = 1 | 2 | 4 | 64;
const AFTER_INSERT_ROW: i16 = 1 | INSERT;
const INSERT: i16 = 4;

unsafe fn type_of(descriptor: pg_sys::TupleDesc, place: usize) -> pg_sys::Oid {
    // SAFETY: the caller has seen that the descriptor has that column.
    unsafe { pg_sys::SPI_gettypeid(descriptor, i32::try_from(place + 1).unwrap_or(0)) }
}
