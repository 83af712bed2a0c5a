//! Archive tables: how they are named, made, and given further layouts.

use pgrx::pg_sys;

use crate::archive::layout::{self, Change, Column, Kept};
use crate::archive::using::Converted;
use crate::graph::catalog::field;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Qualified, join};
use crate::spi::session::{Session, first_column};

/// The role that owns every archive.
const OWNER: &str = "keepsake_archive";
/// The columns that each archive begins with.
pub const HEAD: [&str; 3] = ["keepsake_deletion", "keepsake_seq", "keepsake_layout"];
/// How long a name may be, in bytes.
const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;

const COLUMNS: &str = include_str!("source_columns.sql");
const NEWEST: &str = "
    SELECT k.layout, k.source_attnum, k.source_name::text AS name, a.attnum AS archive_attnum, k.type::oid, k.typmod,
           to_regcollation(k.collation)::oid AS \"collation\", k.generated
    FROM keepsake.archive_column k
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
    WHERE k.archive = $1 AND k.layout = (SELECT max(layout) FROM keepsake.archive_column WHERE archive = $1)
    ORDER BY k.source_attnum";

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

/// A column, and what else making one like it takes.
struct Wanted {
    column: Column,
    /// The type, length and collation in SQL.
    definition: String,
    storage: Option<String>,
    compression: Option<String>,
    missing: Option<String>,
}

/// Makes the archive of a table that has none, with its first layout.
pub fn create(session: &mut Session<'_, '_>, source: &Source) -> Outcome<pg_sys::Oid> {
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
    session.registry(
        &format!("CREATE INDEX ON {name} USING brin ({deletion}) WITH (pages_per_range = 16, autosummarize = on)"),
        &[],
    )?;
    session.registry(&format!("ALTER TABLE {name} OWNER TO {OWNER}"), &[])?;
    show(session, &name, source)?;
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
        let name = name_of(session, archive)?;
        session.registry(&format!("CREATE INDEX ON {name} ({column})"), &[])?;
    }
    Ok(())
}

/// Drops an archive of that name that the registry does not know and that has no rows: a dump without data leaves it.
fn drop_unregistered(session: &mut Session<'_, '_>, schema: &Ident, table: &Ident) -> Outcome<()> {
    let rows = session.registry(
        "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r' AND pg_get_userbyid(c.relowner) = $3
           AND NOT EXISTS (SELECT FROM keepsake.archive_table a WHERE a.archive = c.oid)",
        &[schema.0.as_str().into(), table.0.as_str().into(), OWNER.into()],
    )?;
    let name = Qualified {
        schema: schema.clone(),
        name: table.clone(),
    };
    if rows.is_empty()
        || !session
            .registry(&format!("SELECT 1 FROM {name} LIMIT 1"), &[])?
            .is_empty()
    {
        return Ok(());
    }
    session.registry(&format!("DROP TABLE {name}"), &[])?;
    Ok(())
}

/// Brings the layouts of an archive up to date with its source, if they are not; answers with the newest. `converted` are columns
/// whose values a command is converting otherwise than by an assignment.
pub fn follow(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    source: pg_sys::Oid,
    converted: &Converted,
) -> Outcome<(i32, Vec<Kept>)> {
    let columns = wanted(session, source)?;
    let now: Vec<Column> = columns.iter().map(|wanted| wanted.column.clone()).collect();
    // What a dump has numbered anew is another column, whatever its number.
    session.registry("SELECT keepsake.number_anew($1)", &[archive.into()])?;
    let (number, newest) = newest(session, archive)?;
    if layout::change(&newest, &now, converted).is_none() {
        return Ok((number, newest));
    }
    let name = name_of(session, archive)?;
    // Whoever else has seen the change waits here, and then finds it followed.
    session.registry(
        &format!("LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE"),
        &[],
    )?;
    let (number, newest) = self::newest(session, archive)?;
    let Some(change) = layout::change(&newest, &now, converted) else {
        return Ok((number, newest));
    };
    let only_renames = change.only_renames();
    let kept = append(session, (archive, &name), &columns, change)?;
    let added = columns.iter().filter(|wanted| {
        !newest
            .iter()
            .any(|kept| kept.column.number == wanted.column.number)
    });
    let missing: Vec<(i16, &str)> = added
        .filter_map(|wanted| Some((wanted.column.number, wanted.missing.as_deref()?)))
        .collect();
    name_sources(session, archive)?;
    if only_renames {
        return Ok((number, kept));
    }
    enter(session, (archive, source), number + 1, &kept, &missing)?;
    for (column, how) in converted {
        session.registry(
            "UPDATE keepsake.archive_column SET conversion = $4 WHERE archive = $1 AND layout = $2 AND source_name = $3::text::name",
            &[archive.into(), (number + 1).into(), column.as_str().into(), how.name().into()],
        )?;
    }
    Ok((number + 1, kept))
}

