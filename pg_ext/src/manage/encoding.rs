//! Databases whose tables can be managed: those in UTF-8, and those without an encoding (`SQL_ASCII`).
//!
//! Names, keys and reports are texts in UTF-8. In another encoding, rows with other letters than ASCII in their keys or in the names of
//! their columns would be deleted and could not be restored. Without an encoding, texts are whatever the application sends, which nearly
//! always is UTF-8; `doctor()` says what happens otherwise.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};

/// Refuses a database in another encoding.
pub fn refuse_others() -> Outcome<()> {
    // SAFETY: both read what is set when the backend connects to its database; the name is a string that stays.
    let (encoding, name) = unsafe {
        let name = CStr::from_ptr(pg_sys::GetDatabaseEncodingName());
        (pg_sys::GetDatabaseEncoding(), name)
    };
    let readable = [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII];
    if u32::try_from(encoding).is_ok_and(|encoding| readable.contains(&encoding)) {
        return Ok(());
    }
    Err(Failure::Encoding {
        encoding: name.to_string_lossy().into_owned(),
    })
}
