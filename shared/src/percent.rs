//! Percent-encoding of one byte (RFC 3986, 2.1).

use alloc::string::String;

/// Appends `%XX` in capital digits.
pub(crate) fn push_percent(out: &mut String, byte: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 0x0f)]);
}
