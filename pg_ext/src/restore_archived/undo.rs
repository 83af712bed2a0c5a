//! References that the transaction of a deletion let go of, by SET NULL or SET DEFAULT or by a statement of its own: a
//! restore puts back what the columns held, where they still hold what was left.

use std::collections::{BTreeSet, HashSet};

use pgrx::datum::DatumWithOid;
use pgrx::itemptr::item_pointer_to_u64;
use pgrx::{Uuid, pg_sys};

use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::sql::join;
use crate::restore_archived::archived_rows::{Archived, Column, one_of};
use crate::restore_archived::foreign_keys::{self, ForeignKey};
use crate::restore_archived::row_choice::Set;
use crate::spi::cursor::Cursor;
use crate::spi::session::Session;

/// What some rows of one table held, in some of its columns; no row is in it twice.
struct Part {
    relation: pg_sys::Oid,
    /// The columns of the table's key.
    key: Vec<String>,
    columns: Vec<String>,
    entries: Vec<Entry>,
    /// The keys of the rows.
    rows: HashSet<String>,
}

/// What a row held. The values are JSON arrays of text, as their types print them, escaped: they are ASCII in a database of any encoding.
struct Entry {
    /// Where the registry keeps it.
    place: pg_sys::ItemPointerData,
    key: String,
    old: String,
    new: String,
}

impl Part {
    fn add(&mut self, entry: Entry) {
        self.rows.insert(entry.key.clone());
        self.entries.push(entry);
    }

    fn places(&self) -> Vec<pg_sys::ItemPointerData> {
        self.entries.iter().map(|entry| entry.place).collect()
    }

    fn old(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.old.clone()).collect()
    }

    /// For a statement that knows them as `u (key, old, new)`.
    fn arguments(&self) -> [DatumWithOid<'static>; 3] {
        let texts = |text: fn(&Entry) -> &String| -> Vec<String> {
            self.entries
                .iter()
                .map(|entry| text(entry).clone())
                .collect()
        };
        [
            texts(|entry| &entry.key).into(),
            texts(|entry| &entry.old).into(),
            texts(|entry| &entry.new).into(),
        ]
    }
}

const ENTRIES: &str = "ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (key, old, new)";

/// How many rows are taken up at a time.
const WINDOW: i64 = 10_000;

/// What was let go of last is put back first: it may be what makes the value before it fit.
const READ: &str = "
    SELECT ctid AS place, relation::oid AS relation, key_columns, columns,
           encode(convert_to(to_jsonb(key_values)::text, 'UTF8'), 'escape') AS key,
           encode(convert_to(to_jsonb(old_values)::text, 'UTF8'), 'escape') AS old,
           encode(convert_to(to_jsonb(new_values)::text, 'UTF8'), 'escape') AS new
    FROM keepsake.archive_undo WHERE deletion_id = ANY ($1) ORDER BY deletion_id DESC, seq DESC";

/// The entries of some deletions, a window at a time.
struct Entries<'conn>(Cursor<'conn>);

impl<'conn> Entries<'conn> {
    fn of(session: &mut Session<'_, 'conn>, deletions: &[Uuid]) -> Outcome<Self> {
        let cursor = session.registry_cursor(READ, &[deletions.to_vec().into()])?;
        Ok(Self(cursor))
    }

    /// The next of them; none at the end.
    fn next(&mut self) -> Outcome<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        for row in self.0.fetch(WINDOW)? {
            let (relation, key, columns) = (
                field(&row, "relation")?,
                field(&row, "key_columns")?,
                field(&row, "columns")?,
            );
            let entry = Entry {
                place: field(&row, "place")?,
                key: field(&row, "key")?,
                old: field(&row, "old")?,
                new: field(&row, "new")?,
            };
            let is_its = |part: &&mut Part| {
                part.relation == relation && part.key == key && part.columns == columns
            };
            let last = parts.iter_mut().rev().find(is_its);
            match last.filter(|part| !part.rows.contains(&entry.key)) {
                Some(part) => part.add(entry),
                None => {
                    let mut part = Part {
                        relation,
                        key,
                        columns,
                        entries: Vec::new(),
                        rows: HashSet::new(),
                    };
                    part.add(entry);
                    parts.push(part);
                }
            }
        }
        Ok(parts)
    }
}

/// Entries that have been put back into archived rows, by their places in the registry.
pub type Done = HashSet<u64>;

