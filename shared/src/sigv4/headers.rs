//! The headers of a canonical request: lower-case, sorted by name, values trimmed and their inner
//! runs of spaces folded to one.

use alloc::{string::String, vec::Vec};
use core::{cmp::Ordering, fmt};

use super::SigV4Error;

/// The most headers one request may sign, those that signing adds included.
pub const MAX_HEADERS: usize = 32;

/// Headers that signing sets itself.
const RESERVED: [&str; 4] = [
    "authorization",
    "host",
    "x-amz-date",
    "x-amz-security-token",
];

/// Checked headers in the order of the canonical request.
#[derive(Clone)]
pub struct SortedHeaders<'a> {
    headers: Vec<(&'a str, &'a str)>,
    /// Whether every name is in lower case already, as it mostly is: then nothing is to be changed.
    lower_case: bool,
}

impl<'a> SortedHeaders<'a> {
    /// Sorts `host` and the caller's headers. Two headers of one name keep their order.
    ///
    /// # Errors
    /// [`SigV4Error::TooManyHeaders`], [`SigV4Error::HeaderName`], [`SigV4Error::HeaderValue`], or
    /// [`SigV4Error::ReservedHeader`] for a header that signing sets itself.
    pub fn new(host: &'a str, headers: &[(&'a str, &'a str)]) -> Result<Self, SigV4Error> {
        const SET_BY_SIGNING: usize = 4;
        let mut sorted = Self {
            headers: Vec::with_capacity(headers.len() + SET_BY_SIGNING),
            lower_case: true,
        };
        sorted.insert("host", host)?;
        for &(name, value) in headers {
            check_name(name)?;
            sorted.lower_case &= is_lower_case(name);
            sorted.insert(name, value)?;
        }
        Ok(sorted)
    }

    /// Adds a header that signing sets.
    #[inline]
    pub(super) fn insert(&mut self, name: &'a str, value: &'a str) -> Result<(), SigV4Error> {
        check_value(value)?;
        if self.headers.len() == MAX_HEADERS {
            return Err(SigV4Error::TooManyHeaders);
        }
        // Callers mostly give their headers in order: looking from the end finds the place at once.
        let place = self
            .headers
            .iter()
            .rposition(|(before, _)| compare_names(before, name) != Ordering::Greater)
            .map_or(0, |last_before| last_before + 1);
        self.headers.insert(place, (name, value));
        Ok(())
    }

    /// Whether there is a header of this name, given in lower case.
    pub(super) fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(header, _)| header.eq_ignore_ascii_case(name))
    }

    /// Appends one line `name:value` a header. The values of one name are joined with commas.
    pub(super) fn push_canonical(&self, out: &mut String) {
        let mut previous = "";
        for &(name, value) in &self.headers {
            if name.eq_ignore_ascii_case(previous) {
                out.push(',');
            } else {
                if !previous.is_empty() {
                    out.push('\n');
                }
                self.push_name(out, name);
                out.push(':');
            }
            push_folded(out, value);
            previous = name;
        }
        out.push('\n');
    }

    /// Appends the names with `separator` between them.
    pub(super) fn push_names(&self, out: &mut String, separator: &str) {
        let mut previous = "";
        for &(name, _) in &self.headers {
            if name.eq_ignore_ascii_case(previous) {
                continue;
            }
            if !previous.is_empty() {
                out.push_str(separator);
            }
            self.push_name(out, name);
            previous = name;
        }
    }

    #[inline]
    fn push_name(&self, out: &mut String, name: &str) {
        let start = out.len();
        out.push_str(name);
        if !self.lower_case
            && let Some(pushed) = out.get_mut(start..)
        {
            pushed.make_ascii_lowercase();
        }
    }

    /// The bytes that names and values take together.
    pub(super) fn len_bytes(&self) -> usize {
        self.headers
            .iter()
            .map(|(name, value)| 2 * name.len() + value.len() + 6)
            .sum()
    }
}

/// Shows the names only.
impl fmt::Debug for SortedHeaders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.headers.iter().map(|(name, _)| name))
            .finish()
    }
}

#[inline]
fn check_name(name: &str) -> Result<(), SigV4Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().fold(true, |all, byte| all & allowed(byte)) {
        return Err(SigV4Error::HeaderName);
    }
    if RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(name))
    {
        return Err(SigV4Error::ReservedHeader);
    }
    Ok(())
}

#[inline]
fn check_value(value: &str) -> Result<(), SigV4Error> {
    let allowed = |byte: u8| matches!(byte, b' '..=b'~');
    if value.bytes().fold(true, |all, byte| all & allowed(byte)) {
        Ok(())
    } else {
        Err(SigV4Error::HeaderValue)
    }
}

#[inline]
fn compare_names(left: &str, right: &str) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    left.bytes().map(lower).cmp(right.bytes().map(lower))
}

#[inline]
fn is_lower_case(name: &str) -> bool {
    name.bytes()
        .fold(true, |all, byte| all & !byte.is_ascii_uppercase())
}

#[inline]
fn push_folded(out: &mut String, value: &str) {
    if !value.as_bytes().contains(&b' ') {
        out.push_str(value);
        return;
    }
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        out.push_str(first);
    }
    for word in words {
        out.push(' ');
        out.push_str(word);
    }
}
