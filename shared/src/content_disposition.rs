//! The `Content-Disposition` header of a download (RFC 6266).

use alloc::string::String;

use crate::{FileName, percent::push_percent};

/// The header's value: shown or saved, and under which name.
///
/// The name is given twice: as plain ASCII for old readers, with `_` in place of what ASCII or a
/// quoted text cannot hold, and exactly, as UTF-8 in percent-encoding (RFC 8187). The value is made
/// of visible ASCII and spaces only.
#[must_use]
pub fn content_disposition(name: &FileName, inline: bool) -> String {
    let mut value = String::from(if inline { "inline" } else { "attachment" });
    value.push_str("; filename=\"");
    value.extend(name.as_str().chars().map(ascii_stand_in));
    value.push_str("\"; filename*=UTF-8''");
    for byte in name.as_str().bytes() {
        push_encoded(&mut value, byte);
    }
    value
}

/// A quote or backslash would end or bend the quoted text; some readers decode a percent sign
/// (RFC 6266, appendix D).
const fn ascii_stand_in(character: char) -> char {
    match character {
        '"' | '\\' | '%' => '_',
        ' '..='~' => character,
        _ => '_',
    }
}

/// `attr-char` of RFC 8187, 3.2.1 stands for itself.
fn push_encoded(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
        out.push(char::from(byte));
    } else {
        push_percent(out, byte);
    }
}
