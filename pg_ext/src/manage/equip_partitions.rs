//! New partitions of a table with an archive get the triggers of statements that it has. PostgreSQL carries row triggers alone to them.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::source;
use crate::call::arguments::Regclass;
use crate::call::own_triggers;
use crate::graph::catalog::field;
use crate::manage::triggers;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::{Session, with_session};

const LACKED: &str = "
    SELECT t.name, n.nspname::text AS schema, c.relname::text AS part FROM keepsake.missing_archive_triggers(ARRAY[$1::oid]) t
    JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.relation <> t.root AND t.carried_by IN ('archived watched', 'archived referred') ORDER BY c.oid, 1";

/// Gives the partitions of an archived table the triggers of statements that they lack. It locks those partitions and no others, as the command does that made them, and unlike
/// `manage()`. Called by an event trigger alone.
#[pg_extern]
fn equip_partitions(relation: Regclass) -> Result<(), ErrorReport> {
    Ok(with_session(|session| equip(session, relation.oid()))?)
}

fn equip(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    for row in session.registry_now(LACKED, &[oid.into()])? {
        let part = Qualified {
            schema: Ident(field(&row, "schema")?),
            name: Ident(field(&row, "part")?),
        };
        let lacked: String = field(&row, "name")?;
        if let Some(trigger) = own_triggers::ALL
            .iter()
            .find(|trigger| trigger.name() == lacked)
        {
            triggers::create_on(session, &part, trigger, &[])?;
        }
    }
    source::forget(oid);
    Ok(())
}