/// The names that the columns of a source have now, of those that its archive knows by others.
const NEW_NAMES: &str = "
    SELECT DISTINCT k.archive, k.source_name AS was, s.attname AS becomes
    FROM keepsake.archive_table t JOIN keepsake.archive_column k ON k.archive = t.archive
    JOIN pg_attribute s ON s.attrelid = t.relation AND s.attnum = k.source_attnum AND NOT s.attisdropped
    WHERE t.archive = $1 AND k.source_name <> s.attname";

/// Calls the columns of the source by the names that they have now, in every layout, and where they name objects.
fn name_sources(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    session.registry(
        &format!(
            "WITH renamed AS ({NEW_NAMES})
             UPDATE keepsake.archive_table t
             SET object_key = coalesce((SELECT r.becomes FROM renamed r WHERE r.was = t.object_key), t.object_key),
                 writable_until = coalesce((SELECT r.becomes FROM renamed r WHERE r.was = t.writable_until), t.writable_until)
             WHERE t.archive = $1 AND EXISTS (SELECT FROM renamed r WHERE r.was IN (t.object_key, t.writable_until))"
        ),
        &[archive.into()],
    )?;
    session.registry(
        "UPDATE keepsake.archive_column k SET source_name = s.attname
         FROM keepsake.archive_table t JOIN pg_attribute s ON s.attrelid = t.relation AND NOT s.attisdropped
         WHERE t.archive = $1 AND k.archive = t.archive AND s.attnum = k.source_attnum AND k.source_name <> s.attname",
        &[archive.into()],
    )?;
    Ok(())
}

/// Gives an archive the columns of a new layout.
fn append(
    session: &mut Session<'_, '_>,
    (archive, name): (pg_sys::Oid, &Qualified),
    columns: &[Wanted],
    change: Change,
) -> Outcome<Vec<Kept>> {
    for dropped in kept_of(session, archive, &change.dropped)? {
        session.registry(
            &format!("ALTER TABLE {name} DROP COLUMN {}", Ident(dropped)),
            &[],
        )?;
    }
    forget_lost(session, archive)?;
    let added: Vec<&Wanted> = change
        .added
        .iter()
        .filter_map(|column| columns.iter().find(|wanted| wanted.column == *column))
        .collect();
    let names = name_anew(session, (archive, name), &change.kept, &added)?;
    for (wanted, column) in added.iter().zip(&names) {
        session.registry(
            &format!(
                "ALTER TABLE {name} ADD COLUMN {column} {}",
                wanted.definition
            ),
            &[],
        )?;
    }
    store_alike(session, name, added.iter().copied().zip(&names))?;
    release_types(session, archive)?;
    let now = columns_of(session, archive)?;
    let mut kept = change.kept;
    for (wanted, column) in added.iter().zip(&names) {
        if let Some((number, _)) = now.iter().find(|(_, name)| *name == column.0) {
            kept.push(Kept {
                column: wanted.column.clone(),
                archive_number: *number,
            });
        }
    }
    kept.sort_by_key(|kept| kept.column.number);
    Ok(kept)
}

/// Forgets columns that the archive has no more: another column may be called so from now on.
fn forget_lost(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    session.registry(
        "DELETE FROM keepsake.archive_column k WHERE k.archive = $1 AND NOT EXISTS (
             SELECT FROM pg_attribute a WHERE a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped)",
        &[archive.into()],
    )?;
    Ok(())
}

/// The columns of the archive that any layout has for these columns of the source.
fn kept_of(
    session: &Session<'_, '_>,
    archive: pg_sys::Oid,
    source_numbers: &[i16],
) -> Outcome<Vec<String>> {
    if source_numbers.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.registry_now(
        "SELECT a.attname::text AS name FROM pg_attribute a
         WHERE a.attrelid = $1 AND NOT a.attisdropped AND a.attname IN (
             SELECT k.archive_name FROM keepsake.archive_column k WHERE k.archive = $1 AND k.source_attnum = ANY ($2))
         ORDER BY a.attnum",
        &[archive.into(), source_numbers.to_vec().into()],
    )?;
    rows.iter().map(|row| field(row, "name")).collect()
}

