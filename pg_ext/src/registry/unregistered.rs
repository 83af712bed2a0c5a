//! Tables that have Keepsake's triggers and are not in the registry, as a dump of one schema leaves them.

use pgrx::pg_sys;

use crate::model::error::Outcome;
use crate::spi::session::with_reading_session;
use crate::spi::shown_names;

/// The table that a partition is part of.
const WHOLE: &str = "SELECT coalesce(pg_partition_root($1)::oid, $1)";

/// The name of such a table, or of the one that such a partition is part of: it is to be managed.
pub fn shown(relation: pg_sys::Oid) -> Outcome<String> {
    with_reading_session(|session| {
        let whole = session.catalog(WHOLE, &[relation.into()])?;
        let whole = whole.first().get_one::<pg_sys::Oid>()?;
        shown_names::table(session, whole.unwrap_or(relation))
    })
}
