//! Archives follow their sources when the schema changes; `sql/archive_ddl.sql` has the event triggers.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::{source, table};
use crate::call::arguments::Regclass;
use crate::call::own_triggers::{self, Carrier};
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Qualified};
use crate::postgres::pg_list::pointers;
use crate::spi::session::{Session, with_session};

/// Brings the archive of `relation` up to date: its columns, its name, and who may read it. Called by event triggers alone.
#[pg_extern]
fn follow_archive(relation: Regclass) -> Result<(), ErrorReport> {
    Ok(with_session(|session| follow(session, relation.oid()))?)
}

const ARCHIVE: &str = "
    SELECT t.archive::oid AS archive, n.nspname::text AS schema, c.relname::text AS name, c.relowner AS owner, c.relrowsecurity AS has_rls,
           (t.source_schema, t.source_name) <> (n.nspname, c.relname) AS renamed,
           c.relrowsecurity AND NOT a.relrowsecurity
           OR NOT EXISTS (SELECT FROM aclexplode(a.relacl) x WHERE x.grantee = c.relowner AND x.privilege_type = 'SELECT' AND x.is_grantable) AS shown_otherwise
    FROM keepsake.archive_table t
    JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class a ON a.oid = t.archive
    WHERE t.relation = $1";

fn follow(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let rows = session.registry_now(ARCHIVE, &[oid.into()])?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let flag = |name: &str| -> Outcome<bool> { Ok(row.get_by_name(name)?.unwrap_or(false)) };
    let text =
        |name: &str| -> Outcome<Ident> { Ok(Ident(row.get_by_name(name)?.unwrap_or_default())) };
    let number = |name: &str| -> Outcome<pg_sys::Oid> {
        Ok(row.get_by_name(name)?.unwrap_or(pg_sys::InvalidOid))
    };
    let archive = number("archive")?;
    let source = table::Source {
        oid,
        name: Qualified {
            schema: text("schema")?,
            name: text("name")?,
        },
        owner: number("owner")?,
        unlogged: false,
        has_rls: flag("has_rls")?,
    };
    table::follow(session, archive, oid)?;
    if flag("renamed")? {
        table::rename_like(session, archive, &source)?;
    }
    if flag("shown_otherwise")? {
        table::show_anew(session, archive, &source)?;
    }
    source::forget(oid);
    Ok(())
}

/// Before a command that attaches partitions: takes the triggers of archived tables away from those that become partitions of
/// another one. The command would fail because of their names.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.before_attach() RETURNS event_trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
fn before_attach(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: PostgreSQL gives the call's data.
    let Some(attached) = (unsafe { attached(fcinfo) }) else {
        return Err(Failure::BadArgument {
            what: "keepsake.before_attach() is the function of an event trigger".into(),
            fix: "Do not call it.".into(),
        }
        .into());
    };
    if attached.is_empty() {
        return Ok(());
    }
    Ok(with_session(|session| {
        attached
            .into_iter()
            .try_for_each(|(whole, part)| make_way(session, whole, part))
    })?)
}

/// The tables that a command makes partitions, each with that which it is to belong to; `None` when this is no event trigger.
///
/// # Safety
/// The data is that of a call.
unsafe fn attached(fcinfo: pg_sys::FunctionCallInfo) -> Option<Vec<(pg_sys::Oid, pg_sys::Oid)>> {
    // SAFETY: a node says by its tag what it is; an event trigger's data and the tree of its command live as long as the call.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || !pgrx::is_a(context, pg_sys::NodeTag::T_EventTriggerData) {
            return None;
        }
        let tree = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if tree.is_null() || !pgrx::is_a(tree, pg_sys::NodeTag::T_AlterTableStmt) {
            return Some(Vec::new());
        }
        let statement = tree.cast::<pg_sys::AlterTableStmt>();
        let mut found = Vec::new();
        for command in pointers::<pg_sys::AlterTableCmd>((*statement).cmds) {
            if (*command).subtype == pg_sys::AlterTableType::AT_AttachPartition {
                let partition = (*command).def.cast::<pg_sys::PartitionCmd>();
                found.push((named((*statement).relation), named((*partition).name)));
            }
        }
        Some(found)
    }
}

/// The table of this name, if there is one.
///
/// # Safety
/// The name is one of a parse tree.
unsafe fn named(name: *mut pg_sys::RangeVar) -> pg_sys::Oid {
    if name.is_null() {
        return pg_sys::InvalidOid;
    }
    // SAFETY: looks the name up as the command will, and locks nothing.
    unsafe {
        pg_sys::RangeVarGetRelidExtended(
            name,
            pg_sys::NoLock as pg_sys::LOCKMODE,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    }
}

/// What has a trigger of its own that the whole has as well, and belongs to the caller: others are refused by the command.
const IN_THE_WAY: &str = "
    SELECT n.nspname::text AS schema, c.relname::text AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = $2 AND pg_has_role(c.relowner, 'USAGE') AND NOT c.relispartition
      AND EXISTS (SELECT FROM keepsake.managed_table m JOIN pg_class w ON w.oid = m.relation
                  WHERE m.keep = 'archive' AND m.relation = coalesce(pg_partition_root($1)::oid, $1) AND pg_has_role(w.relowner, 'USAGE'))
      AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgparentid = 0 AND t.tgname = $3::text::name)";

fn make_way(session: &mut Session<'_, '_>, whole: pg_sys::Oid, part: pg_sys::Oid) -> Outcome<()> {
    for trigger in own_triggers::on(Carrier::Archived) {
        let trigger = trigger.name();
        let rows = session.catalog_now(IN_THE_WAY, &[whole.into(), part.into(), trigger.into()])?;
        let Some(row) = rows.first() else {
            continue;
        };
        let text = |name: &str| -> Outcome<Ident> {
            Ok(Ident(row.get_by_name(name)?.unwrap_or_default()))
        };
        let name = Qualified {
            schema: text("schema")?,
            name: text("name")?,
        };
        session.ddl(&format!("DROP TRIGGER {trigger} ON {name}"))?;
    }
    Ok(())
}
