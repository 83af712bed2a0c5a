//! Text, in whatever encoding, and the formats that are made of it.

const UTF_8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Byte order marks (Unicode 16.0, 23.8), the longer ones first.
const BYTE_ORDER_MARKS: [&[u8]; 5] = [
    b"\x00\x00\xFE\xFF",
    b"\xFF\xFE\x00\x00",
    UTF_8_MARK,
    b"\xFE\xFF",
    b"\xFF\xFE",
];

/// The tags by which browsers take a file for a web page (WHATWG MIME Sniffing, 7.1), in lower case.
/// One that ends in a letter is followed by a space or `>`.
const HTML_TAGS: [&[u8]; 17] = [
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<script",
    b"<iframe",
    b"<h1",
    b"<div",
    b"<font",
    b"<table",
    b"<a",
    b"<style",
    b"<title",
    b"<b",
    b"<body",
    b"<br",
    b"<p",
    b"<svg",
];

/// Whether a file that begins with `sample` is text: it has a byte order mark, or no byte that text
/// does not have in any encoding which keeps ASCII (UTF-8, Windows-1252, Shift JIS, GBK …). Of the
/// control characters text has white space, bell and backspace, the end mark of DOS and escapes.
pub(super) fn is_text(sample: &[u8]) -> bool {
    let has_mark = BYTE_ORDER_MARKS.iter().any(|mark| sample.starts_with(mark));
    has_mark
        || !sample
            .iter()
            .any(|byte| *byte < b' ' && !matches!(byte, 0x07..=0x0D | 0x1A | 0x1B))
}

/// The format of a text.
pub(super) fn format(sample: &[u8]) -> &'static str {
    let text = sample.strip_prefix(UTF_8_MARK).unwrap_or(sample);
    if text.starts_with(b"#!") {
        return "text/x-shellscript";
    }
    if text.starts_with(b"%!PS") {
        return "application/postscript";
    }
    let text = without_start(sample);
    // Word takes a shorter mark than the one that its specification has (RTF 1.9.1).
    if text.starts_with(b"{\\rt") {
        "application/rtf"
    } else if text.starts_with(b"<?xml") {
        "text/xml"
    } else if text.starts_with(b"<!--") || HTML_TAGS.iter().any(|tag| begins_with_tag(text, tag)) {
        "text/html"
    } else {
        "text/plain"
    }
}

/// Without the byte order mark of UTF-8 and white space before anything else.
pub(super) fn without_start(sample: &[u8]) -> &[u8] {
    sample
        .strip_prefix(UTF_8_MARK)
        .unwrap_or(sample)
        .trim_ascii_start()
}

fn begins_with_tag(text: &[u8], tag: &[u8]) -> bool {
    text.split_at_checked(tag.len())
        .is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(tag) && matches!(rest.first(), Some(b' ' | b'>'))
        })
}

/// Whether a kind is one that [`format`] gives.
pub(crate) fn is_text_format(kind: &str) -> bool {
    kind.starts_with("text/") || matches!(kind, "application/rtf" | "application/postscript")
}
