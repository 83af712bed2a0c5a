//! Where a row version is: its table or partition, and its address (ctid) there. Good until this
//! transaction changes the row, while it holds a lock on it.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiTupleTable;

use crate::error::Outcome;

/// `(tableoid, ctid)`.
pub type RowAddress = (pg_sys::Oid, pg_sys::ItemPointerData);

/// Reads rows whose first two columns are `tableoid` and `ctid`.
pub fn addresses(rows: SpiTupleTable<'_>) -> Outcome<Vec<RowAddress>> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        if let (Some(relation), Some(address)) = (row.get(1)?, row.get(2)?) {
            found.push((relation, address));
        }
    }
    Ok(found)
}

/// The rows as two parallel arguments, `oid[]` and `tid[]`.
pub fn as_arguments(rows: &[RowAddress]) -> (DatumWithOid<'static>, DatumWithOid<'static>) {
    let (relations, addresses): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    (relations.into(), addresses.into())
}
