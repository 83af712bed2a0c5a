//! Percent-encoding as AWS wants it: every byte but `A-Z a-z 0-9 - . _ ~` becomes `%XX` in capital
//! digits (RFC 3986, 2.3), so a space is `%20` and a plus sign `%2B`.

use alloc::{string::String, vec::Vec};

use crate::percent::push_percent;

/// Encodes a query parameter's name or value.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    push_encoded(&mut out, text);
    out
}

/// Appends `text` encoded, `/` included.
pub(super) fn push_encoded(out: &mut String, text: &str) {
    push_runs(out, text, |byte| UNRESERVED[usize::from(byte)]);
}

/// Appends a path encoded once, with its `/` left as they are.
pub(super) fn push_encoded_path(out: &mut String, path: &str) {
    push_runs(out, path, |byte| {
        byte == b'/' || UNRESERVED[usize::from(byte)]
    });
}

/// Removes `.` and `..` segments and doubled slashes from a path (RFC 3986, 5.2.4), as services
/// other than S3 do before they check a signature.
#[must_use]
pub fn normalise_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len() + 1);
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    let ends_in_folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if kept.is_empty() || ends_in_folder {
        normal.push('/');
    }
    normal
}

/// Copies what stands for itself in whole runs, which is most of any real path or value.
fn push_runs(out: &mut String, text: &str, stands_for_itself: impl Fn(u8) -> bool) {
    let mut rest = text;
    while let Some(end) = rest.bytes().position(|byte| !stands_for_itself(byte)) {
        let (run, from_special) = rest.split_at(end);
        out.push_str(run);
        // What does not stand for itself is encoded whole, byte by byte.
        let mut characters = from_special.chars();
        if let Some(special) = characters.next() {
            for byte in special.encode_utf8(&mut [0; 4]).bytes() {
                push_percent(out, byte);
            }
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
}

/// Whether a byte is one of `A-Z a-z 0-9 - . _ ~`.
const UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};
