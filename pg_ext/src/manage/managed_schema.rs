//! Managed schemas: which schemas have every table managed.

use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::names;
use crate::manage::archived_table::{Keep, Options};
use crate::manage::encoding;
use crate::model::error::{Failure, Outcome, required};
use crate::model::sql::Ident;
use crate::purge::retention::refuse_negative;
use crate::spi::session::{Session, with_session};

/// Enters a schema in the registry. `keepsake.manage_schema()` calls it, and then manages what is there.
///
/// # Errors
/// 42501 for anyone but the schema's owner; 0A000 for a schema that holds no tables of an application's; 22023 for `keep =>
/// 'in place'`, which would add columns to tables, and for values that mean nothing.
#[pg_extern]
fn register_schema(
    schema: Option<pg_sys::Oid>,
    keep: Option<&str>,
    retention: Option<Interval>,
    on_truncate: Option<&str>,
) -> Result<(), ErrorReport> {
    encoding::refuse_others()?;
    let (schema, keep) = (required(schema, "schema")?, required(keep, "keep")?);
    Ok(with_session(|session| {
        register(session, schema, keep, retention, on_truncate)
    })?)
}

/// Removes a schema from the registry: see `keepsake.unmanage_schema()`.
///
/// # Errors
/// 42501 for anyone but the schema's owner.
#[pg_extern]
fn forget_schema(schema: pg_sys::Oid) -> Result<(), ErrorReport> {
    Ok(with_session(|session| -> Outcome<()> {
        check(session, schema)?;
        session.registry(
            "DELETE FROM keepsake.whole_schema s USING pg_namespace n WHERE n.oid = $1 AND s.schema = n.nspname",
            &[schema.into()],
        )?;
        Ok(())
    })?)
}

fn register(
    session: &mut Session<'_, '_>,
    schema: pg_sys::Oid,
    keep: &str,
    retention: Option<Interval>,
    on_truncate: Option<&str>,
) -> Outcome<()> {
    if Keep::parse(keep)? != Keep::Archive {
        return Err(Failure::BadArgument {
            what: "a schema cannot be kept in place".into(),
            fix: "Give keep => 'archive', or manage each table.".into(),
        });
    }
    let name = check(session, schema)?;
    Options {
        retention,
        on_truncate,
        after_triggers: None,
        cascade: false,
    }
    .check()?;
    refuse_negative(session, retention)?;
    session.registry(
        "INSERT INTO keepsake.whole_schema (schema, retention, on_truncate) SELECT n.nspname, $2, $3 FROM pg_namespace n WHERE n.oid = $1
         ON CONFLICT (schema) DO UPDATE SET retention = coalesce(excluded.retention, whole_schema.retention),
             on_truncate = coalesce(excluded.on_truncate, whole_schema.on_truncate)",
        &[
            schema.into(),
            retention.map_or_else(DatumWithOid::null::<Interval>, Into::into),
            on_truncate.into(),
        ],
    )?;
    // Not only with the first table: who makes that would have everyone wait who makes another before his transaction ends.
    names::schema_for(session, &Ident(name))?;
    Ok(())
}

/// Leaves a table out of its schema, if that is managed.
pub fn except(session: &mut Session<'_, '_>, table: pg_sys::Oid) -> Outcome<()> {
    session.registry(
        "UPDATE keepsake.whole_schema s SET exceptions = s.exceptions || $1::regclass
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = $1 AND s.schema = n.nspname AND c.oid <> ALL (s.exceptions)",
        &[table.into()],
    )?;
    Ok(())
}

const DESCRIBE: &str = "
    SELECT n.nspname::text AS name, pg_has_role(n.nspowner, 'USAGE') AS owned,
           n.nspname ~ '^(pg_|information_schema$|keepsake$)' OR pg_get_userbyid(n.nspowner) = 'keepsake_archive' AS is_system
    FROM pg_namespace n WHERE n.oid = $1";

/// The name of a schema that the caller may have managed.
fn check(session: &Session<'_, '_>, schema: pg_sys::Oid) -> Outcome<String> {
    let rows = session.catalog_now(DESCRIBE, &[schema.into()])?;
    let row = rows.first().ok_or_else(|| Failure::RowNotFound {
        table: "pg_namespace".into(),
    })?;
    let name: String = row.get_by_name("name")?.unwrap_or_default();
    if row.get_by_name("owned")? != Some(true) {
        return Err(Failure::NotSchemaOwner { schema: name });
    }
    if row.get_by_name("is_system")? == Some(true) {
        return Err(Failure::BadArgument {
            what: format!("schema {name} belongs to PostgreSQL or to Keepsake"),
            fix: "Manage a schema of your application.".into(),
        });
    }
    Ok(name)
}
