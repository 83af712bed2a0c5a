//! Which tables have an archive, and who may act on what it holds.

use pgrx::pg_sys;

use crate::model::error::Outcome;
use crate::spi::session::Session;

const MAY_ACT: &str = "
    SELECT has_table_privilege(c.oid, 'DELETE')
           AND (NOT row_security_active(c.oid) OR nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant' = $2)
    FROM pg_class c WHERE c.oid = $1";

/// Whether the caller may act on a deletion of a table with an archive: he may delete from the table, and where policies bind him,
/// which cannot be asked about a row that is gone, it is his tenant's. `None` where the table has no archive.
pub fn may_act(
    session: &Session<'_, '_>,
    table: pg_sys::Oid,
    tenant: Option<&str>,
) -> Outcome<Option<bool>> {
    if !has_archive(session, table)? {
        return Ok(None);
    }
    let rows = session.catalog_now(MAY_ACT, &[table.into(), tenant.into()])?;
    match rows.first() {
        Some(row) => Ok(Some(row.get(1)?.unwrap_or(false))),
        None => Ok(None),
    }
}

/// Whether a table has an archive.
pub fn has_archive(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<bool> {
    let found = session.registry_now(
        "SELECT 1 FROM keepsake.managed_table m WHERE m.relation = $1 AND m.keep = 'archive'",
        &[table.into()],
    )?;
    Ok(!found.is_empty())
}
