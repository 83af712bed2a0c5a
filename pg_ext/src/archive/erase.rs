//! Deletes archived rows past the executor, where they lie together.
//!
//! The rows of a deletion are written one after the other, and so are those of one deletion after the other. So whoever knows where
//! the last ones were finds the next ones without an index, and reads no page twice.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use pgrx::itemptr::item_pointer_get_block_number_no_check;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::archive::write::Target;
use crate::model::error::{Failure, Outcome};
use crate::postgres::one_snapshot::OneSnapshot;
use crate::postgres::unguarded::unguarded;

/// So many pages are read on where no row is found.
const STRETCH: u32 = 64;

/// How many rows there are to be deleted of each deletion, and how many of them are gone.
#[derive(Debug, Default)]
pub struct Rows {
    /// In the order of the deletions.
    of: Vec<Count>,
    /// Which of them was asked for last: rows of one deletion lie together.
    last: Cell<usize>,
    left: i64,
}

#[derive(Debug)]
struct Count {
    deletion: [u8; 16],
    gone: i64,
}

impl Rows {
    /// Counts rows of a deletion that are to be deleted.
    pub fn expect(&mut self, deletion: [u8; 16], rows: i64) {
        let place = self
            .of
            .binary_search_by(|count| count.deletion.cmp(&deletion));
        if let Err(place) = place {
            self.of.insert(place, Count { deletion, gone: 0 });
        }
        self.left += rows;
    }

    /// Notes that rows of a deletion are gone.
    pub fn note(&mut self, deletion: [u8; 16], rows: i64) {
        if let Some(place) = self.place(deletion) {
            self.note_at(place, rows);
        }
    }

    fn note_at(&mut self, place: usize, rows: i64) {
        if let Some(count) = self.of.get_mut(place) {
            count.gone += rows;
            self.left -= rows;
        }
    }

    fn place(&self, deletion: [u8; 16]) -> Option<usize> {
        let last = self.last.get();
        if self
            .of
            .get(last)
            .is_some_and(|count| count.deletion == deletion)
        {
            return Some(last);
        }
        let place = self
            .of
            .binary_search_by(|count| count.deletion.cmp(&deletion))
            .ok()?;
        self.last.set(place);
        Some(place)
    }

    /// Whether all that are counted are gone.
    pub fn are_gone(&self) -> bool {
        self.left <= 0
    }

    /// The deletions of which there are rows, in order.
    pub fn deletions(&self) -> impl Iterator<Item = [u8; 16]> {
        self.of.iter().map(|count| count.deletion)
    }

    /// How many are gone, of those deletions of which any are.
    pub fn gone(&self) -> impl Iterator<Item = ([u8; 16], i64)> {
        let gone = self.of.iter().map(|count| (count.deletion, count.gone));
        gone.filter(|(_, rows)| *rows > 0)
    }
}

thread_local! {
    /// In which block of an archive rows were deleted last. Only a place to begin: whatever lies there is looked at.
    static LAST: RefCell<HashMap<pg_sys::Oid, pg_sys::BlockNumber>> = RefCell::default();
}

/// Notes in which block of an archive rows were deleted last.
pub fn note_block(archive: pg_sys::Oid, block: pg_sys::BlockNumber) {
    LAST.with_borrow_mut(|last| last.insert(archive, block));
}

/// Deletes rows of an archive, up to `most`, from where rows were deleted last, as long as there are some; how many. None where
/// somebody has given the archive a trigger: only the executor fires it.
///
/// # Errors
/// 40001 when the transaction's snapshot is too old to see what has become of a row.
pub fn delete(archive: pg_sys::Oid, rows: &mut Rows, most: i64) -> Outcome<i64> {
    let Some(target) = Target::open(archive) else {
        return Ok(0);
    };
    if !target.has_plain_rows() {
        return Ok(0);
    }
    target.check_replica_identity();
    let mut block = LAST.with_borrow(|last| last.get(&archive).copied().unwrap_or(0));
    let blocks = target.blocks();
    let mut gone = 0;
    while gone < most && block < blocks && !rows.are_gone() {
        let deleted = delete_stretch(
            &target,
            (block, STRETCH.min(blocks - block)),
            rows,
            most - gone,
        )?;
        let Some((count, last)) = deleted else {
            break;
        };
        note_block(archive, last);
        gone += count;
        block += STRETCH;
    }
    Ok(gone)
}

/// Deletes rows in some blocks; how many, and the last block with one. `None` where there are none.
fn delete_stretch(
    target: &Target,
    blocks: (pg_sys::BlockNumber, u32),
    rows: &mut Rows,
    most: i64,
) -> Outcome<Option<(i64, pg_sys::BlockNumber)>> {
    let snapshot = OneSnapshot::take();
    let scan = Scan::begin(target, &snapshot, blocks);
    let Pass { gone, last, result } = scan.delete_rows(target, rows, most);
    // SAFETY: reads a backend-local variable.
    let keeps_snapshot = unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 };
    match result {
        // As of a DELETE, whose transaction cannot go on.
        pg_sys::TM_Result::TM_Updated | pg_sys::TM_Result::TM_Deleted if keeps_snapshot => {
            Err(Failure::RegistryMoved)
        }
        // What another transaction has changed meanwhile is for a later batch.
        _ => Ok(last.map(|last| (gone, last))),
    }
}

