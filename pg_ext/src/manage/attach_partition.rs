//! The event trigger that lets a table with triggers of Keepsake's become a partition: it gets those of the partitioned table, and
//! PostgreSQL refuses two of one name.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::manage::ddl_command::{command, find_table, partition_step};
use crate::model::error::Outcome;
use crate::spi::session::{Session, first_column, with_session};

/// On `ddl_command_start` of ALTER TABLE.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.attach_partition() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.attach_partition() FROM PUBLIC;"
)]
fn attach_partition(call: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments.
    let attached = unsafe { attached(call) }?;
    if let Some((whole, partition)) = attached {
        with_session(|session| give_way(session, whole, partition))?;
    }
    Ok(())
}

/// The partitioned table and the table that the command attaches to it, if there are such.
unsafe fn attached(call: pg_sys::FunctionCallInfo) -> Outcome<Option<(pg_sys::Oid, pg_sys::Oid)>> {
    // SAFETY: the caller gives a call; each node is read as what its tag says it is.
    unsafe {
        let command = command(call, "keepsake.attach_partition", "ON ddl_command_start")?;
        let Some((whole, attached)) =
            partition_step(command, pg_sys::AlterTableType::AT_AttachPartition)
        else {
            return Ok(None);
        };
        let whole = find_table(whole, pg_sys::ShareUpdateExclusiveLock);
        let partition = find_table(attached.name, pg_sys::AccessExclusiveLock);
        Ok(whole.zip(partition))
    }
}

const GIVE_WAY: &str = "
    SELECT format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname)
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgrelid = $2 AND t.tgparentid = 0 AND t.tgtype & 1 = 1 AND p.pronamespace = 'keepsake'::regnamespace
      AND pg_has_role(c.relowner, 'USAGE')
      AND EXISTS (SELECT FROM pg_trigger o WHERE o.tgrelid = $1 AND o.tgname = t.tgname AND o.tgfoid = t.tgfoid)";

/// Drops the row triggers that the table will get again. Whoever may attach it may do that.
fn give_way(
    session: &mut Session<'_, '_>,
    whole: pg_sys::Oid,
    partition: pg_sys::Oid,
) -> Outcome<()> {
    let drops: Vec<String> =
        first_column(session.catalog(GIVE_WAY, &[whole.into(), partition.into()])?)?;
    drops.iter().try_for_each(|drop| session.ddl(drop))
}
