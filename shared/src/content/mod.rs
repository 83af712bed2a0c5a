//! What a file is by its bytes, whatever its name says.
//!
//! [`Inspection`] asks for the pieces of a file that it has to see and then gives a [`Finding`]. The
//! worker reads the pieces from the store, the browser from the file; both get the same finding. A
//! finding is a sanity check, not a proof: a file can be two things at once, so only the type of its
//! name is ever sent with it, and [`Finding::is_plain`] says whether it may be shown in place.

mod bytes;
mod disguise;
mod inspection;
mod iso_media;
mod mpeg_audio;
mod picture;
mod signatures;
mod sniff;
mod text;
mod zip;

pub use bytes::Piece;
pub use inspection::{Finding, Inspection, MAX_PIECES, Next, Picture, first_piece};
pub use sniff::{SNIFF_BYTES, sniff};

pub(crate) use text::is_text_format;