/// Lets the columns of the archive be named as those of the source are now: what served before steps aside.
fn name_anew(
    session: &mut Session<'_, '_>,
    (archive, table): (pg_sys::Oid, &Qualified),
    kept: &[Kept],
    added: &[&Wanted],
) -> Outcome<Vec<Ident>> {
    let taken = columns_of(session, archive)?;
    let wanted = kept
        .iter()
        .map(|kept| (Some(kept.archive_number), kept.column.name.as_str()))
        .chain(
            added
                .iter()
                .map(|wanted| (None, wanted.column.name.as_str())),
        );
    let wanted: Vec<(Option<i16>, &str)> = wanted.collect();
    let mut used: Vec<String> = HEAD.iter().map(|name| (*name).to_owned()).collect();
    let targets: Vec<(Option<i16>, String)> = wanted
        .iter()
        .map(|(number, name)| {
            let target = unused(name, &used);
            used.push(target.clone());
            (*number, target)
        })
        .collect();
    // First out of the way, then to the right places: names may have been exchanged.
    let mut moves: Vec<(String, String)> = Vec::new();
    for (number, name) in taken.iter().skip(HEAD.len()) {
        let target = targets.iter().find(|(kept, _)| *kept == Some(*number));
        let target = match target {
            Some((_, target)) if target == name => continue,
            Some((_, target)) => target.clone(),
            None if used.contains(name) => {
                // A column may have stepped aside before.
                let others = taken.iter().map(|(_, name)| name.clone());
                let used_or_taken: Vec<String> = used.iter().cloned().chain(others).collect();
                let aside = unused(&format!("{name}_old"), &used_or_taken);
                used.push(aside.clone());
                aside
            }
            None => continue,
        };
        let passing = format!("keepsake_moving_{number}");
        rename(session, (archive, table), name, &passing)?;
        moves.push((passing, target));
    }
    for (passing, target) in moves {
        rename(session, (archive, table), &passing, &target)?;
    }
    let added = targets.into_iter().filter(|(number, _)| number.is_none());
    Ok(added.map(|(_, name)| Ident(name)).collect())
}

fn rename(
    session: &mut Session<'_, '_>,
    (archive, table): (pg_sys::Oid, &Qualified),
    from: &str,
    to: &str,
) -> Outcome<()> {
    session.registry(
        &format!(
            "ALTER TABLE {table} RENAME COLUMN {} TO {}",
            Ident(from.to_owned()),
            Ident(to.to_owned())
        ),
        &[],
    )?;
    session.registry(
        "UPDATE keepsake.archive_column SET archive_name = $3::text::name WHERE archive = $1 AND archive_name = $2::text::name",
        &[archive.into(), from.into(), to.into()],
    )?;
    Ok(())
}

/// Stores columns as the source stores them, and has nothing computed of their values: ANALYZE would run functions
/// that the owner of a type wrote.
fn store_alike<'a>(
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

/// Lets types and collations go that an archive has columns of.
fn release_types(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    session.registry("SELECT keepsake.release_types($1)", &[archive.into()])?;
    Ok(())
}

