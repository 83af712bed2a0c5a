//! Which tables move together.

use pgrx::pg_sys;

use crate::model::error::Outcome;
use crate::spi::session::Session;

/// A table, and with `cascade` those that refer to it or to these: parents before the children found by them. `children` is
/// the query for the tables that refer to one.
pub fn closure(
    session: &Session<'_, '_>,
    oid: pg_sys::Oid,
    cascade: bool,
    children: &str,
) -> Outcome<Vec<pg_sys::Oid>> {
    let mut tables = vec![oid];
    let mut next = 0;
    while let (Some(table), true) = (tables.get(next).copied(), cascade) {
        for row in session.registry_now(children, &[table.into()])? {
            let child = row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid);
            if !tables.contains(&child) {
                tables.push(child);
            }
        }
        next += 1;
    }
    Ok(tables)
}
