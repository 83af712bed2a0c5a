//! The layouts of an archive, which follow the columns of its source.

use pgrx::pg_sys;

use crate::archive::columns::{HEAD, Wanted, columns_of, store_alike, wanted};
use crate::archive::layout::{self, Change, Column, Kept};
use crate::archive::names::{name_of, unused};
use crate::archive::using::Converted;
use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::Session;

const NEWEST: &str = "
    SELECT k.layout, k.source_attnum, k.source_name::text AS name, a.attnum AS archive_attnum, k.type::oid, k.typmod,
           to_regcollation(k.collation)::oid AS \"collation\", k.generated, k.in_key
    FROM keepsake.archive_column k
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
    WHERE k.archive = $1 AND k.layout = (SELECT max(layout) FROM keepsake.archive_column WHERE archive = $1)
    ORDER BY k.source_attnum";

/// Brings the layouts of an archive up to date with its source, if they are not; answers with the newest. `converted` are columns
/// whose values a command is converting otherwise than by an assignment. That the primary key is another one now matters to rows that are about
/// to be written: a dump is loaded without keys at first.
pub fn follow(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    source: pg_sys::Oid,
    converted: &Converted,
    before_rows: bool,
) -> Outcome<(i32, Vec<Kept>)> {
    let columns = wanted(session, source)?;
    let now = |newest: &[Kept]| -> Vec<Column> {
        let mut now: Vec<Column> = columns.iter().map(|wanted| wanted.column.clone()).collect();
        for column in now.iter_mut().filter(|_| !before_rows) {
            let known = newest
                .iter()
                .find(|kept| kept.column.number == column.number);
            column.in_key = known.map_or(column.in_key, |kept| kept.column.in_key);
        }
        now
    };
    // What a dump has numbered anew is another column, whatever its number.
    session.registry("SELECT keepsake.number_anew($1)", &[archive.into()])?;
    let (number, newest) = newest(session, archive)?;
    if layout::change(&newest, &now(&newest), converted).is_none() {
        return Ok((number, newest));
    }
    let name = name_of(session, archive)?;
    // Whoever else has seen the change waits here, and then finds it followed.
    session.registry(
        &format!("LOCK TABLE {name} IN SHARE UPDATE EXCLUSIVE MODE"),
        &[],
    )?;
    let (number, newest) = self::newest(session, archive)?;
    let Some(change) = layout::change(&newest, &now(&newest), converted) else {
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

/// Lets types and collations go that an archive has columns of.
fn release_types(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    session.registry("SELECT keepsake.release_types($1)", &[archive.into()])?;
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
                in_key: field(&row, "in_key")?,
            },
            archive_number: field(&row, "archive_attnum")?,
        });
    }
    Ok((number, columns))
}

/// Enters a layout in the registry.
pub fn enter(
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
            "INSERT INTO keepsake.archive_column (archive, layout, source_attnum, source_name, archive_name, type, typmod, \"collation\", missing, generated, numbered, in_key)
             SELECT $1, $2, $3, $4::text::name, a.attname, $6, $7,
                    (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = $8),
                    $9, $10, keepsake.numbering($11), $12
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
                column.in_key.into(),
            ],
        )?;
    }
    Ok(())
}
