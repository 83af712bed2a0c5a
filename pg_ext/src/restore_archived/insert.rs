//! Writes rows back as COPY FROM does (`copyfrom.c`): in batches, without BEFORE triggers, rules, defaults or identity
//! sequences, so that a row is what it was; with constraints, generated columns, indexes, partitions and AFTER triggers.
//!
//! All tables are written at one level of PostgreSQL's trigger queue: no AFTER trigger fires before every row is there.
//! An error leaves everything to the abort of the subtransaction that the caller has opened.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::null_mut;

use pgrx::pg_sys;

use crate::model::error::{Outcome, raise_unless_ok};
use crate::postgres::node::node;
use crate::postgres::statement_stack::while_firing;
use crate::restore_archived::written_table::{Target, WrittenTable};
use crate::spi::session::Session;

/// A level of the trigger queue with the tables that are written at it.
pub struct Level<'targets> {
    estate: *mut pg_sys::EState,
    tables: Vec<WrittenTable<'targets>>,
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
                .map(|(target, number)| WrittenTable::open(estate, target, number))
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
            while_firing(|| pg_sys::AfterTriggerEndQuery(self.estate));
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

/// Where the executor sends the rows of a query.
#[repr(C)]
struct Receiver<'into, 'target> {
    /// First, so that a pointer to the receiver is one to this.
    head: pg_sys::DestReceiver,
    into: *mut c_void,
    of: PhantomData<&'into mut WrittenTable<'target>>,
}

impl<'into, 'target> Receiver<'into, 'target> {
    fn new(into: &'into mut WrittenTable<'target>) -> Self {
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

    unsafe fn into_of<'a>(receiver: *mut pg_sys::DestReceiver) -> &'a mut WrittenTable<'a> {
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