/// Rows that the deletions of the set let go of and that the same transaction then deleted, with these or by others of its
/// `group`, are archived as they were left: gives them back what they had held, in the archive, each entry once. Answers
/// whether a row has changed; its place in the archive is another then.
pub fn into_archive(
    session: &mut Session<'_, '_>,
    (tables, keys): (&[Archived], &[ForeignKey]),
    set: &Set,
    group: &[Uuid],
    done: &mut Done,
) -> Outcome<bool> {
    let deletions = set.deletions(session, tables)?;
    let mut entries = Entries::of(session, &deletions)?;
    let mut changed = false;
    loop {
        let parts = entries.next()?;
        if parts.is_empty() {
            return Ok(changed);
        }
        for mut part in parts {
            let Some(one) = tables.iter().find(|one| one.table.oid == part.relation) else {
                continue;
            };
            part.entries
                .retain(|entry| !done.contains(&item_pointer_to_u64(entry.place)));
            let part = released(session, one, keys, (tables, set), part)?;
            let Some(sql) = archive_update(one, &part, group) else {
                continue;
            };
            done.extend(part.places().into_iter().map(item_pointer_to_u64));
            let rows = session
                .over_archives(&one.table, &sql, &part.arguments())?
                .len();
            changed |= rows > 0;
        }
    }
}

fn archive_update(one: &Archived, part: &Part, group: &[Uuid]) -> Option<String> {
    let kept = |names: &[String]| -> Option<Vec<_>> {
        names
            .iter()
            .map(|name| one.kept_name(one.column(name)?.number))
            .collect()
    };
    let (kept, key) = (kept(&part.columns)?, kept(&part.key)?);
    let is_row = key.iter().zip(0..).map(|((column, name, _), n)| {
        let value = column.read(&element("u.key", n));
        Some(format!("a.{name} {} {value}", one.key_equals(column)?))
    });
    let is_row = is_row.collect::<Option<Vec<String>>>()?;
    let layout = kept.first().map(|(.., layout)| *layout)?;
    if part.entries.is_empty() {
        return None;
    }
    let set = kept
        .iter()
        .zip(0..)
        .map(|((column, name, _), n)| format!("{name} = {}", column.read(&element("u.old", n))));
    let left = kept.iter().zip(0..).map(|((_, name, _), n)| {
        format!(
            "a.{name}::pg_catalog.text IS NOT DISTINCT FROM {}",
            element("u.new", n)
        )
    });
    Some(format!(
        "UPDATE {archive} AS a SET {set} FROM {ENTRIES}
         WHERE a.keepsake_deletion {group} AND a.keepsake_layout OPERATOR(pg_catalog.=) {layout} AND {is_row} AND {left}",
        archive = one.archive_name,
        set = join(set, ", "),
        group = one_of(group),
        is_row = is_row.join(" AND "),
        left = join(left, " AND "),
    ))
}

/// The n-th text of an escaped JSON array.
fn element(array: &str, n: usize) -> String {
    let bytes = format!("pg_catalog.decode({array}, 'escape')");
    format!(
        "(pg_catalog.convert_from({bytes}, 'UTF8')::pg_catalog.jsonb OPERATOR(pg_catalog.->>) {n})"
    )
}

/// Puts back what live rows held, and forgets it. `restored` are the rows that have come back, which are still in the
/// archive as well; what referred to others waits for these.
pub fn put_back(session: &mut Session<'_, '_>, restored: (&[Archived], &Set)) -> Outcome<()> {
    each_released(session, restored, |session, one, part| {
        let places = part.places();
        put_back_part(session, one, part)?;
        session.registry_of_few(
            "DELETE FROM keepsake.archive_undo WHERE ctid = ANY ($1)",
            &[places.into()],
        )?;
        Ok(())
    })
}

/// What referred to rows that pass to another deletion passes with them.
pub fn pass_on(
    session: &mut Session<'_, '_>,
    passed: (&[Archived], &Set),
    holder: Uuid,
) -> Outcome<()> {
    each_released(session, passed, |session, _, part| {
        session.registry_of_few(
            "UPDATE keepsake.archive_undo SET deletion_id = $2 WHERE ctid = ANY ($1)",
            &[part.places().into(), holder.into()],
        )?;
        Ok(())
    })
}

