//! What a file is by its first bytes. A type found so is a sanity check, not a proof: a file can be
//! two things at once, which is why only the declared type is ever sent with it.

use crate::zip_head;

/// How many first bytes of a file are looked at: enough to pass the parts of an office document that
/// stand before the one which tells what it is.
pub const SNIFF_BYTES: usize = 16 * 1024;

const OLE_MAGIC: [u8; 8] = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];

/// Formats made of text that are more than text to the program which opens them.
const TEXT_FORMATS: [&str; 6] = [
    "application/pdf",
    "application/postscript",
    "application/rtf",
    "text/html",
    "text/x-shellscript",
    "text/xml",
];

/// The media type that the first [`SNIFF_BYTES`] of a file show, if any. Beside registered names it
/// gives `application/x-ole-storage` for any OLE compound file and `application/x-ooxml` for an
/// Office Open XML file of which the bytes do not tell the kind.
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Option<&'static str> {
    let sample = first_bytes.get(..SNIFF_BYTES).unwrap_or(first_bytes);
    if sample.is_empty() {
        return None;
    }
    if is_text(sample) {
        // A text may begin with the letters "BM" or "GIF"; the file formats that do also hold
        // bytes which no text holds.
        return Some(
            recognised(sample)
                .filter(|seen| TEXT_FORMATS.contains(seen))
                .unwrap_or("text/plain"),
        );
    }
    if zip_head::is_zip(sample) {
        return Some(zip_head::media_type(sample));
    }
    if sample.starts_with(&OLE_MAGIC) {
        return Some("application/x-ole-storage");
    }
    recognised(sample).or_else(|| is_iso_media(sample).then_some("video/mp4"))
}

fn recognised(sample: &[u8]) -> Option<&'static str> {
    infer::get(sample).map(|found| found.mime_type())
}

/// UTF-8 without control characters other than tab, line feed, form feed and carriage return. The
/// sample may end within a character.
fn is_text(sample: &[u8]) -> bool {
    let text = match core::str::from_utf8(sample) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            let whole = sample.get(..error.valid_up_to()).unwrap_or_default();
            core::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && !text
            .chars()
            .any(|c| (c < ' ' && !matches!(c, '\t' | '\n' | '\x0C' | '\r')) || c == '\x7F')
}

/// An ISO base media file (ISO/IEC 14496-12) whose main brand is not known but which says that it
/// can be read as plain MP4.
fn is_iso_media(sample: &[u8]) -> bool {
    let Some(size) = sample.first_chunk::<4>() else {
        return false;
    };
    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
    let Some(file_type_box) = sample.get(..size) else {
        return false;
    };
    let compatible_brands = file_type_box.get(16..).unwrap_or_default();
    file_type_box.get(4..8) == Some(b"ftyp")
        && compatible_brands
            .as_chunks::<4>()
            .0
            .iter()
            .any(|brand| brand.starts_with(b"iso") || matches!(brand, b"mp41" | b"mp42"))
}
