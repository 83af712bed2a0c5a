//! The columns that an archive has for those of its source.

use pgrx::pg_sys;

use crate::archive::layout::Column;
use crate::archive::names::unused;
use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Qualified, join};
use crate::spi::session::Session;

/// The columns that each archive begins with.
pub const HEAD: [&str; 3] = ["keepsake_deletion", "keepsake_seq", "keepsake_layout"];

const COLUMNS: &str = include_str!("source_columns.sql");

/// A column, and what else making one like it takes.
pub struct Wanted {
    /// The column.
    pub column: Column,
    /// The type, length and collation in SQL.
    pub definition: String,
    storage: Option<String>,
    compression: Option<String>,
    /// What rows have that are older than the column.
    pub missing: Option<String>,
}

/// The columns of a source as they are now.
pub fn wanted(session: &Session<'_, '_>, source: pg_sys::Oid) -> Outcome<Vec<Wanted>> {
    let rows = session.registry_now(COLUMNS, &[source.into()])?;
    rows.iter()
        .map(|row| {
            let (type_sql, collation_sql): (String, String) =
                (field(row, "type_sql")?, field(row, "collation_sql")?);
            Ok(Wanted {
                column: Column {
                    number: field(row, "attnum")?,
                    name: field(row, "name")?,
                    type_oid: field(row, "type")?,
                    typmod: field(row, "typmod")?,
                    collation: row.get_by_name("collation")?.unwrap_or(pg_sys::InvalidOid),
                    generated: field(row, "generated")?,
                    in_key: field(row, "in_key")?,
                },
                definition: format!("{type_sql}{collation_sql}"),
                storage: row.get_by_name("storage")?,
                compression: row.get_by_name("compression")?,
                missing: row.get_by_name("missing")?,
            })
        })
        .collect()
}

/// The columns of an archive that are there, by number.
pub fn columns_of(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Vec<(i16, String)>> {
    let rows = session.catalog_now(
        "SELECT attnum, attname::text AS name FROM pg_attribute
         WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        &[archive.into()],
    )?;
    rows.iter()
        .map(|row| Ok((field(row, "attnum")?, field(row, "name")?)))
        .collect()
}

/// The names of an archive's columns: those of the source, but for what is taken.
pub fn column_names(columns: &[Wanted], taken: &[String]) -> Vec<Ident> {
    let mut used: Vec<String> = HEAD.iter().map(|name| (*name).to_owned()).collect();
    used.extend_from_slice(taken);
    columns
        .iter()
        .map(|wanted| {
            let name = unused(&wanted.column.name, &used);
            used.push(name.clone());
            Ident(name)
        })
        .collect()
}

/// Stores columns as the source stores them, and has nothing computed of their values: ANALYZE would run functions
/// that the owner of a type wrote.
pub fn store_alike<'a>(
    session: &mut Session<'_, '_>,
    name: &Qualified,
    columns: impl Iterator<Item = (&'a Wanted, &'a Ident)>,
) -> Outcome<()> {
    let mut actions = Vec::new();
    for (wanted, column) in columns {
        actions.push(format!("ALTER {column} SET STATISTICS 0"));
        if let Some(storage) = &wanted.storage {
            actions.push(format!("ALTER {column} SET STORAGE {storage}"));
        }
        if let Some(compression) = &wanted.compression {
            actions.push(format!("ALTER {column} SET COMPRESSION {compression}"));
        }
    }
    if !actions.is_empty() {
        session.registry(&format!("ALTER TABLE {name} {}", join(actions, ", ")), &[])?;
    }
    Ok(())
}
