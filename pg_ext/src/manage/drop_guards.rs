//! What `unmanage` takes back from the tables that referred to a table of its own.

use crate::call::own_triggers::{self, Carrier};
use crate::model::error::Outcome;
use crate::spi::session::{Session, first_column};

/// Tables that have guards and no longer refer to any managed table, nor does one that they are a partition of.
const NEEDLESS: &str = "
    SELECT format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
    FROM pg_trigger t
    JOIN pg_proc p ON p.oid = t.tgfoid
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT array_agg(a.relid::oid) || c.oid AS oids FROM pg_partition_ancestors(c.oid) AS a) whole
    WHERE p.pronamespace = 'keepsake'::regnamespace AND p.proname = ANY ($1)
      AND NOT t.tgisinternal AND t.tgparentid = 0 AND pg_has_role(c.relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM keepsake.declared_reference d WHERE d.child = ANY (whole.oids))
      AND NOT EXISTS (SELECT FROM pg_constraint con
                      WHERE con.contype = 'f' AND con.conrelid = ANY (whole.oids)
                        AND con.confrelid IN (SELECT relation FROM keepsake.kept_in_place))";

/// Drops the guards that nothing needs any more, as far as the caller may: on a table of another
/// owner they stay, and find nothing to refuse.
pub fn drop_needless_guards(session: &mut Session<'_, '_>) -> Outcome<()> {
    let guards: Vec<String> = [Carrier::Referring, Carrier::ReferringPartitioned]
        .into_iter()
        .flat_map(own_triggers::on)
        .map(|trigger| trigger.function.to_owned())
        .collect();
    let drops: Vec<String> = first_column(session.catalog(NEEDLESS, &[guards.into()])?)?;
    for drop in drops {
        session.ddl(&drop)?;
    }
    Ok(())
}
