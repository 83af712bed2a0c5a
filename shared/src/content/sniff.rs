//! What a file is by its first bytes.

use super::{iso_media, mpeg_audio, signatures, text, zip};

/// How many first bytes of a file are looked at: enough to pass the parts of an office document that
/// stand before the one which tells what it is.
pub const SNIFF_BYTES: usize = 16 * 1024;

/// How far into a file the header of a PDF may stand (ISO 32000-1, Annex H, note 13).
const PDF_HEADER_WITHIN: usize = 1024;

const PDF: &str = "application/pdf";

/// What the first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: &'static str,
    /// Whether the format begins with the first byte, and not behind other bytes, which its own
    /// programs pass over.
    pub(super) at_start: bool,
}

/// The media type that the first [`SNIFF_BYTES`] of a file show, if any. Beside registered names it
/// gives `application/x-ole-storage` for any OLE compound file, `application/x-ooxml` for an Office
/// Open XML file and `application/x-opendocument` for an OpenDocument file of which the bytes do not
/// tell the kind.
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Option<&'static str> {
    look(first_bytes).map(|seen| seen.kind)
}

pub(super) fn look(first_bytes: &[u8]) -> Option<Seen> {
    let sample = first_bytes.get(..SNIFF_BYTES).unwrap_or(first_bytes);
    if sample.is_empty() {
        return None;
    }
    if let Some(kind) = at_start(sample) {
        return Some(Seen {
            kind,
            at_start: true,
        });
    }
    let behind = pdf_header(sample)
        .map(|_| PDF)
        .or_else(|| mpeg_audio::somewhere(sample));
    behind.map(|kind| Seen {
        kind,
        at_start: false,
    })
}

fn at_start(sample: &[u8]) -> Option<&'static str> {
    if sample.starts_with(b"%PDF-") {
        return Some(PDF);
    }
    if let Some(kind) = signatures::of_bytes(sample) {
        return Some(match kind {
            "application/zip" => zip::by_head(sample),
            "video/x-matroska" => ebml(sample),
            other => other,
        });
    }
    if text::is_text(sample) {
        let format = text::format(sample);
        // A PDF behind a byte order mark or white space is one, though all that is seen of it is text.
        let is_pdf = text::without_start(sample).starts_with(b"%PDF-");
        return (!is_pdf).then_some(format);
    }
    riff(sample)
        .or_else(|| iff(sample))
        .or_else(|| {
            let kind = signatures::of_letters(sample)?;
            Some(if kind == "audio/ogg" {
                ogg(sample)
            } else {
                kind
            })
        })
        .or_else(|| iso_media::by_head(sample))
        .or_else(|| mpeg_audio::by_head(sample))
        .or_else(|| transport_stream(sample))
}

fn pdf_header(sample: &[u8]) -> Option<usize> {
    let within = sample.get(..PDF_HEADER_WITHIN).unwrap_or(sample);
    within.windows(5).position(|window| window == b"%PDF-")
}

/// RIFF (Microsoft and IBM, 1991), with its forms of 64 bits (ITU-R BS.2088) and of the other byte
/// order.
fn riff(sample: &[u8]) -> Option<&'static str> {
    if !matches!(sample.get(..4)?, b"RIFF" | b"RF64" | b"BW64" | b"RIFX") {
        return None;
    }
    Some(match sample.get(8..12)? {
        b"WEBP" => "image/webp",
        b"WAVE" => "audio/wav",
        b"AVI " => "video/x-msvideo",
        b"ACON" => "application/x-navi-animation",
        b"CDXA" => "video/mpeg",
        _ => "application/x-riff",
    })
}

/// EA IFF 85.
fn iff(sample: &[u8]) -> Option<&'static str> {
    (sample.get(..4)? == b"FORM").then_some(())?;
    match sample.get(8..12)? {
        b"AIFF" | b"AIFC" => Some("audio/aiff"),
        _ => None,
    }
}

/// The DocType of an EBML header (RFC 8794, 11.2.4): a few elements of a few bytes each, in any order.
fn ebml(sample: &[u8]) -> &'static str {
    const HEADER_WITHIN: usize = 512;
    let header = sample.get(..HEADER_WITHIN).unwrap_or(sample);
    let is_webm = header
        .windows(7)
        .any(|window| window.starts_with(b"\x42\x82") && window.ends_with(b"webm"));
    // A size may be written in more than one byte.
    let is_webm = is_webm
        || header.windows(16).any(|window| {
            window.starts_with(b"\x42\x82\x01\0\0\0\0\0\0\x04") && &window[10..14] == b"webm"
        });
    if is_webm {
        "video/webm"
    } else {
        "video/x-matroska"
    }
}

/// The codec that the first page of an Ogg stream begins (RFC 3533, 6; RFC 7845, 5.1; RFC 5334, 4).
fn ogg(sample: &[u8]) -> &'static str {
    let packet = sample.get(28..).unwrap_or_default();
    if packet.starts_with(b"OpusHead") {
        "audio/opus"
    } else if packet.starts_with(b"\x80theora") || packet.starts_with(b"fishead\0") {
        "video/ogg"
    } else {
        "audio/ogg"
    }
}

/// ISO/IEC 13818-1, 2.4.3.2: packets of 188 bytes; cameras put four bytes before each.
fn transport_stream(sample: &[u8]) -> Option<&'static str> {
    let is_stream = |first: usize, step: usize| {
        (0..4).all(|packet| sample.get(first + packet * step) == Some(&0x47))
    };
    (is_stream(0, 188) || is_stream(4, 192)).then_some("video/mp2t")
}
