//! Stands in for the crate `stringprep`, of which PostgreSQL drivers use one function, and that on
//! passwords: its tables, with those of Unicode normalization, would make up a sixth of the worker.
//! See `docs/decisions/0010-no-unicode-tables-in-the-worker.md`.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

/// The text is not ASCII, or has control characters.
#[derive(Debug)]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SASLprep is done for ASCII alone")
    }
}

impl std::error::Error for Error {}

/// SASLprep (RFC 4013), which leaves visible ASCII and spaces as they are. For any other text it
/// fails, and `postgres-protocol` sends the password as it stands, as PostgreSQL's own library does
/// where SASLprep forbids it.
///
/// # Errors
/// [`Error`].
pub fn saslprep(text: &str) -> Result<Cow<'_, str>, Error> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(text.into())
    } else {
        Err(Error)
    }
}
