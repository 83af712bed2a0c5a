//! Archive tables: how they are made, indexed and renamed.

use pgrx::pg_sys;

use crate::archive::columns::{HEAD, column_names, store_alike, wanted};
use crate::archive::heaps;
use crate::archive::layout::Kept;
use crate::archive::layouts::enter;
use crate::archive::names::{
    OWNER, free_name, month_tables_named_after, name_of, oid_of, schema_for,
};
use crate::archive::shown_to::{revoke_all, show};
use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Qualified};
use crate::postgres::settings::default_tablespace;
use crate::spi::session::{Session, first_column};

/// A source table, as far as making its archive needs it.
#[derive(Debug)]
pub struct Source {
    /// Its OID.
    pub oid: pg_sys::Oid,
    /// Its name.
    pub name: Qualified,
    /// Who owns it.
    pub owner: pg_sys::Oid,
    /// Whether it is unlogged.
    pub unlogged: bool,
    /// Whether it has row-level security.
    pub has_rls: bool,
}

/// Makes the archive of a table that has none, with its first layout.
pub fn create(session: &mut Session<'_, '_>, source: &Source) -> Outcome<pg_sys::Oid> {
    let _place = default_tablespace();
    let schema = schema_for(session, &source.name.schema)?;
    drop_unregistered(session, &schema, &source.name.name)?;
    let name = Qualified {
        name: free_name(session, &schema, &source.name.name)?,
        schema,
    };
    let columns = wanted(session, source.oid)?;
    let names = column_names(&columns, &[]);
    let payload = columns
        .iter()
        .zip(&names)
        .map(|(column, name)| format!(", {name} {}", column.definition));
    let [deletion, seq, layout] = HEAD;
    session.registry(
        &format!(
            "CREATE {unlogged}TABLE {name} ({deletion} pg_catalog.uuid NOT NULL, {seq} pg_catalog.int4 NOT NULL,
             {layout} pg_catalog.int4 NOT NULL{payload}) USING heap",
            unlogged = if source.unlogged { "UNLOGGED " } else { "" },
            payload = payload.collect::<String>(),
        ),
        &[],
    )?;
    let archive = oid_of(session, &name)?;
    store_alike(session, &name, columns.iter().zip(&names))?;
    index_deletions(session, &name)?;
    session.registry(&format!("ALTER TABLE {name} OWNER TO {OWNER}"), &[])?;
    revoke_all(session, archive, &name)?;
    show(session, &name, source.owner, source.has_rls)?;
    session.registry(
        "INSERT INTO keepsake.archive_table (archive, relation, source_schema, source_name) VALUES ($1, $2, $3::text::name, $4::text::name)",
        &[
            archive.into(),
            source.oid.into(),
            source.name.schema.0.as_str().into(),
            source.name.name.0.as_str().into(),
        ],
    )?;
    let first = i16::try_from(HEAD.len()).unwrap_or(0) + 1;
    let kept: Vec<Kept> = (first..)
        .zip(&columns)
        .map(|(archive_number, wanted)| Kept {
            column: wanted.column.clone(),
            archive_number,
        })
        .collect();
    enter(session, (archive, source.oid), 1, &kept, &[])?;
    Ok(archive)
}

/// The index over the deletions. Rows of one lie together.
pub fn index_deletions(session: &mut Session<'_, '_>, heap: &Qualified) -> Outcome<()> {
    let [deletion, ..] = HEAD;
    session.registry(
        &format!("CREATE INDEX ON {heap} USING brin ({deletion}) WITH (pages_per_range = 16, autosummarize = on)"),
        &[],
    )?;
    Ok(())
}

/// An archive, and its month tables where it is divided by month.
pub fn heaps(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Vec<Qualified>> {
    let months = heaps::months(session, archive)?;
    [archive]
        .into_iter()
        .chain(months.iter().map(|month| month.table))
        .map(|heap| name_of(session, heap))
        .collect()
}

/// Drops an archive with its month tables. Refused where something of somebody else's depends on it.
pub fn drop_archive(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    let months = heaps::months(session, archive)?;
    let month_tables = months.iter().map(|month| month.table);
    for heap in month_tables.chain([archive]) {
        let name = name_of(session, heap)?;
        session.registry(&format!("DROP TABLE {name}"), &[])?;
    }
    Ok(())
}

const KEY: &str = "
    SELECT a.attname::text AS name
    FROM pg_index i
    JOIN keepsake.archive_column k ON k.source_attnum = i.indkey[0]
        AND k.archive = $1 AND k.layout = (SELECT max(layout) FROM keepsake.archive_column WHERE archive = $1)
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = k.type
    WHERE i.indrelid = $2 AND i.indisprimary AND t.typnamespace = 'pg_catalog'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = $1 AND x.indkey[0] = a.attnum)";

