//! Names as a person would write them, for messages.

use pgrx::pg_sys;

use crate::model::error::Outcome;
use crate::spi::session::Session;

/// A table's name as a person would write it.
pub fn table(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<String> {
    let name = session
        .catalog("SELECT $1::regclass::text", &[table.into()])?
        .first()
        .get_one()?;
    Ok(name.unwrap_or_else(|| table.to_u32().to_string()))
}

/// A type's name as a person would write it.
pub fn type_name(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<String> {
    let name = session
        .catalog("SELECT format_type($1, NULL)", &[oid.into()])?
        .first()
        .get_one()?;
    Ok(name.unwrap_or_default())
}
