//! What the analysis of a query says of its constants; hooks pass it on.

use pgrx::pg_sys;

/// As the release's hook takes it.
#[cfg(not(feature = "pg19"))]
pub type Jumble = *mut pg_sys::JumbleState;

/// As the release's hook takes it.
#[cfg(feature = "pg19")]
pub type Jumble = *const pg_sys::JumbleState;