/// Gives an archive an index over the first column of its source's key, if it has none: rows are looked for by it. Not over a type of
/// anybody's own, whose code would run with each DELETE.
pub fn index_key(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    source: pg_sys::Oid,
) -> Outcome<()> {
    let found = session.registry_now(KEY, &[archive.into(), source.into()])?;
    if let Some(row) = found.first() {
        let column = Ident(field(row, "name")?);
        let _place = default_tablespace();
        for name in heaps(session, archive)? {
            session.registry(&format!("CREATE INDEX ON {name} ({column})"), &[])?;
        }
    }
    Ok(())
}

/// Drops an archive of that name that the registry does not know and that has no rows: a dump without data leaves it. A month table is its archive's,
/// whatever the registry knows.
fn drop_unregistered(session: &mut Session<'_, '_>, schema: &Ident, table: &Ident) -> Outcome<()> {
    let rows = session.registry(
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r' AND pg_get_userbyid(c.relowner) = $3
           AND NOT EXISTS (SELECT FROM keepsake.archive_table a WHERE a.archive = c.oid)
           AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)",
        &[schema.0.as_str().into(), table.0.as_str().into(), OWNER.into()],
    )?;
    let name = Qualified {
        schema: schema.clone(),
        name: table.clone(),
    };
    let any = format!("SELECT 1 FROM {name} LIMIT 1");
    if rows.is_empty() || session.registry_exists_now(&any, &[])? {
        return Ok(());
    }
    // Its rows may be on their way: a dump is loaded by several workers.
    session.registry(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"), &[])?;
    if session.registry_exists_now(&any, &[])? {
        return Ok(());
    }
    let archive = oid_of(session, &name)?;
    drop_archive(session, archive)
}

/// Names an archive as its source is named now, and moves it to the archives of that schema.
pub fn rename_like(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    source: &Source,
) -> Outcome<()> {
    let schema = schema_for(session, &source.name.schema)?;
    let month_tables = month_tables_named_after(session, archive, &source.name.name)?;
    let whole = (archive, source.name.name.clone());
    for (heap, wanted) in month_tables.into_iter().chain([whole]) {
        rename(session, heap, &schema, &wanted)?;
    }
    session.registry(
        "UPDATE keepsake.archive_table SET source_schema = $2::text::name, source_name = $3::text::name WHERE archive = $1",
        &[
            archive.into(),
            source.name.schema.0.as_str().into(),
            source.name.name.0.as_str().into(),
        ],
    )?;
    Ok(())
}

/// Gives an archive or a month table a name, or one like it that is free, and moves it to a schema.
fn rename(
    session: &mut Session<'_, '_>,
    heap: pg_sys::Oid,
    schema: &Ident,
    wanted: &Ident,
) -> Outcome<()> {
    let name = name_of(session, heap)?;
    // By way of a name that is free in both schemas.
    let passing = Qualified {
        schema: name.schema.clone(),
        name: Ident(format!("keepsake_moving_{heap}")),
    };
    session.registry(
        &format!("ALTER TABLE {name} RENAME TO {}", passing.name),
        &[],
    )?;
    if *schema != passing.schema {
        move_to(session, heap, &passing, schema)?;
    }
    let passing = Qualified {
        schema: schema.clone(),
        ..passing
    };
    let wanted = free_name(session, schema, wanted)?;
    session.registry(&format!("ALTER TABLE {passing} RENAME TO {wanted}"), &[])?;
    Ok(())
}

/// Moves an archive, or a month table, to a schema, with its indexes, whose names others may have there.
fn move_to(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    name: &Qualified,
    schema: &Ident,
) -> Outcome<()> {
    let indexes: Vec<String> = first_column(session.registry(
        "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1",
        &[archive.into()],
    )?)?;
    let indexes: Vec<Ident> = indexes.into_iter().map(Ident).collect();
    let passing = |number: usize| Ident(format!("keepsake_moving_{archive}_{number}"));
    for (number, index) in indexes.iter().enumerate() {
        let old = Qualified {
            schema: name.schema.clone(),
            name: index.clone(),
        };
        session.registry(
            &format!("ALTER INDEX {old} RENAME TO {}", passing(number)),
            &[],
        )?;
    }
    session.registry(&format!("ALTER TABLE {name} SET SCHEMA {schema}"), &[])?;
    for (number, index) in indexes.iter().enumerate() {
        let moved = Qualified {
            schema: schema.clone(),
            name: passing(number),
        };
        let wanted = free_name(session, schema, index)?;
        session.registry(&format!("ALTER INDEX {moved} RENAME TO {wanted}"), &[])?;
    }
    Ok(())
}