/// The entries that the deletions of these rows have, where they referred to one of these rows.
fn each_released(
    session: &mut Session<'_, '_>,
    (tables, set): (&[Archived], &Set),
    mut work: impl FnMut(&mut Session<'_, '_>, &Archived, Part) -> Outcome<()>,
) -> Outcome<()> {
    let deletions = set.deletions(session, tables)?;
    let mut entries = Entries::of(session, &deletions)?;
    loop {
        let parts = entries.next()?;
        if parts.is_empty() {
            return Ok(());
        }
        for part in parts {
            let children = Archived::read(session, &[part.relation])?;
            let Some(one) = children.first() else {
                continue;
            };
            let keys = foreign_keys::read(session, &children, &[])?;
            let part = released(session, one, &keys, (tables, set), part)?;
            if !part.entries.is_empty() {
                work(session, one, part)?;
            }
        }
    }
}

/// Those of the entries that referred to a row of the set. Others were let go of for reasons of their own, or their parent
/// stays deleted.
fn released(
    session: &mut Session<'_, '_>,
    one: &Archived,
    keys: &[ForeignKey],
    (tables, set): (&[Archived], &Set),
    part: Part,
) -> Outcome<Part> {
    let mut places = BTreeSet::new();
    for key in keys
        .iter()
        .filter(|key| key.reference.child == one.table.oid)
    {
        let parent = tables
            .iter()
            .find(|parent| parent.table.oid == key.parent.oid);
        let rows = set.rows(key.parent.oid);
        let (Some(parent), false) = (parent, rows.is_empty()) else {
            continue;
        };
        let Some(sql) = referred_to(one, key, &part.columns, &parent.source(&rows)) else {
            continue;
        };
        for row in session.over_archives(&key.parent, &sql, &[part.old().into()])? {
            places.extend(row.get::<i64>(1)?.and_then(|n| usize::try_from(n - 1).ok()));
        }
    }
    let mut place = 0_usize;
    let mut part = part;
    part.entries.retain(|_| {
        place += 1;
        places.contains(&(place - 1))
    });
    Ok(part)
}

/// A query for the places, from 1, of old values that refer to one of `parents` by a key; `None` where the columns are not
/// all those of the key.
fn referred_to(
    one: &Archived,
    key: &ForeignKey,
    columns: &[String],
    parents: &str,
) -> Option<String> {
    let referring = key.reference.child_columns().into_iter().map(|name| {
        let column = one.columns.iter().find(|column| column.name == *name)?;
        let place = columns.iter().position(|name| *name == column.name.0)?;
        Some(format!(
            "{} AS {name}",
            column.read(&element("u.old", place))
        ))
    });
    let referring = referring.collect::<Option<Vec<String>>>()?;
    let parent_columns = key
        .reference
        .pairs
        .iter()
        .map(|pair| format!("s.{}", pair.parent));
    Some(format!(
        "WITH keepsake_parents AS NOT MATERIALIZED (SELECT {parent_columns} FROM ({parents}) AS s)
         SELECT u.n FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (old, n), LATERAL (SELECT {referring}) AS c
         WHERE EXISTS (SELECT FROM keepsake_parents AS p WHERE {joins})",
        parent_columns = join(parent_columns, ", "),
        referring = referring.join(", "),
        joins = key.reference.joins("c", "p"),
    ))
}

fn put_back_part(session: &mut Session<'_, '_>, one: &Archived, part: Part) -> Outcome<()> {
    let now = |names: &[String]| -> Option<Vec<&Column>> {
        names.iter().map(|name| one.column(name)).collect()
    };
    // A column that is gone has nothing to be put back, and a row without its key is not found.
    let (Some(columns), Some(key)) = (now(&part.columns), now(&part.key)) else {
        return Ok(());
    };
    let is_row = key.into_iter().zip(0..).map(|(column, n)| {
        let value = column.read(&element("u.key", n));
        Some(format!(
            "t.{} {} {value}",
            column.name,
            one.key_equals(column)?
        ))
    });
    let Some(is_row) = is_row.collect::<Option<Vec<String>>>() else {
        return Ok(());
    };
    let set = columns.iter().zip(0..);
    let set =
        set.map(|(column, n)| format!("{} = {}", column.name, column.read(&element("u.old", n))));
    let left = columns.iter().zip(0..).map(|(column, n)| {
        format!(
            "t.{}::pg_catalog.text IS NOT DISTINCT FROM {}",
            column.name,
            element("u.new", n)
        )
    });
    let sql = format!(
        "UPDATE {rows} AS t SET {set} FROM {ENTRIES} WHERE {is_row} AND {left}",
        rows = one.table.rows(),
        set = join(set, ", "),
        is_row = is_row.join(" AND "),
        left = join(left, " AND "),
    );
    session.write(&one.table, &sql, &part.arguments())?;
    Ok(())
}
