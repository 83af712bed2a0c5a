//! Memory for rows that wait to be written. It is taken in blocks: to allocate a row of its own costs more than to copy it.

use pgrx::pg_sys;

/// How many bytes the first block has, since most statements remove few rows, and how many each further one.
const FIRST: usize = 2 << 10;
const FURTHER: usize = 64 << 10;
/// A row with more has a block of its own.
const LARGE: usize = FURTHER / 8;
/// How many blocks are kept for further rows.
const KEPT: usize = 4;

/// Blocks of the memory context that was current when they were taken. They end with it, if they are not freed before.
#[derive(Debug, Default)]
pub struct RowMemory {
    /// Those that rows share, each of `FURTHER` bytes.
    shared: Vec<*mut u8>,
    /// All others.
    own: Vec<*mut u8>,
    /// Shared ones that are not used.
    spare: Vec<*mut u8>,
    /// What is free in the last block, and how many bytes that is.
    open: Option<(*mut u8, usize)>,
}

impl RowMemory {
    /// Room for so many bytes, aligned as tuples are. Takes blocks from the current memory context.
    pub fn room(&mut self, bytes: usize) -> *mut u8 {
        let bytes = bytes.next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize);
        if bytes > LARGE {
            let block = allocate(bytes);
            self.own.push(block);
            return block;
        }
        let (start, left) = match self.open {
            Some((start, left)) if bytes <= left => (start, left),
            _ => self.next_block(bytes),
        };
        // SAFETY: so many bytes are left there.
        self.open = Some((unsafe { start.add(bytes) }, left - bytes));
        start
    }

    fn next_block(&mut self, bytes: usize) -> (*mut u8, usize) {
        let is_first = self.own.is_empty() && self.shared.is_empty() && self.spare.is_empty();
        if is_first && bytes <= FIRST {
            let block = allocate(FIRST);
            self.own.push(block);
            return (block, FIRST);
        }
        let block = self.spare.pop().unwrap_or_else(|| allocate(FURTHER));
        self.shared.push(block);
        (block, FURTHER)
    }

    /// Keeps a tuple that was allocated by itself until the others are freed.
    pub fn adopt(&mut self, tuple: pg_sys::HeapTuple) {
        self.own.push(tuple.cast());
    }

    /// Keeps what another has as well.
    pub fn append(&mut self, other: Self) {
        self.shared.extend(other.shared);
        self.own.extend(other.own);
        self.spare.extend(other.spare);
        self.open = other.open.or(self.open);
    }

    /// Frees what rows have taken, but for some blocks for further ones.
    ///
    /// # Safety
    /// No row in it is used any more, and its memory context is there.
    pub unsafe fn clear(&mut self) {
        self.open = None;
        self.spare.append(&mut self.shared);
        let surplus = self.spare.drain(self.spare.len().min(KEPT)..);
        for block in surplus.chain(self.own.drain(..)) {
            // SAFETY: allocated once, and freed once.
            unsafe { pg_sys::pfree(block.cast()) };
        }
    }

    /// Frees all of it.
    ///
    /// # Safety
    /// As of `clear`.
    pub unsafe fn free(mut self) {
        // SAFETY: as the caller promises.
        unsafe {
            self.clear();
            for block in self.spare.drain(..) {
                pg_sys::pfree(block.cast());
            }
        }
    }
}

fn allocate(bytes: usize) -> *mut u8 {
    // SAFETY: allocates in the current memory context, which is valid; a row may have more bytes than `palloc` gives.
    unsafe { pg_sys::MemoryContextAllocHuge(pg_sys::CurrentMemoryContext, bytes).cast() }
}
