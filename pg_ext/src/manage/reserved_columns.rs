//! Names of columns that no managed table may have: Keepsake's queries call what they know of a row so, beside the row's own columns.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::spi::session::Session;
use crate::spi::shown_names;

/// Refuses a table that has such a column. Where a table that is managed gets one, `keepsake.follow_ddl()` refuses the command.
pub fn refuse(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let found = session.registry_now(
        "SELECT min(attname::text) FROM pg_attribute
         WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND keepsake.is_reserved_column(attname)",
        &[oid.into()],
    )?;
    let column: Option<String> = match found.first() {
        Some(row) => row.get(1)?,
        None => None,
    };
    let Some(column) = column else {
        return Ok(());
    };
    let table = shown_names::table(session, oid)?;
    Err(Failure::CannotManage {
        why: format!(
            "Its column {column} has a name that Keepsake uses for what it knows of a row."
        ),
        fix: format!("Give the column another name: ALTER TABLE {table} RENAME {column} TO …."),
        table,
    })
}
