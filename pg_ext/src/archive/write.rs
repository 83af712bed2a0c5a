//! Writes rows past the executor: into the heap, and into every index of the table. No trigger fires, no constraint is
//! looked at, and nothing that the owner of a table wrote is run.
//!
//! A one-row DELETE waits for three such writes, so what an insertion into an index needs is prepared once in a backend
//! ([`Prepared`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::tupdesc::PgTupleDesc;

use crate::archive::memory::Memory;
use crate::postgres::pg_list::oids;

const NO_LOCK: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// Of an insertion.
#[cfg(feature = "pg19")]
type Options = u32;
#[cfg(not(feature = "pg19"))]
type Options = i32;

/// What inserting into the indexes of a table takes, until one of them changes.
#[derive(Debug)]
struct Prepared {
    indexes: Vec<Index>,
    /// In which predicates are evaluated.
    context: *mut pg_sys::ExprContext,
    _memory: Memory,
}

#[derive(Debug)]
struct Index {
    oid: pg_sys::Oid,
    /// `None` where it must be made anew each time: the index keeps something in it between rows.
    info: Option<*mut pg_sys::IndexInfo>,
    predicate: *mut pg_sys::ExprState,
    unique: pg_sys::IndexUniqueCheck::Type,
}

thread_local! {
    static PREPARED: RefCell<HashMap<pg_sys::Oid, Rc<Prepared>>> = RefCell::default();
    static NAMED: RefCell<HashMap<&'static CStr, pg_sys::Oid>> = RefCell::default();
}

/// A relation changed; all of them, when it is none.
pub fn forget(relation: pg_sys::Oid) {
    let concerned = |table: pg_sys::Oid, prepared: &Prepared| {
        relation == pg_sys::InvalidOid
            || relation == table
            || prepared.indexes.iter().any(|index| index.oid == relation)
    };
    PREPARED.with(|known| {
        if let Ok(mut known) = known.try_borrow_mut() {
            known.retain(|table, prepared| !concerned(*table, prepared));
        }
    });
    NAMED.with_borrow_mut(|known| {
        known.retain(|_, table| relation != pg_sys::InvalidOid && *table != relation);
    });
}