/// Names an archive as its source is named now, and moves it to the archives of that schema.
pub fn rename_like(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    source: &Source,
) -> Outcome<()> {
    let name = name_of(session, archive)?;
    let schema = schema_for(session, &source.name.schema)?;
    // By way of a name that is free in both schemas.
    let passing = Qualified {
        schema: name.schema.clone(),
        name: Ident(format!("keepsake_moving_{archive}")),
    };
    session.registry(
        &format!("ALTER TABLE {name} RENAME TO {}", passing.name),
        &[],
    )?;
    if schema != passing.schema {
        session.registry(&format!("ALTER TABLE {passing} SET SCHEMA {schema}"), &[])?;
    }
    let passing = Qualified { schema, ..passing };
    let wanted = free_name(session, &passing.schema, &source.name.name)?;
    session.registry(&format!("ALTER TABLE {passing} RENAME TO {wanted}"), &[])?;
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

/// Shows an archive to the owner that its source has now, and to nobody else any more.
pub fn show_anew(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    source: &Source,
) -> Outcome<()> {
    let name = name_of(session, archive)?;
    let readers: Vec<String> = first_column(session.registry(
        "SELECT DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
         FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS x WHERE c.oid = $1 AND x.grantee <> c.relowner",
        &[archive.into()],
    )?)?;
    for reader in readers {
        session.registry(&format!("REVOKE ALL ON {name} FROM {reader} CASCADE"), &[])?;
    }
    let closed = !session
        .registry(
            "SELECT 1 FROM pg_policy WHERE polrelid = $1 AND polname = 'keepsake_source_owner'",
            &[archive.into()],
        )?
        .is_empty();
    if closed {
        session.registry(&format!("DROP POLICY keepsake_source_owner ON {name}"), &[])?;
    }
    show(session, &name, source)
}

/// Who may read an archive: the owner of its source, and whom he lets. Under row-level security of the source, he alone.
fn show(session: &mut Session<'_, '_>, name: &Qualified, source: &Source) -> Outcome<()> {
    let owner: Option<String> = session
        .registry(
            "SELECT rolname::text FROM pg_roles WHERE oid = $1",
            &[source.owner.into()],
        )?
        .first()
        .get_one()?;
    let Some(owner) = owner.map(Ident) else {
        return Ok(());
    };
    session.registry(
        &format!("GRANT SELECT ON {name} TO {owner} WITH GRANT OPTION"),
        &[],
    )?;
    session.registry(
        &format!("GRANT USAGE ON SCHEMA {} TO {owner}", name.schema),
        &[],
    )?;
    if source.has_rls {
        session.registry(
            &format!(
                "CREATE POLICY keepsake_source_owner ON {name} FOR SELECT TO {owner} USING (true)"
            ),
            &[],
        )?;
        session.registry(
            &format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"),
            &[],
        )?;
    }
    Ok(())
}

/// The newest layout of an archive.
pub fn newest(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<(i32, Vec<Kept>)> {
    let mut number = 0;
    let mut columns = Vec::new();
    for row in session.registry_now(NEWEST, &[archive.into()])? {
        number = field(&row, "layout")?;
        columns.push(Kept {
            column: Column {
                number: field(&row, "source_attnum")?,
                name: field(&row, "name")?,
                type_oid: field(&row, "type")?,
                typmod: field(&row, "typmod")?,
                collation: row.get_by_name("collation")?.unwrap_or(pg_sys::InvalidOid),
                generated: field(&row, "generated")?,
            },
            archive_number: field(&row, "archive_attnum")?,
        });
    }
    Ok((number, columns))
}

/// The columns of a source as they are now.
fn wanted(session: &Session<'_, '_>, source: pg_sys::Oid) -> Outcome<Vec<Wanted>> {
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
                },
                definition: format!("{type_sql}{collation_sql}"),
                storage: row.get_by_name("storage")?,
                compression: row.get_by_name("compression")?,
                missing: row.get_by_name("missing")?,
            })
        })
        .collect()
}

/// Enters a layout in the registry.
fn enter(
    session: &mut Session<'_, '_>,
    (archive, source): (pg_sys::Oid, pg_sys::Oid),
    number: i32,
    kept: &[Kept],
    missing: &[(i16, &str)],
) -> Outcome<()> {
    for Kept {
        column,
        archive_number,
    } in kept
    {
        let missing = missing
            .iter()
            .find(|(number, _)| *number == column.number)
            .map(|(_, value)| *value);
        session.registry(
            "INSERT INTO keepsake.archive_column (archive, layout, source_attnum, source_name, archive_name, type, typmod, \"collation\", missing, generated, numbered)
             SELECT $1, $2, $3, $4::text::name, a.attname, $6, $7,
                    (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = $8),
                    $9, $10, keepsake.numbering($11)
             FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum = $5",
            &[
                archive.into(),
                number.into(),
                column.number.into(),
                column.name.as_str().into(),
                (*archive_number).into(),
                column.type_oid.into(),
                column.typmod.into(),
                column.collation.into(),
                missing.into(),
                column.generated.into(),
                source.into(),
            ],
        )?;
    }
    Ok(())
}

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

fn oid_of(session: &mut Session<'_, '_>, name: &Qualified) -> Outcome<pg_sys::Oid> {
    let found = session.registry(
        "SELECT $1::regclass::oid",
        &[name.to_string().as_str().into()],
    );
    let oid: Option<pg_sys::Oid> = found?.first().get_one()?;
    Ok(oid.unwrap_or(pg_sys::InvalidOid))
}

/// The columns of an archive that are there, by number.
fn columns_of(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Vec<(i16, String)>> {
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
fn column_names(columns: &[Wanted], taken: &[String]) -> Vec<Ident> {
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

/// The schema of the archives of tables of `schema`: one that belongs to their owner, for who owns a schema may drop what
/// is in it.
fn schema_for(session: &mut Session<'_, '_>, schema: &Ident) -> Outcome<Ident> {
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
fn free_name(session: &Session<'_, '_>, schema: &Ident, source: &Ident) -> Outcome<Ident> {
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
fn unused(name: &str, used: &[String]) -> String {
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
