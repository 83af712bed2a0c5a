//! References that the transaction of a deletion let go of, by SET NULL or SET DEFAULT or by a statement of its own: a
//! restore puts back what the columns held, where they still hold what was left.

use std::collections::BTreeSet;

use pgrx::{Uuid, pg_sys};

use crate::model::error::Outcome;
use crate::model::sql::{Literal, join};
use crate::restore_archived::archived_rows::{Archived, Column, one_of};
use crate::restore_archived::foreign_keys::{self, ForeignKey};
use crate::restore_archived::row_choice::Set;
use crate::spi::session::Session;

/// What some rows of one table held, in some of its columns.
struct Part {
    relation: pg_sys::Oid,
    columns: Vec<String>,
    /// The rows' keys, JSON objects.
    keys: Vec<String>,
    /// JSON arrays of text, one for each row, in the order of the columns.
    old: Vec<String>,
    new: Vec<String>,
}

/// How many rows are taken up at a time.
const WINDOW: i64 = 10_000;

const READ: &str = "
    SELECT relation::oid, columns, array_agg(row_key::text), array_agg(to_jsonb(old_values)::text), array_agg(to_jsonb(new_values)::text)
    FROM keepsake.archive_undo WHERE deletion_id = ANY ($1) AND relation::oid = ANY ($2) GROUP BY 1, 2";
const TAKE: &str = "
    WITH taken AS (
        DELETE FROM keepsake.archive_undo AS u USING (
            SELECT ctid AS place FROM keepsake.archive_undo WHERE deletion_id = ANY ($1) ORDER BY deletion_id LIMIT $2) AS w
        WHERE u.ctid = w.place RETURNING u.*)
    SELECT relation::oid, columns, array_agg(row_key::text), array_agg(to_jsonb(old_values)::text), array_agg(to_jsonb(new_values)::text)
    FROM taken GROUP BY 1, 2";

fn read(
    session: &mut Session<'_, '_>,
    sql: &str,
    args: &[pgrx::datum::DatumWithOid<'_>],
) -> Outcome<Vec<Part>> {
    let mut parts = Vec::new();
    for row in session.registry(sql, args)? {
        parts.push(Part {
            relation: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
            columns: row.get(2)?.unwrap_or_default(),
            keys: row.get(3)?.unwrap_or_default(),
            old: row.get(4)?.unwrap_or_default(),
            new: row.get(5)?.unwrap_or_default(),
        });
    }
    Ok(parts)
}

/// Rows that `deletions` let go of and that the same transaction then deleted, with these or by others of its `group`, are
/// archived as they were left: gives them back what they had held, in the archive.
pub fn into_archive(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    keys: &[ForeignKey],
    deletions: &[Uuid],
    group: &[Uuid],
) -> Outcome<()> {
    let oids: Vec<pg_sys::Oid> = tables.iter().map(|one| one.table.oid).collect();
    let parts = read(session, READ, &[deletions.to_vec().into(), oids.into()])?;
    let set = Set::of(tables, deletions);
    for part in parts {
        let Some(one) = tables.iter().find(|one| one.table.oid == part.relation) else {
            continue;
        };
        let part = released(session, one, keys, (tables, &set), part)?;
        let Some(sql) = archive_update(one, &part.columns, group).filter(|_| !part.keys.is_empty())
        else {
            continue;
        };
        session.write_archive(&sql, &[part.keys.into(), part.old.into(), part.new.into()])?;
    }
    Ok(())
}

fn archive_update(one: &Archived, columns: &[String], group: &[Uuid]) -> Option<String> {
    let kept: Vec<_> = columns
        .iter()
        .map(|name| one.kept_name(one.column(name)?.number))
        .collect::<Option<_>>()?;
    let key: Vec<String> = one
        .table
        .key
        .iter()
        .map(|key| {
            let column = one.columns.iter().find(|column| column.name == key.name)?;
            let (_, name, _) = one.kept_name(column.number)?;
            let text = format!(
                "(u.key::pg_catalog.jsonb OPERATOR(pg_catalog.->>) {})",
                Literal(&key.name.0)
            );
            Some(format!("a.{name} {} {}", key.equals, column.read(&text)))
        })
        .collect::<Option<_>>()?;
    let layout = kept.first().map(|(.., layout)| *layout)?;
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
        "UPDATE {archive} AS a SET {set}
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (key, old, new)
         WHERE a.keepsake_deletion {group} AND a.keepsake_layout OPERATOR(pg_catalog.=) {layout} AND {key} AND {left}",
        archive = one.archive_name,
        set = join(set, ", "),
        group = one_of(group),
        key = key.join(" AND "),
        left = join(left, " AND "),
    ))
}

/// The n-th text of a JSON array.
fn element(array: &str, n: usize) -> String {
    format!("({array}::pg_catalog.jsonb OPERATOR(pg_catalog.->>) {n})")
}

/// Puts back what live rows held. `restored` are the rows that have come back, which are still in the archive as well.
pub fn put_back(
    session: &mut Session<'_, '_>,
    deletions: &[Uuid],
    restored: (&[Archived], &Set),
) -> Outcome<()> {
    loop {
        let parts = read(session, TAKE, &[deletions.to_vec().into(), WINDOW.into()])?;
        if parts.is_empty() {
            return Ok(());
        }
        for part in parts {
            let tables = Archived::read(session, &[part.relation])?;
            let Some(one) = tables.first() else {
                continue;
            };
            let keys = foreign_keys::read(session, &tables)?;
            let part = released(session, one, &keys, restored, part)?;
            put_back_part(session, one, part)?;
        }
    }
}

/// Those of the rows that referred to a restored row. Others were let go of for reasons of their own, or their parent stays
/// deleted.
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
        for row in session.over_archives(&key.parent, &sql, &[part.old.clone().into()])? {
            places.extend(row.get::<i64>(1)?.and_then(|n| usize::try_from(n - 1).ok()));
        }
    }
    let pick = |texts: &[String]| {
        places
            .iter()
            .filter_map(|place| texts.get(*place).cloned())
            .collect()
    };
    Ok(Part {
        keys: pick(&part.keys),
        old: pick(&part.old),
        new: pick(&part.new),
        ..part
    })
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
    let columns = part.columns.iter().map(|name| one.column(name));
    // A column that is gone has nothing to be put back.
    let Some(columns) = columns.collect::<Option<Vec<&Column>>>() else {
        return Ok(());
    };
    if part.keys.is_empty() {
        return Ok(());
    }
    let is_row = one.table.key.iter().map(|key| {
        let text = format!(
            "(u.key::pg_catalog.jsonb OPERATOR(pg_catalog.->>) {})",
            Literal(&key.name.0)
        );
        format!(
            "t.{} {} CAST({text} AS {})",
            key.name, key.equals, key.type_sql
        )
    });
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
        "UPDATE {rows} AS t SET {set}
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u (key, old, new)
         WHERE {is_row} AND {left}",
        rows = one.table.rows(),
        set = join(set, ", "),
        is_row = join(is_row, " AND "),
        left = join(left, " AND "),
    );
    session.write(
        &one.table,
        &sql,
        &[part.keys.into(), part.old.into(), part.new.into()],
    )?;
    Ok(())
}
