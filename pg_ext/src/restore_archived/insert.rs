//! Writes rows back as COPY FROM does (`copyfrom.c`): in batches, without BEFORE triggers, rules, defaults or identity
//! sequences, so that a row is what it was; with constraints, generated columns, indexes, partitions and AFTER triggers.
//!
//! All tables are written at one level of PostgreSQL's trigger queue: no AFTER trigger fires before every row is there.
//! An error leaves everything to the abort of the subtransaction that the caller has opened.

use std::collections::HashSet;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::null_mut;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::call::own_triggers::{self, Carrier};
use crate::model::error::{Failure, Outcome, raise_unless_ok};
use crate::postgres::table_triggers;
use crate::run_as::role;
use crate::spi::session::Session;

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
const KEPT_BUFFERS: usize = 32;

/// A level of the trigger queue with the tables that are written at it.
pub struct Level<'targets> {
    estate: *mut pg_sys::EState,
    tables: Vec<Into<'targets>>,
}

impl<'targets> Level<'targets> {
    /// Opens the tables. To be done in a subtransaction, which clears away what an error leaves behind.
    pub fn begin(targets: &'targets [Target]) -> Outcome<Self> {
        // SAFETY: as `CopyFrom` and `BeginCopyFrom` do. The memory is that of the executor state, which `end` frees, or
        // the abort of the surrounding (sub)transaction.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let before = pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            open_range_table(estate, targets);
            pg_sys::AfterTriggerBeginQuery();
            let opened = targets
                .iter()
                .zip(1..)
                .map(|(target, number)| Into::open(estate, target, number))
                .collect::<Outcome<Vec<_>>>();
            pg_sys::MemoryContextSwitchTo(before);
            Ok(Self {
                estate,
                tables: opened?,
            })
        }
    }

    /// Writes the rows that a query gives to the table with this index among the targets; answers with how many.
    ///
    /// The query must be a plain SELECT: PostgreSQL gives no such one a level of the trigger queue of its own.
    pub fn fill(&mut self, session: &mut Session<'_, '_>, table: usize, sql: &str) -> Outcome<u64> {
        let Some(into) = self.tables.get_mut(table) else {
            return Ok(0);
        };
        let mut receiver = Receiver::new(into);
        // SAFETY: the receiver outlives the execution, which is the only one to use it.
        unsafe {
            session.send_archived(sql, (&raw mut receiver).cast())?;
            into.finish();
        }
        Ok(into.written)
    }

    /// Fires the AFTER triggers, and closes the tables.
    pub fn end(mut self) {
        // SAFETY: as the end of `CopyFrom`; nothing uses the state any more.
        unsafe {
            pg_sys::AfterTriggerEndQuery(self.estate);
            pg_sys::ExecResetTupleTable((*self.estate).es_tupleTable, false);
            for table in &mut self.tables {
                table.close();
            }
            pg_sys::ExecCloseResultRelations(self.estate);
            pg_sys::ExecCloseRangeTableRelations(self.estate);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// A node of PostgreSQL's, empty.
unsafe fn node<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: every node begins with its tag, and is valid when the rest of it is zero (makeNode in nodes.h).
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>());
        node.cast::<pg_sys::NodeTag>().write(tag);
        node.cast()
    }
}

/// One entry for each table: messages about a row ask it which columns may be shown.
unsafe fn open_range_table(estate: *mut pg_sys::EState, targets: &[Target]) {
    // SAFETY: the caller has switched to memory that lives as long as the executor state.
    unsafe {
        let mut entries: *mut pg_sys::List = null_mut();
        #[cfg(not(feature = "pg15"))]
        let mut rights: *mut pg_sys::List = null_mut();
        for target in targets {
            let entry: *mut pg_sys::RangeTblEntry = node(pg_sys::NodeTag::T_RangeTblEntry);
            (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
            (*entry).relid = target.oid;
            (*entry).relkind = pg_sys::get_rel_relkind(target.oid);
            (*entry).rellockmode = pg_sys::RowExclusiveLock as i32;
            #[cfg(feature = "pg15")]
            {
                (*entry).requiredPerms = pg_sys::ACL_INSERT;
            }
            #[cfg(not(feature = "pg15"))]
            {
                let info = pg_sys::addRTEPermissionInfo(&raw mut rights, entry);
                (*info).requiredPerms = pg_sys::ACL_INSERT as u64;
            }
            entries = pg_sys::lappend(entries, entry.cast());
        }
        #[cfg(feature = "pg15")]
        pg_sys::ExecInitRangeTable(estate, entries);
        #[cfg(any(feature = "pg16", feature = "pg17"))]
        pg_sys::ExecInitRangeTable(estate, entries, rights);
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        {
            let all = (1..).take(targets.len()).fold(null_mut(), |set, number| {
                pg_sys::bms_add_member(set, number)
            });
            pg_sys::ExecInitRangeTable(estate, entries, rights, all);
        }
    }
}

/// Rows for one table or partition that are written together.
struct Buffer {
    relation: *mut pg_sys::ResultRelInfo,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    used: usize,
    bulk: *mut pg_sys::BulkInsertStateData,
}

/// One table being written.
struct Into<'target> {
    estate: *mut pg_sys::EState,
    target: &'target Target,
    relation: *mut pg_sys::ResultRelInfo,
    routing: Option<Routing>,
    buffers: Vec<Buffer>,
    buffered: usize,
    command: pg_sys::CommandId,
    transition: *mut pg_sys::TransitionCaptureState,
    written: u64,
}

