//! Databases whose tables can be managed: those in UTF-8.
//!
//! Names, keys and reports are texts in UTF-8. In another encoding, rows with other letters than ASCII in their keys or in the names of
//! their columns would be deleted and could not be restored.

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
    if u32::try_from(encoding) == Ok(pg_sys::pg_enc::PG_UTF8) {
        return Ok(());
    }
    Err(Failure::Encoding {
        encoding: name.to_string_lossy().into_owned(),
    })
}
