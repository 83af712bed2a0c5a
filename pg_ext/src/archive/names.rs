//! What archives and their schemas are called.

use pgrx::pg_sys;

use crate::graph::catalog::field;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::Session;

/// The role that owns every archive.
pub const OWNER: &str = "keepsake_archive";
/// How long a name may be, in bytes.
const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;

/// The name of an archive.
pub fn name_of(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Qualified> {
    let rows = session.catalog_now(
        "SELECT n.nspname::text AS schema, c.relname::text AS name
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[archive.into()],
    )?;
    let row = rows.first().ok_or_else(|| Failure::RowNotFound {
        table: "pg_class".into(),
    })?;
    Ok(Qualified {
        schema: Ident(field(row, "schema")?),
        name: Ident(field(row, "name")?),
    })
}

pub fn oid_of(session: &mut Session<'_, '_>, name: &Qualified) -> Outcome<pg_sys::Oid> {
    let found = session.registry(
        "SELECT $1::regclass::oid",
        &[name.to_string().as_str().into()],
    );
    let oid: Option<pg_sys::Oid> = found?.first().get_one()?;
    Ok(oid.unwrap_or(pg_sys::InvalidOid))
}

/// The schema of the archives of tables of `schema`: one that belongs to their owner, for who owns a schema may drop what
/// is in it.
pub fn schema_for(session: &mut Session<'_, '_>, schema: &Ident) -> Outcome<Ident> {
    let base = with_suffix(&schema.0, "_deleted");
    for number in 1.. {
        let name = numbered(&base, number);
        let rows = session.registry_now(
            "SELECT pg_get_userbyid(nspowner)::text AS owner FROM pg_namespace WHERE nspname = $1",
            &[name.as_str().into()],
        )?;
        let owner: Option<String> = match rows.first() {
            Some(row) => Some(field(row, "owner")?),
            None => None,
        };
        let name = Ident(name);
        match owner.as_deref() {
            Some(OWNER) => return Ok(name),
            Some(_) => {}
            None => {
                session.registry(&format!("CREATE SCHEMA {name} AUTHORIZATION {OWNER}"), &[])?;
                // A restore names archives in statements that run as its caller. What is in them is granted by table.
                session.registry(&format!("GRANT USAGE ON SCHEMA {name} TO PUBLIC"), &[])?;
                return Ok(name);
            }
        }
    }
    Ok(Ident(base))
}

/// A name that no relation and no type of the schema has, like that of the source.
pub fn free_name(session: &Session<'_, '_>, schema: &Ident, source: &Ident) -> Outcome<Ident> {
    for number in 1.. {
        let name = numbered(&source.0, number);
        let taken = session.registry_now(
            "SELECT 1 FROM pg_namespace n WHERE n.nspname = $1 AND (
                 EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = $2)
                 OR EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = n.oid AND t.typname = $2))",
            &[schema.0.as_str().into(), name.as_str().into()],
        )?;
        if taken.is_empty() {
            return Ok(Ident(name));
        }
    }
    Ok(source.clone())
}

/// The name, or with the first number that makes it another than those.
pub fn unused(name: &str, used: &[String]) -> String {
    (1..)
        .map(|number| numbered(name, number))
        .find(|name| !used.contains(name))
        .unwrap_or_else(|| name.to_owned())
}

/// The name itself as the first; the second ends in `_2`, and so on.
fn numbered(name: &str, number: u32) -> String {
    match number {
        1 => name.to_owned(),
        _ => with_suffix(name, &format!("_{number}")),
    }
}

/// The name with a suffix, cut so that both fit.
fn with_suffix(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(LONGEST.saturating_sub(suffix.len()));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}

/// What the table of a month is called, which is given by its first day, such as `2026-11-01`. With a space, so that no archive of another table is called so.
pub fn month_table_name(archive: &Ident, month: &str) -> Ident {
    let month = month.get(..7).unwrap_or(month);
    Ident(with_suffix(&archive.0, &format!(" {month}")))
}

/// The month tables of an archive, with the names that they would have after it.
const MONTH_TABLES: &str = "SELECT month_table::oid AS month_table, month::text AS month FROM keepsake.archive_month WHERE archive = $1 ORDER BY month";

/// The month tables of an archive, each with what it would be called after an archive of this name.
pub fn month_tables_named_after(
    session: &Session<'_, '_>,
    archive: pg_sys::Oid,
    name: &Ident,
) -> Outcome<Vec<(pg_sys::Oid, Ident)>> {
    let rows = session.registry_now(MONTH_TABLES, &[archive.into()])?;
    let tables = rows.iter().map(|row| {
        let month: String = field(row, "month")?;
        Ok((field(row, "month_table")?, month_table_name(name, &month)))
    });
    tables.collect()
}