/// Finds the partition of each row.
struct Routing {
    state: *mut pg_sys::ModifyTableState,
    partitions: *mut pg_sys::PartitionTupleRouting,
    slot: *mut pg_sys::TupleTableSlot,
    /// Partitions whose triggers have been looked at.
    seen: HashSet<*mut pg_sys::ResultRelInfo>,
}

impl<'target> Into<'target> {
    unsafe fn open(
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
            let transition = if target.fires {
                pg_sys::MakeTransitionCaptureState(
                    (*relation).ri_TrigDesc,
                    target.oid,
                    pg_sys::CmdType::CMD_INSERT,
                )
            } else {
                null_mut()
            };
            Ok(Self {
                estate,
                target,
                relation,
                routing,
                buffers: Vec::new(),
                buffered: 0,
                command: pg_sys::GetCurrentCommandId(true),
                transition,
                written: 0,
            })
        }
    }

    /// Refuses a query whose columns are not of the table's types.
    unsafe fn check_types(&self, given: pg_sys::TupleDesc) -> Outcome<()> {
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
    unsafe fn take(&mut self, source: *mut pg_sys::TupleTableSlot) -> Outcome<()> {
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
            if let Some(buffer) = self
                .buffers
                .iter_mut()
                .find(|buffer| buffer.relation == relation)
            {
                buffer.used += 1;
            }
            self.buffered += 1;
            if self.buffered >= BATCH {
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
                .buffers
                .iter()
                .position(|buffer| buffer.relation == relation);
            let place = place.unwrap_or_else(|| {
                self.buffers.push(Buffer {
                    relation,
                    slots: Vec::new(),
                    used: 0,
                    bulk: pg_sys::GetBulkInsertState(),
                });
                self.buffers.len() - 1
            });
            // In range: found or pushed just now.
            let buffer = &mut self.buffers[place];
            if buffer.used == buffer.slots.len() {
                let table = (*relation).ri_RelationDesc;
                buffer
                    .slots
                    .push(pg_sys::table_slot_create(table, null_mut()));
            }
            let slot = buffer.slots[buffer.used];
            (*slot).tts_tableOid = (*(*relation).ri_RelationDesc).rd_id;
            slot
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

    /// Writes what is buffered.
    unsafe fn flush(&mut self) {
        // SAFETY: as CopyMultiInsertBufferFlush: the slots hold rows of the buffer's relation.
        unsafe {
            for buffer in &mut self.buffers {
                buffer.write(self.estate, self.command, self.transition);
            }
            self.written += self.buffered as u64;
            self.buffered = 0;
            if self.buffers.len() > KEPT_BUFFERS {
                self.buffers.drain(..).for_each(|buffer| buffer.release());
            }
        }
    }

    /// Writes the rest, and fires or queues the triggers of the statement.
    unsafe fn finish(&mut self) {
        // SAFETY: as the end of CopyFrom.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
            self.flush();
            self.buffers.drain(..).for_each(|buffer| buffer.release());
            if self.target.fires && self.written > 0 {
                pg_sys::ExecASInsertTriggers(self.estate, self.relation, self.transition);
            }
            pg_sys::MemoryContextSwitchTo(before);
        }
    }

    unsafe fn close(&mut self) {
        if let Some(routing) = self.routing.take() {
            // SAFETY: opened by `Routing::open`; no row is routed any more.
            unsafe { pg_sys::ExecCleanupTupleRouting(routing.state, routing.partitions) };
        }
    }
}

impl Buffer {
    unsafe fn write(
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

    unsafe fn release(self) {
        // SAFETY: made by `next_slot`, empty, and used by nobody else.
        unsafe {
            for slot in self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::FreeBulkInsertState(self.bulk);
        }
    }
}

/// Memory for what is computed of one row (GetPerTupleMemoryContext in executor.h).
unsafe fn per_row_memory(estate: *mut pg_sys::EState) -> pg_sys::MemoryContext {
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
        let mut fires = false;
        for trigger in triggers {
            let checks = pg_sys::RI_FKey_trigger_type(trigger.tgfoid)
                == pg_sys::RI_TRIGGER_FK as i32
                && target.checked.contains(&trigger.tgconstraint);
            let guards = own_triggers::on(Carrier::Referring)
                .any(|own| own.name == table_triggers::name(trigger));
            let off = !target.fires && !trigger.tgisinternal || target.unguarded && guards;
            if checks || off {
                trigger.tgenabled = pg_sys::TRIGGER_DISABLED as _;
            }
            if role::is_restricted() {
                trigger.tgdeferrable = false;
                trigger.tginitdeferred = false;
            }
            fires |= trigger.tgenabled as u8 != pg_sys::TRIGGER_DISABLED
                && trigger.tgtype & AFTER_INSERT_ROW_MASK == AFTER_INSERT_ROW;
        }
        description.trig_insert_after_row &= fires;
        description.trig_insert_new_table &= target.fires;
    }
}

/// For each row, before, on INSERT, instead of (src/include/catalog/pg_trigger.h).
const AFTER_INSERT_ROW_MASK: i16 = 1 | 2 | 4 | 64;
const AFTER_INSERT_ROW: i16 = 1 | 4;

unsafe fn type_of(descriptor: pg_sys::TupleDesc, place: usize) -> pg_sys::Oid {
    // SAFETY: the caller has seen that the descriptor has that column.
    unsafe { pg_sys::SPI_gettypeid(descriptor, i32::try_from(place + 1).unwrap_or(0)) }
}

unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: every kind of slot can be cleared (ExecClearTuple in tuptable.h).
    unsafe {
        if let Some(clear) = (*slot).tts_ops.as_ref().and_then(|ops| ops.clear) {
            pg_guard_ffi_boundary(|| clear(slot));
        }
    }
}

