//! Looking at a file piece by piece, as far as it takes to tell what it is.

use alloc::vec::Vec;

use super::{
    bytes::{KnownBytes, Piece, Stop},
    disguise, mpeg_audio, picture,
    sniff::{self, SNIFF_BYTES},
    zip,
};
use crate::MediaType;

/// How many first bytes of a picture are looked at: enough to pass the EXIF data and colour profiles
/// that stand before the size of most JPEGs.
const PICTURE_HEAD_BYTES: usize = 256 * 1024;

/// The most pieces that are read of one file, the first one included. Where a file has not told by
/// then what it is, it is not looked at further.
pub const MAX_PIECES: u32 = 24;

/// What the bytes of a file show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The media type, as [`sniff`](super::sniff()) gives it, where the bytes show one.
    pub kind: Option<&'static str>,
    /// How large a picture it is.
    pub picture: Picture,
    /// Whether it is this one thing from its first byte on, and shows no sign of being another as
    /// well. Only such a file may be shown in place.
    pub is_plain: bool,
}

/// How large a picture says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// This is no kind of picture whose size is bounded.
    None,
    /// It has so many pixels.
    Pixels(u64),
    /// It is a kind of picture, and its size cannot be found.
    Unreadable,
}

/// What an inspection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It has to see this piece: see [`Inspection::add`].
    Read(Piece),
    /// It is done.
    Found(Finding),
}

/// A look at one file.
#[derive(Debug, Clone)]
pub struct Inspection {
    media_type: MediaType,
    bytes: KnownBytes,
    pieces_left: u32,
    /// Where a picture that is read in order was left off.
    resume: u64,
}

/// The piece with which every inspection of a file of this type begins.
#[must_use]
pub fn first_piece(media_type: MediaType) -> Piece {
    let length = if media_type.is_bounded_picture() {
        PICTURE_HEAD_BYTES
    } else {
        SNIFF_BYTES
    };
    Piece { offset: 0, length }
}

impl Inspection {
    /// Begins to look at a file of so many bytes, which by its name is of `media_type`.
    #[must_use]
    pub const fn new(media_type: MediaType, size: u64) -> Self {
        Self {
            media_type,
            bytes: KnownBytes::new(size),
            pieces_left: MAX_PIECES,
            resume: 0,
        }
    }

    /// Adds what was read of a piece for which [`step`](Self::step) asked. Where that is less, the file
    /// is taken to end there.
    pub fn add(&mut self, piece: Piece, bytes: Vec<u8>) {
        self.pieces_left = self.pieces_left.saturating_sub(1);
        self.bytes.add(piece, bytes);
    }

    /// The piece that has to be seen next, or what was found.
    pub fn step(&mut self) -> Next {
        match self.look() {
            Ok(finding) => Next::Found(finding),
            Err(piece) => Next::Read(piece),
        }
    }

    fn look(&mut self) -> Result<Finding, Piece> {
        let first = first_piece(self.media_type);
        let head = self.known_or(self.bytes.up_to(first.offset, first.length), &[][..])?;
        let Some(seen) = sniff::look(head) else {
            return Ok(Finding {
                kind: None,
                picture: Picture::None,
                is_plain: false,
            });
        };
        let hidden = disguise::is_in(head, seen.kind) || disguise::is_in_numbers(head);
        let kind = self.refine(seen.kind, head)?;
        let picture = self.picture(kind)?;
        let is_plain = seen.at_start && !hidden && !self.hides_at_end(kind)?;
        Ok(Finding {
            kind: Some(kind),
            picture,
            is_plain,
        })
    }

    /// A kind that the first bytes leave open.
    fn refine(&self, kind: &'static str, head: &[u8]) -> Result<&'static str, Piece> {
        match kind {
            "audio/mpeg" if head.starts_with(b"ID3") => {
                self.known_or(mpeg_audio::behind_tags(&self.bytes), kind)
            }
            "application/zip" if self.media_type.is_zip_document() => {
                self.known_or(zip::by_directory(&self.bytes), kind)
            }
            _ => Ok(kind),
        }
    }

    fn picture(&mut self, kind: &str) -> Result<Picture, Piece> {
        if !self.media_type.is_bounded_picture() || !self.media_type.accepts(Some(kind)) {
            return Ok(Picture::None);
        }
        let Some(told) = picture::pixels(kind, &self.bytes, self.resume) else {
            return Ok(Picture::None);
        };
        if let Err(Stop::Need(piece)) = told
            && picture::is_read_in_order(kind)
        {
            self.resume = piece.offset;
            self.bytes.keep_ends();
        }
        self.known_or(told.map(Picture::Pixels), Picture::Unreadable)
    }

    /// Whether the last bytes show what the first ones do not. They matter of what may be shown.
    fn hides_at_end(&self, kind: &str) -> Result<bool, Piece> {
        if !self.media_type.is_inline_safe() || !self.media_type.accepts(Some(kind)) {
            return Ok(false);
        }
        let start = self
            .bytes
            .size()
            .saturating_sub(disguise::TAIL_BYTES as u64);
        let tail = self.bytes.up_to(start, disguise::TAIL_BYTES);
        // What was not seen is not known to be plain.
        self.known_or(tail.map(|tail| disguise::is_in(tail, kind)), true)
    }

    /// What was looked for, or `otherwise` where the file does not have it or may not be read further.
    fn known_or<T>(&self, looked: Result<T, Stop>, otherwise: T) -> Result<T, Piece> {
        match looked {
            Ok(found) => Ok(found),
            Err(Stop::Need(piece)) if self.pieces_left > 0 => Err(piece),
            Err(_) => Ok(otherwise),
        }
    }
}
