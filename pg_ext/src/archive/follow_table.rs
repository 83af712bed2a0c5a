//! An archive follows its table: its columns, its name, and who may read it.

use pgrx::pg_sys;

use crate::archive::using::{self, Conversion, Converted};
use crate::archive::{layouts, objects, shown_to, table};
use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::Session;

/// One whose columns are not known is being loaded from a dump by several workers, which bring them.
const ARCHIVE: &str = "
    SELECT t.archive::oid AS archive, n.nspname::text AS schema, c.relname::text AS name, c.relowner AS owner, c.relrowsecurity AS has_rls,
           (t.source_schema, t.source_name) <> (n.nspname, c.relname) AS renamed,
           c.relrowsecurity AND NOT (a.relrowsecurity AND EXISTS (
               SELECT FROM pg_policy p WHERE p.polrelid = a.oid AND p.polname = $2 AND p.polroles = ARRAY[c.relowner]))
           OR NOT EXISTS (SELECT FROM aclexplode(a.relacl) x WHERE x.grantee = c.relowner AND x.privilege_type = 'SELECT' AND x.is_grantable) AS shown_otherwise
    FROM keepsake.archive_table t
    JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class a ON a.oid = t.archive
    WHERE t.relation = $1 AND EXISTS (SELECT FROM keepsake.archive_column k WHERE k.archive = t.archive)";

/// Brings the archive of a table up to date, if it has one, also with what a running command does to the values of columns.
pub fn follow(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let rows = session.registry_now(ARCHIVE, &[oid.into(), shown_to::POLICY.into()])?;
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
    let ancestors = ancestors(session, oid)?;
    let converted = using::of(oid, &ancestors);
    layouts::follow(session, archive, oid, &converted, false)?;
    forget_undo(session, oid, &converted)?;
    objects::index(session, archive)?;
    if flag("renamed")? {
        table::rename_like(session, archive, &source)?;
    }
    if flag("shown_otherwise")? {
        shown_to::show_anew(session, archive, (source.owner, source.has_rls))?;
    }
    using::note_followed(oid, &ancestors);
    Ok(())
}

/// The table, and those that it inherits from, where it matters: a command that converts their values converts its own.
pub fn ancestors(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Vec<pg_sys::Oid>> {
    if !using::is_any() {
        return Ok(Vec::new());
    }
    let rows = session.catalog_now(
        "WITH RECURSIVE ancestor (oid) AS (
             SELECT $1::oid UNION SELECT i.inhparent FROM pg_inherits i JOIN ancestor ON i.inhrelid = ancestor.oid)
         SELECT oid FROM ancestor",
        &[oid.into()],
    )?;
    rows.iter().map(|row| field(row, "oid")).collect()
}

/// What a column was set to NULL or to a default from cannot be put back, once its values have become others: as if the column had gone.
fn forget_undo(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    converted: &Converted,
) -> Outcome<()> {
    for (column, how) in converted {
        if *how == Conversion::Unknown {
            session.registry(
                "UPDATE keepsake.archive_undo SET columns = array_replace(columns, $2, ''), key_columns = array_replace(key_columns, $2, '')
                 WHERE relation = $1 AND $2 = ANY (columns || key_columns)",
                &[oid.into(), column.as_str().into()],
            )?;
        }
    }
    Ok(())
}