/// Makes the slot's row independent of where its values came from (ExecMaterializeSlot in tuptable.h).
unsafe fn materialize(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: the slot holds a row.
    unsafe {
        if let Some(materialize) = (*slot).tts_ops.as_ref().and_then(|ops| ops.materialize) {
            pg_guard_ffi_boundary(|| materialize(slot));
        }
    }
}

/// Where the executor sends the rows of a query.
#[repr(C)]
struct Receiver<'into, 'target> {
    /// First, so that a pointer to the receiver is one to this.
    head: pg_sys::DestReceiver,
    into: *mut c_void,
    of: PhantomData<&'into mut Into<'target>>,
}

impl<'into, 'target> Receiver<'into, 'target> {
    fn new(into: &'into mut Into<'target>) -> Self {
        Self {
            head: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start),
                rShutdown: Some(nothing),
                rDestroy: Some(nothing),
                mydest: pg_sys::CommandDest::DestNone,
            },
            into: std::ptr::from_mut(into).cast(),
            of: PhantomData,
        }
    }

    unsafe fn into_of<'a>(receiver: *mut pg_sys::DestReceiver) -> &'a mut Into<'a> {
        // SAFETY: the executor hands back the receiver that `Level::fill` gave it, within that call, which holds the
        // table mutably and does not touch it meanwhile.
        unsafe { &mut *(*receiver.cast::<Self>()).into.cast() }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn start(
    receiver: *mut pg_sys::DestReceiver,
    _operation: i32,
    types: pg_sys::TupleDesc,
) {
    // SAFETY: called by the executor with our receiver.
    unsafe { raise_unless_ok(Receiver::into_of(receiver).check_types(types)) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: called by the executor with our receiver and a row of the query.
    unsafe { raise_unless_ok(Receiver::into_of(receiver).take(slot)) }
    true
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn nothing(_receiver: *mut pg_sys::DestReceiver) {}