/// A table of the registry.
pub fn registry_table(name: &'static CStr) -> pg_sys::Oid {
    if let Some(known) = NAMED.with_borrow(|known| known.get(name).copied()) {
        return known;
    }
    let table = crate::registry::locks::registry_table(name);
    NAMED.with_borrow_mut(|known| known.insert(name, table));
    table
}

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
        // Not `then_some`: what it is given is dropped, and so closed, also where there is none.
        (!relation.is_null()).then(|| Self { relation })
    }

    /// The shape of its rows.
    pub fn shape(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open as long as `self` lives.
        unsafe { (*self.relation).rd_att }
    }

    /// The relation, for those who read or delete rows of it.
    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> pg_sys::BlockNumber {
        // SAFETY: the relation is open as long as `self` lives.
        unsafe {
            pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM)
        }
    }

    /// Whether its rows begin with a UUID that is not NULL, as an archive's do, and no trigger watches them.
    pub fn has_plain_rows(&self) -> bool {
        // SAFETY: the relation is open; its shape is not released here.
        unsafe {
            let shape = PgTupleDesc::from_pg_unchecked(self.shape());
            let begins = shape.get(0).is_some_and(|first| {
                first.atttypid == pg_sys::UUIDOID && first.attnotnull && !first.attisdropped
            });
            begins
                && (*self.relation).trigdesc.is_null()
                && (*self.relation).rd_tableam == pg_sys::GetHeapamTableAmRoutine()
        }
    }

    /// Refuses to delete rows of a table that is published without a replica identity, as a DELETE is refused.
    pub fn check_replica_identity(&self) {
        // SAFETY: the relation is open.
        unsafe { pg_sys::CheckCmdReplicaIdentity(self.relation, pg_sys::CmdType::CMD_DELETE) };
    }

    /// Writes one row: `value` gives that of each column, by its name; `None` is NULL. Takes memory in the current context.
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

    /// Writes the rows, which are of this shape or of one with fewer columns, and have the same value in the first. Takes memory in the current context.
    ///
    /// # Safety
    /// The tuples are valid, and stay so during the call.
    pub unsafe fn insert(&self, rows: &[pg_sys::HeapTuple]) {
        // SAFETY: the relation is open; the rows are the caller's, of the relation's shape, and outlive the calls.
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            let none = std::ptr::null_mut();
            if let [row] = rows {
                pg_sys::heap_insert(self.relation, *row, command, 0, none);
                self.insert_into_indexes(&[(*row, (**row).t_self)]);
                return;
            }
            let mut shells: Vec<_> = rows.iter().map(|row| self.shell(*row)).collect();
            let mut slots: Vec<*mut pg_sys::TupleTableSlot> = shells
                .iter_mut()
                .map(|shell| (&raw mut *shell).cast())
                .collect();
            if let (Ok(count), [first, ..]) = (i32::try_from(slots.len()), rows) {
                let slots = slots.as_mut_ptr();
                let options = self.options((**first).t_len as usize);
                pg_sys::heap_multi_insert(self.relation, slots, count, command, options, none);
            }
            let written = rows.iter().zip(&shells);
            let written: Vec<_> = written
                .map(|(row, shell)| (*row, shell.base.tts_tid))
                .collect();
            self.insert_into_indexes(&written);
        }
    }

    /// Where no page has room for a row of this length, room is not to be looked for again for each page: a table that has never been vacuumed has no
    /// map of free space, and to find that out takes PostgreSQL 15 a look into the file system each time.
    #[cfg(feature = "pg15")]
    fn options(&self, length: usize) -> Options {
        // Of a longer row, values are stored elsewhere until it is about as short.
        let length = length.min(pg_sys::BLCKSZ as usize / 4);
        // SAFETY: the relation is open; no more is asked for than a page can have.
        let page = unsafe { pg_sys::GetPageWithFreeSpace(self.relation, length) };
        if page == pg_sys::InvalidBlockNumber {
            pg_sys::HEAP_INSERT_SKIP_FSM as Options
        } else {
            0
        }
    }

    /// Later releases look for room once for many pages.
    #[cfg(not(feature = "pg15"))]
    fn options(&self, _length: usize) -> Options {
        0
    }

    /// What `heap_multi_insert` needs of a slot: it reads the tuple, and writes down where it is. A slot of the executor's would cost more than
    /// the insertion. It looks as if it owned its tuple, or the tuple would be copied first; nothing frees it.
    fn shell(&self, row: pg_sys::HeapTuple) -> pg_sys::HeapTupleTableSlot {
        let mut shell = pg_sys::HeapTupleTableSlot::default();
        shell.base.type_ = pg_sys::NodeTag::T_TupleTableSlot;
        shell.base.tts_flags = pg_sys::TTS_FLAG_SHOULDFREE as u16;
        shell.base.tts_ops = &raw const pg_sys::TTSOpsHeapTuple;
        shell.base.tts_tupleDescriptor = self.shape();
        shell.tuple = row;
        shell
    }

    /// # Safety
    /// The rows are of the relation, and with each is the address at which it was written.
    unsafe fn insert_into_indexes(&self, rows: &[(pg_sys::HeapTuple, pg_sys::ItemPointerData)]) {
        let prepared = self.prepared();
        // SAFETY: each index is one of the relation's, whose lock keeps it: whoever drops or rebuilds an index waits for
        // those who write to its table (`WaitForLockers` in index.c). The slot has the relation's shape and frees no row.
        unsafe {
            let slot =
                pg_sys::MakeSingleTupleTableSlot(self.shape(), &raw const pg_sys::TTSOpsHeapTuple);
            for index in &prepared.indexes {
                let opened = pg_sys::RelationIdGetRelation(index.oid);
                if opened.is_null() {
                    continue;
                }
                let info = match index.info {
                    Some(info) => info,
                    None => pg_sys::BuildIndexInfo(opened),
                };
                if (*info).ii_ReadyForInserts {
                    // A BRIN index knows blocks, and these rows do not differ in the first column.
                    let by_block = (*info).ii_Am == pg_sys::BRIN_AM_OID
                        && (*info).ii_NumIndexAttrs == 1
                        && (*info).ii_IndexAttrNumbers[0] == 1
                        && index.predicate.is_null();
                    let mut before = None;
                    for (row, address) in rows {
                        let block = Some((address.ip_blkid.bi_hi, address.ip_blkid.bi_lo));
                        if by_block && block == before {
                            continue;
                        }
                        before = block;
                        pg_sys::ExecStoreHeapTuple(*row, slot, false);
                        (*slot).tts_tid = *address;
                        self.insert_into_index(index, &prepared, (opened, info), slot);
                    }
                    if index.info.is_none() {
                        clean_up(opened, info);
                    }
                }
                pg_sys::RelationClose(opened);
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }

    /// # Safety
    /// The index is open, the information its own, and the slot holds a row of the relation.
    unsafe fn insert_into_index(
        &self,
        index: &Index,
        prepared: &Prepared,
        (opened, info): (pg_sys::Relation, *mut pg_sys::IndexInfo),
        slot: *mut pg_sys::TupleTableSlot,
    ) {
        const MOST: usize = pg_sys::INDEX_MAX_KEYS as usize;
        let mut values = [pg_sys::Datum::from(0_usize); MOST];
        let mut nulls = [false; MOST];
        // SAFETY: as `ExecInsertIndexTuples` does (execIndexing.c). Expressions, which no index of ours has, are evaluated in
        // a state of their own.
        unsafe {
            (*prepared.context).ecxt_scantuple = slot;
            if !holds(index.predicate, prepared.context) {
                return;
            }
            let state = if (*info).ii_Expressions.is_null() {
                std::ptr::null_mut()
            } else {
                (*info).ii_ExpressionsState = std::ptr::null_mut();
                let state = pg_sys::CreateExecutorState();
                (*pg_sys::MakePerTupleExprContext(state)).ecxt_scantuple = slot;
                state
            };
            pg_sys::FormIndexDatum(info, slot, state, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::index_insert(
                opened,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                &raw mut (*slot).tts_tid,
                self.relation,
                index.unique,
                false,
                info,
            );
            if !state.is_null() {
                (*info).ii_ExpressionsState = std::ptr::null_mut();
                pg_sys::FreeExecutorState(state);
            }
        }
    }

    fn prepared(&self) -> Rc<Prepared> {
        // SAFETY: the relation is open.
        let table = unsafe { (*self.relation).rd_id };
        if let Some(known) = PREPARED.with_borrow(|known| known.get(&table).cloned()) {
            return known;
        }
        let memory = Memory::of_backend(c"keepsake indexes");
        // SAFETY: the relation is open; what is prepared lives in memory that lives as long as it.
        let (indexes, context) = memory.enter(|| unsafe {
            let indexes = oids(pg_sys::RelationGetIndexList(self.relation));
            let indexes: Vec<Index> = indexes.map(|index| Index::prepare(index)).collect();
            (indexes, pg_sys::CreateStandaloneExprContext())
        });
        let prepared = Rc::new(Prepared {
            indexes,
            context,
            _memory: memory,
        });
        PREPARED.with_borrow_mut(|known| known.insert(table, Rc::clone(&prepared)));
        prepared
    }
}

impl Index {
    /// # Safety
    /// It is an index of a table that is locked.
    unsafe fn prepare(oid: pg_sys::Oid) -> Self {
        // SAFETY: as the caller promises. What an index other than a btree keeps in its information may not outlive the
        // statement.
        unsafe {
            let opened = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let info = pg_sys::BuildIndexInfo(opened);
            let predicate = pg_sys::expression_planner((*info).ii_Predicate.cast());
            let index = Self {
                oid,
                info: ((*info).ii_Am == pg_sys::BTREE_AM_OID).then_some(info),
                predicate: pg_sys::ExecInitQual(predicate.cast(), std::ptr::null_mut()),
                unique: if (*(*opened).rd_index).indisunique {
                    pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES
                } else {
                    pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO
                },
            };
            pg_sys::index_close(opened, NO_LOCK);
            index
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: open since `open`. The lock stays to the end of the transaction. While an error unwinds, the
        // transaction's resources close it.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::table_close(self.relation, NO_LOCK);
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
#[cfg(any(feature = "pg17", feature = "pg18", feature = "pg19"))]
unsafe fn clean_up(index: pg_sys::Relation, info: *mut pg_sys::IndexInfo) {
    // SAFETY: both were used for the rows just inserted.
    unsafe { pg_sys::index_insert_cleanup(index, info) }
}

/// Lets go of what the index keeps between rows.
#[cfg(not(any(feature = "pg17", feature = "pg18", feature = "pg19")))]
unsafe fn clean_up(_index: pg_sys::Relation, _info: *mut pg_sys::IndexInfo) {}
