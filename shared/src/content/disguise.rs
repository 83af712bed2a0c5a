//! Signs that a file which begins as a picture, a document or a recording is something else as well.
//!
//! Such a file is stored, for people's own files have these signs at times: a PDF behind a line of a
//! mail, a picture with a page's source in its comment. It is not shown in place: what one program
//! takes for a picture another may take for a page or an archive.

/// How many last bytes of a file are looked at: an archive has its directory there, and readers of
/// archives begin with it.
pub(super) const TAIL_BYTES: usize = 16 * 1024;

/// Elements by which a file is a page that runs scripts, and the tag of PHP, in lower case.
const ACTIVE_TAGS: [&[u8]; 8] = [
    b"<script",
    b"<html",
    b"<!doctype",
    b"<svg",
    b"<iframe",
    b"<object",
    b"<embed",
    b"<?php",
];

/// How many first bytes hold a format's own numbers. A comment of a script that begins in their place
/// hides the rest of them from a reader of scripts.
const NUMBERS_WITHIN: usize = 16;

/// Whether a part of a file, the first bytes or the last, shows such a sign.
pub(super) fn is_in(part: &[u8], kind: &str) -> bool {
    part.iter().enumerate().any(|(at, byte)| {
        let rest = || part.get(at..).unwrap_or_default();
        match byte {
            b'<' => ACTIVE_TAGS.iter().any(|tag| begins_with_tag(rest(), tag)),
            b'P' => is_zip(rest()),
            b'R' => rest().starts_with(b"Rar!\x1A\x07"),
            b'7' => rest().starts_with(b"7z\xBC\xAF\x27\x1C"),
            b'%' => kind != "application/pdf" && rest().starts_with(b"%PDF-"),
            _ => false,
        }
    })
}

/// Whether a file begins as a script with a comment would.
pub(super) fn is_in_numbers(head: &[u8]) -> bool {
    let numbers = head.get(..NUMBERS_WITHIN).unwrap_or(head);
    numbers.windows(2).any(|window| window == b"/*") || numbers.starts_with(b"RIFF=")
}

/// The name of an element ends, or the four letters would stand in every two thousandth photograph by
/// chance.
fn begins_with_tag(rest: &[u8], tag: &[u8]) -> bool {
    rest.split_at_checked(tag.len())
        .is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(tag)
                && matches!(
                    rest.first(),
                    None | Some(b' ' | b'>' | b'/' | b'\t'..=b'\r')
                )
        })
}

/// An entry of a ZIP file with one of the usual ways of packing (APPNOTE.TXT 4.3.7, 4.4.3, 4.4.5), or
/// the end of the directory of one on a single disk.
fn is_zip(rest: &[u8]) -> bool {
    match rest.first_chunk::<10>() {
        Some([b'P', b'K', 3, 4, version, 0, _, flags, method, 0]) => {
            *version <= 63 && flags & 0xB0 == 0 && matches!(method, 0 | 8 | 9 | 12 | 14)
        }
        Some([b'P', b'K', 5, 6, 0, 0, 0, 0, _, _]) => true,
        _ => false,
    }
}