/// What a scan has deleted.
#[derive(Clone, Copy, Debug)]
struct Pass {
    gone: i64,
    /// The last block with a row of the deletions.
    last: Option<pg_sys::BlockNumber>,
    /// What became of the last row that could not be deleted; else `TM_Ok`.
    result: pg_sys::TM_Result::Type,
}

/// A scan of some blocks of an archive.
struct Scan(pg_sys::TableScanDesc);

impl Scan {
    fn begin(
        target: &Target,
        snapshot: &OneSnapshot,
        (first, count): (pg_sys::BlockNumber, u32),
    ) -> Self {
        use pg_sys::ScanOptions::{SO_ALLOW_PAGEMODE, SO_TYPE_SEQSCAN};
        // SAFETY: the relation is open, and the snapshot active, longer than the scan; the blocks are there.
        unsafe {
            let scan = pg_sys::heap_beginscan(
                target.relation(),
                snapshot.get(),
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                SO_TYPE_SEQSCAN | SO_ALLOW_PAGEMODE,
            );
            pg_sys::heap_setscanlimits(scan, first, count);
            Self(scan)
        }
    }

    /// Deletes rows of the deletions, up to `most`, each as a DELETE does (`ExecDelete` in nodeModifyTable.c).
    fn delete_rows(&self, target: &Target, rows: &mut Rows, most: i64) -> Pass {
        unguarded! {
            fn heap_getnext(
                scan: pg_sys::TableScanDesc,
                direction: pg_sys::ScanDirection::Type,
            ) -> pg_sys::HeapTuple;
        }
        // SAFETY: a transaction is under way.
        let command = unsafe { pg_sys::GetCurrentCommandId(true) };
        let mut pass = Pass {
            gone: 0,
            last: None,
            result: pg_sys::TM_Result::TM_Ok,
        };
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the scan and the relation are open. A row stays where it is until the next one is asked for, and begins with its
        // deletion, which is not NULL (`Target::has_plain_rows`). An error leaves nothing behind that would have to be dropped.
        unsafe {
            pg_guard_ffi_boundary(|| {
                while pass.gone < most {
                    let next = heap_getnext(self.0, pg_sys::ScanDirection::ForwardScanDirection);
                    let Some(tuple) = next.as_ref() else {
                        break;
                    };
                    let begin = usize::from((*tuple.t_data).t_hoff);
                    let values = tuple.t_data.cast::<u8>().add(begin);
                    let Some(place) = rows.place(values.cast::<[u8; 16]>().read()) else {
                        continue;
                    };
                    let mut address = tuple.t_self;
                    pass.last = Some(item_pointer_get_block_number_no_check(address));
                    let result = delete_row(
                        target.relation(),
                        &raw mut address,
                        command,
                        &raw mut failure,
                    );
                    if result == pg_sys::TM_Result::TM_Ok {
                        rows.note_at(place, 1);
                        pass.gone += 1;
                    } else {
                        pass.result = result;
                    }
                }
            });
        }
        pass
    }
}

/// Deletes a row, and waits for whoever is changing it.
///
/// # Safety
/// The relation is open, the address that of a row of it; an error is caught by a guard of the caller's.
#[cfg(not(feature = "pg19"))]
unsafe fn delete_row(
    relation: pg_sys::Relation,
    address: pg_sys::ItemPointer,
    command: pg_sys::CommandId,
    failure: *mut pg_sys::TM_FailureData,
) -> pg_sys::TM_Result::Type {
    unguarded! {
        fn heap_delete(
            relation: pg_sys::Relation,
            address: pg_sys::ItemPointer,
            command: pg_sys::CommandId,
            crosscheck: pg_sys::Snapshot,
            wait: bool,
            failure: *mut pg_sys::TM_FailureData,
            changes_partition: bool,
        ) -> pg_sys::TM_Result::Type;
    }
    // SAFETY: as the caller promises.
    unsafe {
        let none = std::ptr::null_mut();
        heap_delete(relation, address, command, none, true, failure, false)
    }
}

/// The same.
#[cfg(feature = "pg19")]
unsafe fn delete_row(
    relation: pg_sys::Relation,
    address: pg_sys::ItemPointer,
    command: pg_sys::CommandId,
    failure: *mut pg_sys::TM_FailureData,
) -> pg_sys::TM_Result::Type {
    unguarded! {
        fn heap_delete(
            relation: pg_sys::Relation,
            address: *const pg_sys::ItemPointerData,
            command: pg_sys::CommandId,
            options: u32,
            crosscheck: pg_sys::Snapshot,
            wait: bool,
            failure: *mut pg_sys::TM_FailureData,
        ) -> pg_sys::TM_Result::Type;
    }
    // SAFETY: as the caller promises.
    unsafe {
        let none = std::ptr::null_mut();
        heap_delete(relation, address, command, 0, none, true, failure)
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        // While an error unwinds, the transaction's resources close it.
        if !std::thread::panicking() {
            // SAFETY: open since `begin`.
            unsafe { pg_sys::heap_endscan(self.0) };
        }
    }
}
