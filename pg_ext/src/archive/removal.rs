//! What the client's statement has removed so far, until it is written.
//!
//! Each outermost statement that removes rows makes one deletion. Its rows are collected and written when it has ended,
//! or before that when there are many. Every row and count carries the subtransaction that removed it: what is rolled
//! back is forgotten, and nothing is written by an inner subtransaction for an outer one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::{Uuid, pg_sys};

use crate::archive::heaps::Heap;
use crate::archive::key::Key;
use crate::archive::let_go;
use crate::archive::memory::Memory;
use crate::archive::record::{self, Caller};
use crate::archive::row;
use crate::archive::row_memory::RowMemory;
use crate::archive::source::Source;
use crate::archive::using;
use crate::call::trigger_row::Row;
use crate::model::error::{Failure, Outcome, raise_unless_ok};
use crate::postgres::statement_stack;
use crate::postgres::unguarded::unguarded;
use crate::registry::deletion_group::{How, group_of, new_deletion};

/// How many rows of one archive are collected, and how many bytes of all, before they are written.
const MOST_ROWS: usize = 1000;
const MOST_BYTES: usize = 8 << 20;

/// The statement that a removal is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statement {
    /// A query, by where the executor has it.
    Query(usize),
    /// The one in whose course this library was loaded, by when it began: the executor's hooks know nothing of it.
    Loading(pg_sys::TimestampTz),
    /// A `TRUNCATE`, by when it began. It runs no query.
    Truncate(pg_sys::TimestampTz),
}

/// All that one outermost statement has removed.
#[derive(Debug)]
struct Removal {
    id: Uuid,
    statement: Statement,
    subtransaction: pg_sys::SubTransactionId,
    caller: Caller,
    reason: Option<String>,
    entered: Option<Entered>,
    /// How many rows it has had, by which they are numbered. It stops at the last number that there is.
    rows: i32,
    counts: Vec<Count>,
    root: Option<Root>,
    buffers: Vec<Buffer>,
    bytes: usize,
    memory: Memory,
}

/// That the deletion is in the registry already, before its statement has ended.
#[derive(Clone, Copy, Debug)]
struct Entered {
    subtransaction: pg_sys::SubTransactionId,
    group: Uuid,
}

/// How many rows of a table a subtransaction has removed.
#[derive(Debug)]
struct Count {
    subtransaction: pg_sys::SubTransactionId,
    table: pg_sys::Oid,
    rows: i64,
}

/// Where the deletion began.
#[derive(Debug)]
struct Root {
    subtransaction: pg_sys::SubTransactionId,
    table: pg_sys::Oid,
    /// The key of the first row; `None` where the table has none.
    key: Option<Key>,
    /// Whether the outermost statement removed it itself.
    is_direct: bool,
    /// Whether that is the only row that it removed itself.
    is_only: bool,
}

/// Rows that wait to be written to one archive.
#[derive(Debug)]
struct Buffer {
    archive: pg_sys::Oid,
    /// In the order of their removal; each part has a later subtransaction than the one before it.
    parts: Vec<Part>,
}

/// Rows that one subtransaction has removed.
#[derive(Debug)]
struct Part {
    subtransaction: pg_sys::SubTransactionId,
    rows: Vec<pg_sys::HeapTuple>,
    bytes: usize,
    memory: RowMemory,
}

