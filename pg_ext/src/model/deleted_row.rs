//! A row that a deletion removed.

use pgrx::{Uuid, pg_sys};

use crate::model::row_id::RowId;

/// A row that a deletion removed, kept in place or in an archive.
#[derive(Clone, Copy, Debug)]
pub struct DeletedRow {
    /// The deletion.
    pub deletion: Uuid,
    /// The row's table.
    pub table: pg_sys::Oid,
    /// Where the row is.
    pub row: RowId,
}
