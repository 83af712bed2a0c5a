//! The bytes of a file as far as they are known.

use alloc::vec::Vec;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes it has at most: the file may end before.
    pub length: usize,
}

/// Why a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The piece that holds it is not known yet.
    Need(Piece),
    /// The file ends before it, or is not built as its format says.
    Malformed,
}

/// Bytes read at once beside the first ones.
const STEP_BYTES: usize = 64 * 1024;

/// Bytes read at once where a format is read from its start to the place that tells: a JPEG.
pub(super) const LONG_STEP_BYTES: usize = 512 * 1024;

/// The order of a number's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

/// A file of which some pieces are known.
#[derive(Debug, Clone)]
pub(super) struct KnownBytes {
    size: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl KnownBytes {
    pub(super) const fn new(size: u64) -> Self {
        Self {
            size,
            pieces: Vec::new(),
        }
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn add(&mut self, piece: Piece, bytes: Vec<u8>) {
        if bytes.len() < piece.length {
            let end = piece.offset.saturating_add(bytes.len() as u64);
            self.size = self.size.min(end);
        }
        self.pieces.push((piece.offset, bytes));
    }

    /// Drops every piece but the first and the last.
    pub(super) fn keep_ends(&mut self) {
        if self.pieces.len() > 2 {
            self.pieces.drain(1..self.pieces.len() - 1);
        }
    }

    /// `length` bytes from `offset`, or as many as the file has.
    pub(super) fn up_to(&self, offset: u64, length: usize) -> Result<&[u8], Stop> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.exactly(offset, length.min(left))
    }

    /// `length` bytes from `offset`.
    pub(super) fn exactly(&self, offset: u64, length: usize) -> Result<&[u8], Stop> {
        let end = offset.checked_add(length as u64).ok_or(Stop::Malformed)?;
        if end > self.size {
            return Err(Stop::Malformed);
        }
        self.known(offset, length).ok_or(Stop::Need(Piece {
            offset,
            length: length.max(STEP_BYTES),
        }))
    }

    fn known(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(length)?)
        })
    }

    pub(super) fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], Stop> {
        self.exactly(offset, N)?
            .first_chunk::<N>()
            .copied()
            .ok_or(Stop::Malformed)
    }

    pub(super) fn u16(&self, offset: u64, order: Order) -> Result<u32, Stop> {
        let bytes = self.array::<2>(offset)?;
        Ok(u32::from(match order {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        }))
    }

    pub(super) fn u24(&self, offset: u64) -> Result<u32, Stop> {
        let [low, middle, high] = self.array::<3>(offset)?;
        Ok(u32::from_le_bytes([low, middle, high, 0]))
    }

    pub(super) fn u32(&self, offset: u64, order: Order) -> Result<u32, Stop> {
        let bytes = self.array::<4>(offset)?;
        Ok(match order {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        })
    }

    pub(super) fn u64(&self, offset: u64, order: Order) -> Result<u64, Stop> {
        let bytes = self.array::<8>(offset)?;
        Ok(match order {
            Order::Big => u64::from_be_bytes(bytes),
            Order::Little => u64::from_le_bytes(bytes),
        })
    }
}