impl Buffer {
    /// The part of a subtransaction, which is the current one.
    fn part(&mut self, subtransaction: pg_sys::SubTransactionId) -> &mut Part {
        let is_there = |last: &Part| last.subtransaction == subtransaction;
        if !self.parts.last().is_some_and(is_there) {
            self.parts.push(Part {
                subtransaction,
                rows: Vec::new(),
                bytes: 0,
                memory: RowMemory::default(),
            });
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// How many rows wait.
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// Where the parts begin that a subtransaction and those within it have removed.
    fn since(&self, subtransaction: pg_sys::SubTransactionId) -> usize {
        self.parts
            .partition_point(|part| part.subtransaction < subtransaction)
    }

    /// What a subtransaction removed is its parent's.
    fn hand_over(&mut self, committed: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId) {
        for part in self.parts.split_off(self.since(committed)) {
            let of_parent = self.part(parent);
            of_parent.rows.extend(part.rows);
            of_parent.bytes += part.bytes;
            of_parent.memory.append(part.memory);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// That of the statement now running.
    open: Option<Removal>,
    /// Those that have ended within a subtransaction that began after them: what is theirs cannot be written yet.
    waiting: Vec<Removal>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    /// Whether there is anything to be written: looked at by every statement.
    static PENDING: Cell<bool> = const { Cell::new(false) };
    /// Whether `alone` writes what is removed, and not the end of a statement: the executor's hooks take the engine's own DELETE for
    /// an outermost one where this library was loaded in the course of the statement that calls.
    static ALONE: Cell<bool> = const { Cell::new(false) };
    /// The outermost query, and who runs it.
    static OUTERMOST: Cell<(usize, pg_sys::Oid)> = const { Cell::new((0, pg_sys::InvalidOid)) };
}

/// Whether rows are removed that are not written to their archives yet.
pub fn is_pending() -> bool {
    PENDING.get()
}

/// Follows transactions. Once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, with functions that live as long as the backend.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
    }
}

fn current_subtransaction() -> pg_sys::SubTransactionId {
    unguarded! {
        fn GetCurrentSubTransactionId() -> pg_sys::SubTransactionId;
    }
    // SAFETY: reads a backend-local variable, and raises no error.
    unsafe { GetCurrentSubTransactionId() }
}

fn statement_began() -> pg_sys::TimestampTz {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// An outermost query runs, or goes on.
pub fn statement_begins(query: *const pg_sys::QueryDesc) {
    // SAFETY: reads a backend-local variable.
    OUTERMOST.set((query.addr(), unsafe { pg_sys::GetUserId() }));
    if PENDING.get() && !ALONE.get() {
        let runs = |statement: Statement| match statement {
            Statement::Query(known) => known == query.addr(),
            Statement::Loading(began) => began == statement_began(),
            Statement::Truncate(_) => false,
        };
        let ended = STATE.with_borrow(|state| {
            let open = state.open.as_ref();
            open.is_none_or(|open| !runs(open.statement))
        });
        if ended {
            raise_unless_ok(write_all());
        }
    }
}

/// An outermost query has run, and so have its triggers.
pub fn statement_ended(query: &pg_sys::QueryDesc) {
    if !PENDING.get() || ALONE.get() {
        return;
    }
    let statement = Statement::Query(std::ptr::from_ref(query).addr());
    let single = query.operation == pg_sys::CmdType::CMD_DELETE && {
        // SAFETY: the executor's state of a query that has run and not ended yet.
        unsafe { query.estate.as_ref() }.is_some_and(|state| state.es_processed == 1)
    };
    let is_its = STATE.with_borrow_mut(|state| match &mut state.open {
        Some(open) if open.statement == statement => {
            if let Some(root) = &mut open.root {
                root.is_only = single && root.is_direct;
            }
            true
        }
        _ => false,
    });
    if is_its {
        raise_unless_ok(write_all());
    }
}

/// A TRUNCATE archives rows, of one table after the other.
pub fn begin_truncate() -> Outcome<()> {
    if statement_stack::depth() > 0 {
        return Ok(());
    }
    let statement = Statement::Truncate(statement_began());
    let goes_on = STATE.with_borrow(|state| {
        let open = state.open.as_ref();
        open.is_some_and(|open| open.statement == statement)
    });
    if goes_on {
        return Ok(());
    }
    write_all()?;
    STATE.with_borrow_mut(|state| {
        state.open = Some(Removal {
            statement,
            ..Removal::begin()
        });
    });
    Ok(())
}

/// Makes a deletion of its own, with this reason, of what `work` removes; its id, or `None` if it removes nothing.
pub fn alone(reason: Option<&str>, work: impl FnOnce() -> Outcome<()>) -> Outcome<Option<Uuid>> {
    write_all()?;
    {
        let _alone = Alone::begin();
        work()?;
    }
    let made = STATE.with_borrow_mut(|state| {
        let open = state.open.as_mut()?;
        open.reason = reason.map(str::to_owned);
        if let Some(root) = &mut open.root {
            root.is_only = true;
        }
        Some(open.id)
    });
    write_all()?;
    Ok(made)
}

/// While it lives, no statement's end writes what is removed.
struct Alone(bool);

impl Alone {
    fn begin() -> Self {
        Self(ALONE.replace(true))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        ALONE.set(self.0);
    }
}

/// The deletion that the running statement is making, if it has removed anything.
pub fn current() -> Option<Uuid> {
    STATE.with_borrow(|state| state.open.as_ref().map(|open| open.id))
}

/// Enters that deletion in the registry at once: what is marked with it or remembered for it refers to it. What only the
/// end of the statement tells follows then.
pub fn enter_current() -> Outcome<()> {
    let current = STATE.with_borrow(|state| {
        let open = state.open.as_ref().filter(|open| open.entered.is_none())?;
        let root = open.root.as_ref()?.table;
        Some((open.id, root, open.caller.clone()))
    });
    let Some((id, root, caller)) = current else {
        return Ok(());
    };
    let group = group_of(id, How::Statement);
    let scratch = Memory::of_transaction(c"keepsake record");
    scratch.enter(|| {
        record::write(&record::Deletion {
            id,
            group,
            root,
            key: None,
            caller: &caller,
            reason: None,
        })
    })?;
    STATE.with_borrow_mut(|state| {
        if let Some(open) = &mut state.open {
            open.entered = Some(Entered {
                subtransaction: current_subtransaction(),
                group,
            });
        }
    });
    Ok(())
}

/// Counts rows that are kept in place and went with those that the running statement has removed.
pub fn count(rows: impl Iterator<Item = (pg_sys::Oid, usize)>) {
    STATE.with_borrow_mut(|state| {
        let Some(open) = &mut state.open else {
            return;
        };
        for (table, rows) in rows {
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            open.count(current_subtransaction(), table, rows);
        }
    });
}

/// Adds a row that was removed.
pub fn add(source: &Rc<Source>, row: Row<'_>) -> Outcome<()> {
    let is_full = STATE.with_borrow_mut(|state| {
        let open = state.open.get_or_insert_with(Removal::begin);
        PENDING.set(true);
        open.add(source, row)
    })?;
    if is_full {
        flush()?;
    }
    Ok(())
}

impl Removal {
    fn begin() -> Self {
        let (query, role) = OUTERMOST.get();
        let (statement, role) = if statement_stack::depth() > 0 {
            (Statement::Query(query), role)
        } else {
            // SAFETY: reads a backend-local variable.
            (Statement::Loading(statement_began()), unsafe {
                pg_sys::GetUserId()
            })
        };
        Self {
            id: new_deletion(),
            statement,
            subtransaction: current_subtransaction(),
            caller: Caller::now(role),
            reason: None,
            entered: None,
            rows: 0,
            counts: Vec::new(),
            root: None,
            buffers: Vec::new(),
            bytes: 0,
            memory: Memory::of_transaction(c"keepsake removal"),
        }
    }

    /// Adds a row; whether there are enough to be written.
    fn add(&mut self, source: &Rc<Source>, row: Row<'_>) -> Outcome<bool> {
        let subtransaction = current_subtransaction();
        if row.width() != source.columns.len() {
            return Err(Failure::ColumnGone {
                column: format!("{}", source.columns.len()),
            });
        }
        self.rows = self.rows.saturating_add(1);
        self.count(subtransaction, source.table, 1);
        self.note_root(subtransaction, source, row);
        let head = row::head(self.id, self.rows, source.layout);
        let at = self.buffer(source.archive);
        let buffer = &mut self.buffers[at];
        let part = buffer.part(subtransaction);
        let tuple = self
            .memory
            .enter(|| row::archived(source, row, &head, &mut part.memory));
        part.rows.push(tuple);
        // SAFETY: the tuple has just been made.
        let bytes = unsafe { (*tuple).t_len } as usize;
        part.bytes += bytes;
        self.bytes += bytes;
        Ok(part.rows.len() >= MOST_ROWS
            || self.bytes >= MOST_BYTES
            || buffer.parts.len() > 1 && buffer.len() >= MOST_ROWS)
    }

    /// The number of the buffer for an archive.
    fn buffer(&mut self, archive: pg_sys::Oid) -> usize {
        let known = self.buffers.iter().position(|one| one.archive == archive);
        known.unwrap_or_else(|| {
            self.buffers.push(Buffer {
                archive,
                parts: Vec::new(),
            });
            self.buffers.len() - 1
        })
    }

    /// Remembers the first row, and prefers one that the outermost statement removes itself.
    fn note_root(
        &mut self,
        subtransaction: pg_sys::SubTransactionId,
        source: &Source,
        row: Row<'_>,
    ) {
        let is_direct = statement_stack::depth() <= 1;
        let has_better = |root: &Root| root.is_direct || !is_direct;
        if !self.root.as_ref().is_some_and(has_better) {
            self.root = Some(Root {
                subtransaction,
                table: source.table,
                key: Key::of(source, &row.values()),
                is_direct,
                is_only: false,
            });
        }
    }

    fn count(&mut self, subtransaction: pg_sys::SubTransactionId, table: pg_sys::Oid, rows: i64) {
        let known = self
            .counts
            .iter_mut()
            .rev()
            .find(|count| count.subtransaction == subtransaction && count.table == table);
        match known {
            Some(count) => count.rows += rows,
            None => self.counts.push(Count {
                subtransaction,
                table,
                rows,
            }),
        }
    }

    /// Forgets what a subtransaction removed that is rolled back.
    fn forget_since(&mut self, aborted: pg_sys::SubTransactionId) {
        for buffer in &mut self.buffers {
            for part in buffer.parts.split_off(buffer.since(aborted)) {
                self.bytes -= part.bytes;
                // SAFETY: its rows are in no buffer any more; the context is that of the removal.
                unsafe { part.memory.free() };
            }
        }
        self.counts.retain(|count| count.subtransaction < aborted);
        self.entered = self
            .entered
            .filter(|entered| entered.subtransaction < aborted);
        if self
            .root
            .as_ref()
            .is_some_and(|root| root.subtransaction >= aborted)
        {
            self.root = None;
        }
    }

    /// What a subtransaction removed is its parent's, since it has committed.
    fn hand_over(&mut self, committed: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId) {
        let moved = |one: &mut pg_sys::SubTransactionId| {
            let is_its = *one >= committed;
            if is_its {
                *one = parent;
            }
            is_its
        };
        for buffer in &mut self.buffers {
            buffer.hand_over(committed, parent);
        }
        if let Some(root) = &mut self.root {
            moved(&mut root.subtransaction);
        }
        if let Some(entered) = &mut self.entered {
            moved(&mut entered.subtransaction);
        }
        for mut count in std::mem::take(&mut self.counts) {
            moved(&mut count.subtransaction);
            self.count(count.subtransaction, count.table, count.rows);
        }
    }

    /// Whether all of it was removed by this subtransaction.
    fn is_of(&self, current: pg_sys::SubTransactionId) -> bool {
        self.counts
            .iter()
            .all(|count| count.subtransaction >= current)
    }

    /// The rows that this subtransaction can write, out of their buffers.
    fn take(&mut self, current: pg_sys::SubTransactionId) -> Vec<(pg_sys::Oid, Part)> {
        let taken = self.buffers.iter_mut().flat_map(|buffer| {
            let archive = buffer.archive;
            let parts = buffer.parts.split_off(buffer.since(current));
            parts.into_iter().map(move |part| (archive, part))
        });
        taken.collect()
    }

    /// Frees rows that were written, and keeps their memory for further ones.
    fn free(&mut self, written: Vec<(pg_sys::Oid, Part)>) {
        for (archive, mut part) in written {
            self.bytes -= part.bytes;
            // SAFETY: its rows are in no buffer any more; the context is that of the removal.
            unsafe { part.memory.clear() };
            part.rows.clear();
            part.bytes = 0;
            let at = self.buffer(archive);
            self.buffers[at].parts.push(part);
        }
    }
}

/// Writes the rows that are collected, as many as this subtransaction can write.
fn flush() -> Outcome<()> {
    let current = current_subtransaction();
    let taken = STATE.with_borrow_mut(|state| {
        let open = state.open.as_mut()?;
        Some((open.id, open.take(current)))
    });
    let Some((deletion, taken)) = taken else {
        return Ok(());
    };
    write_rows(deletion, &taken)?;
    STATE.with_borrow_mut(|state| {
        if let Some(open) = &mut state.open {
            open.free(taken);
        }
    });
    Ok(())
}

/// Writes rows of a deletion to their archives. Of one that was dropped since, nothing is to be kept.
fn write_rows(deletion: Uuid, taken: &[(pg_sys::Oid, Part)]) -> Outcome<()> {
    let scratch = Memory::of_transaction(c"keepsake write");
    for (archive, part) in taken {
        if part.rows.is_empty() {
            continue;
        }
        if let Some(heap) = Heap::open(*archive, deletion)? {
            for rows in part.rows.chunks(MOST_ROWS) {
                // SAFETY: the rows are in the memory of the removal, which is not freed before they were written.
                scratch.enter(|| unsafe { heap.insert(rows) });
                scratch.reset();
            }
        }
    }
    Ok(())
}

/// Writes what has ended, as far as it can be.
pub fn write_all() -> Outcome<()> {
    let current = current_subtransaction();
    let (ready, waiting) = STATE.with_borrow_mut(|state| {
        let ended = std::mem::take(&mut state.waiting);
        let ended = ended.into_iter().chain(state.open.take());
        ended.partition::<Vec<_>, _>(|removal| removal.is_of(current))
    });
    PENDING.set(!waiting.is_empty());
    STATE.with_borrow_mut(|state| state.waiting = waiting);
    ready.into_iter().try_for_each(|mut removal| {
        write_rows(removal.id, &removal.take(current))?;
        let scratch = Memory::of_transaction(c"keepsake record");
        scratch.enter(|| enter(&removal))
    })
}

/// Enters the deletion in the registry.
fn enter(removal: &Removal) -> Outcome<()> {
    let Some(first) = removal.counts.first() else {
        return Ok(());
    };
    let root = removal.root.as_ref().map_or(first.table, |root| root.table);
    let of_root = removal.counts.iter().filter(|count| count.table == root);
    let is_one = of_root.map(|count| count.rows).sum::<i64>() == 1;
    let single = removal.root.as_ref().filter(|root| root.is_only || is_one);
    let key = single.and_then(|root| root.key.as_ref()?.jsonb());
    let group = match removal.entered {
        Some(entered) => entered.group,
        None => group_of(removal.id, How::Statement),
    };
    let deletion = record::Deletion {
        id: removal.id,
        group,
        root,
        key,
        caller: &removal.caller,
        reason: removal.reason.as_deref(),
    };
    match removal.entered {
        Some(_) => record::complete(&deletion)?,
        None => record::write(&deletion)?,
    }
    let counts = removal.counts.iter().map(|count| (count.table, count.rows));
    record::write_counts(removal.id, counts);
    let tables: Vec<pg_sys::Oid> = removal.counts.iter().map(|count| count.table).collect();
    let_go::enter(removal.id, group, &tables);
    Ok(())
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            if PENDING.get() {
                raise_unless_ok(write_all());
            }
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_ABORT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            PENDING.set(false);
            drop(STATE.take());
            let_go::forget();
            using::forget();
        }
        _ => {}
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => forget_since(subtransaction),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => hand_over(subtransaction, parent),
        _ => {}
    }
}

fn forget_since(aborted: pg_sys::SubTransactionId) {
    let_go::forget_since(aborted);
    using::forget_since(aborted);
    STATE.with_borrow_mut(|state| {
        // A statement that began within it has failed with it.
        if state
            .open
            .as_ref()
            .is_some_and(|open| open.subtransaction >= aborted)
        {
            state.open = None;
        }
        state
            .waiting
            .retain(|removal| removal.subtransaction < aborted);
        for removal in state.open.iter_mut().chain(&mut state.waiting) {
            removal.forget_since(aborted);
        }
        PENDING.set(state.open.is_some() || !state.waiting.is_empty());
    });
}

fn hand_over(committed: pg_sys::SubTransactionId, parent: pg_sys::SubTransactionId) {
    let_go::hand_over(committed, parent);
    STATE.with_borrow_mut(|state| {
        for removal in state.open.iter_mut().chain(&mut state.waiting) {
            if removal.subtransaction >= committed {
                removal.subtransaction = parent;
            }
            removal.hand_over(committed, parent);
        }
    });
}
