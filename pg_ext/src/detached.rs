//! References that let go of a deleted row: `ON DELETE SET NULL` and `SET DEFAULT`, done at once as
//! PostgreSQL would, and put back by a restore.
//!
//! What a row referred to is kept in `keepsake.detached`, as JSON: one table for the columns of
//! every type there is. The settings under which values are printed and read are pinned, so that
//! each comes back as it was.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;
use pgrx::{JsonB, Uuid, pg_sys};

use crate::cascade::Removed;
use crate::error::{Failure, Outcome};
use crate::graph::{Graph, OnDelete, Reference, Table};
use crate::session::Session;
use crate::settings::LocalSettings;
use crate::sql::{Ident, Literal, join};

/// Rows that are remembered or put back in one go.
const WINDOW: i64 = 1000;

/// Makes every row, live or deleted, let go of what the deletion removed, where its reference says
/// SET NULL or SET DEFAULT.
pub fn detach(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    removed: &Removed,
    deletion: Uuid,
) -> Outcome<()> {
    let _exact = LocalSettings::exact_output();
    for parent in removed.keys().filter_map(|oid| graph.table(*oid)) {
        for (reference, child) in graph.references_to(parent.oid) {
            if reference.on_delete.detaches() {
                reference.check_readable(child, parent)?;
                detach_along(session, reference, child, parent, deletion)?;
            }
        }
    }
    Ok(())
}

/// Locks the referring rows, then changes them: two statements, as the cascade does it.
fn detach_along(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<()> {
    let referring = format!(
        "{parents} AS p JOIN {children} AS c ON p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}",
        parents = parent.rows(),
        children = child.rows(),
        joins = reference.joins("c", "p"),
    );
    let lock = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {referring} ORDER BY {key} FOR UPDATE OF c) AS locked",
        key = child.key_columns("c"),
    );
    let locked = session.as_owner(child, &lock, &[deletion.into()])?;
    if locked.first().get_one::<i64>()? == Some(0) {
        return Ok(());
    }
    let value = match reference.on_delete {
        OnDelete::SetDefault => "DEFAULT",
        _ => "NULL",
    };
    let set = reference
        .detached_columns
        .iter()
        .map(|column| format!("{column} = {value}"));
    let change = format!(
        "UPDATE {children} AS c SET {set}
         FROM (SELECT c.tableoid AS relation, c.ctid AS row, {old} AS old FROM {referring}) AS o
         WHERE c.ctid OPERATOR(pg_catalog.=) o.row AND c.tableoid OPERATOR(pg_catalog.=) o.relation
         RETURNING {key}, o.old, {new}",
        children = child.rows(),
        set = join(set, ", "),
        old = as_object("c", reference.child_columns()),
        key = child.key_json("c"),
        new = as_object("c", reference.child_columns()),
    );
    session.write_in_windows(child, &change, &[deletion.into()], WINDOW, |session, rows| {
        let [mut keys, mut old, mut new] = [const { Vec::new() }; 3];
        for row in rows {
            keys.push(row.get::<JsonB>(1)?);
            old.push(row.get::<JsonB>(2)?);
            new.push(row.get::<JsonB>(3)?);
        }
        if reference.on_delete == OnDelete::SetDefault {
            refuse_dead_default(session, reference, child, parent, &new)?;
        }
        session.registry(
            "INSERT INTO keepsake.detached (deletion_id, relation, reference, row_key, old_values, new_values)
             SELECT $1, $2, $3::text::name, k, o, n FROM unnest($4, $5, $6) AS r (k, o, n)",
            &[
                deletion.into(),
                child.oid.into(),
                reference.name.as_str().into(),
                keys.into(),
                old.into(),
                new.into(),
            ],
        )?;
        Ok(())
    })
}

/// The default must not refer to a deleted row either; that it refers to a row at all is what the
/// foreign key checks.
fn refuse_dead_default(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    new: &[Option<JsonB>],
) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.unnest($1) AS d (new),
                       LATERAL pg_catalog.jsonb_populate_record(NULL::{child}, d.new) AS n,
                       {parents} AS p
         WHERE {joins} AND p.deletion_id IS NOT NULL LIMIT 1",
        child = child.name,
        parents = parent.rows(),
        joins = reference.joins("n", "p"),
    );
    let new: Vec<Option<JsonB>> = new
        .iter()
        .map(|values| values.as_ref().map(|values| JsonB(values.0.clone())))
        .collect();
    if session.as_owner(child, &sql, &[new.into()])?.is_empty() {
        return Ok(());
    }
    Err(Failure::DeadParent {
        child: child.shown.clone(),
        parent: parent.shown.clone(),
        reference: reference.name.clone(),
    })
}

fn as_object<'a>(row: &str, columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let pairs = columns
        .into_iter()
        .map(|column| format!("{}, {row}.{column}", Literal(&column.0)));
    format!("pg_catalog.jsonb_build_object({})", join(pairs, ", "))
}

/// Puts back what the deletion made rows let go of, once its own rows are live again. A row that
/// has been given another value since keeps it. What referred to a row that passed to another
/// deletion, or that stays deleted, waits with that row; so does what would make a live row refer to
/// a deleted one by another reference over the same columns. Where that other row is gone for good,
/// what was let go of stays so.
pub fn put_back(session: &mut Session<'_, '_>, graph: &Graph, deletion: Uuid) -> Outcome<()> {
    let _exact = LocalSettings::exact_output();
    let parts: Vec<(pg_sys::Oid, String)> = session
        .registry(
            "SELECT DISTINCT relation::oid, reference::text FROM keepsake.detached WHERE deletion_id = $1 ORDER BY 1, 2",
            &[deletion.into()],
        )?
        .map(|row| Ok((row.get(1)?.unwrap_or(pg_sys::InvalidOid), row.get(2)?.unwrap_or_default())))
        .collect::<Outcome<_>>()?;
    for (child, name) in parts {
        // A table or key that was dropped since has nothing to be put back.
        let found = graph.table(child).and_then(|child| {
            let mut references = graph.references_of(child.oid);
            let (reference, parent) = references.find(|(reference, _)| reference.name == name)?;
            Some((child, reference, parent))
        });
        if let Some((child, reference, parent)) = found {
            let others = sharing(graph, reference);
            put_back_along(session, reference, child, parent, &others, deletion)?;
        }
    }
    Ok(())
}

/// The other references of the child that would be complete again with the columns that this one
/// had let go of.
fn sharing<'a>(graph: &'a Graph, reference: &Reference) -> Vec<(&'a Reference, &'a Table)> {
    let shares = |other: &Reference| {
        let columns = other.child_columns();
        other.name != reference.name
            && reference
                .detached_columns
                .iter()
                .any(|column| columns.contains(&column))
    };
    graph
        .all_references_of(reference.child)
        .filter(|(other, _)| shares(other))
        .collect()
}

/// One window of what is remembered, as arguments: ids, keys, old and new values.
const READ: &str = "
    SELECT max(id), array_agg(id), array_agg(row_key), array_agg(old_values), array_agg(new_values)
    FROM (SELECT * FROM keepsake.detached
          WHERE deletion_id = $1 AND relation = $2 AND reference = $3::text::name AND id > $4
          ORDER BY id LIMIT $5) AS part";

fn put_back_along(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    others: &[(&Reference, &Table)],
    deletion: Uuid,
) -> Outcome<()> {
    let mut last = 0;
    loop {
        let part: [DatumWithOid<'_>; 5] = [
            deletion.into(),
            child.oid.into(),
            reference.name.as_str().into(),
            last.into(),
            WINDOW.into(),
        ];
        let read = session.registry(READ, &part)?.first();
        let Some(max) = read.get_one::<i64>()? else {
            return Ok(());
        };
        last = max;
        let argument = |ordinal, type_oid| -> Outcome<DatumWithOid<'static>> {
            let datum = read.get_datum_by_ordinal(ordinal)?;
            // SAFETY: the query above gives its columns these types, and its result is in the
            // memory of the SPI connection, which these arguments do not outlive.
            Ok(datum.map_or_else(
                || DatumWithOid::null_oid(type_oid),
                |datum| unsafe { DatumWithOid::new(datum, type_oid) },
            ))
        };
        let ids = || argument(2, pg_sys::INT8ARRAYOID);
        let json = |ordinal| argument(ordinal, pg_sys::JSONBARRAYOID);
        session.as_owner(parent, &lock_sql(reference, child, parent), &[json(4)?])?;
        let live = put_back_sql(reference, child, parent, others);
        session.write(child, &live, &[json(3)?, json(4)?, json(5)?])?;
        let waiting = waiting_sql(reference, child, parent, others);
        let waiting = session.as_owner(child, &waiting, &[ids()?, json(3)?, json(4)?])?;
        settle(session, ids()?, waiting)?;
    }
}

/// Locks what is referred to, as a foreign key's check would: nobody deletes it between the look at
/// it and the commit.
fn lock_sql(reference: &Reference, child: &Table, parent: &Table) -> String {
    format!(
        "SELECT 1 FROM {parents} AS p WHERE EXISTS (
             SELECT FROM pg_catalog.unnest($1) AS d (old), LATERAL pg_catalog.jsonb_populate_record(NULL::{child}, d.old) AS o
             WHERE {joins})
         ORDER BY {key} FOR KEY SHARE OF p",
        parents = parent.rows(),
        child = child.name,
        joins = reference.joins_by_parent_key("o", "p"),
        key = parent.key_columns("p"),
    )
}

/// Sets the referring columns of the rows that still have what the deletion gave them, where what
/// they referred to is live, and so is whatever else the row would refer to again.
fn put_back_sql(
    reference: &Reference,
    child: &Table,
    parent: &Table,
    others: &[(&Reference, &Table)],
) -> String {
    let set = reference
        .detached_columns
        .iter()
        .map(|column| format!("{column} = o.{column}"));
    let is_whole = others.iter().map(|(other, their)| {
        format!(
            " AND NOT EXISTS (SELECT FROM {again} AS n WHERE {judged}{set} AND NOT EXISTS (
                  SELECT FROM {their} AS q WHERE {joins}{stands}))",
            again = as_again(reference, other),
            judged = if other.is_declared() {
                live_term(child)
            } else {
                ""
            },
            set = other.is_set("n"),
            their = their.rows(),
            joins = other.joins_by_parent_key("n", "q"),
            stands = stands_term(child, their),
        )
    });
    format!(
        "UPDATE {children} AS c SET {set}
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS d (key, old, new),
              LATERAL pg_catalog.jsonb_populate_record(NULL::{name}, d.key) AS k,
              LATERAL pg_catalog.jsonb_populate_record(NULL::{name}, d.old) AS o,
              {parents} AS p
         WHERE {joins} AND p.deletion_id IS NULL AND {same_key} AND {now} OPERATOR(pg_catalog.=) d.new{others}",
        children = child.rows(),
        parents = parent.rows(),
        name = child.name,
        set = join(set, ", "),
        joins = reference.joins("o", "p"),
        same_key = same_key(child),
        now = as_object("c", reference.child_columns()),
        others = join(is_whole, ""),
    )
}

/// The columns of another reference as they will be in row `c` once `o` is put back.
fn as_again(reference: &Reference, other: &Reference) -> String {
    let columns = other.child_columns().into_iter().map(|column| {
        let from = if reference.detached_columns.contains(column) {
            "o"
        } else {
            "c"
        };
        format!("{from}.{column} AS {column}")
    });
    format!("(SELECT {})", join(columns, ", "))
}

/// A foreign key takes any row that is there, a live row that refers to it takes a live one.
fn stands_term(child: &Table, their: &Table) -> &'static str {
    match (their.managed, child.managed) {
        (false, _) => "",
        (true, false) => " AND q.deletion_id IS NULL",
        (true, true) => " AND (c.deletion_id IS NOT NULL OR q.deletion_id IS NULL)",
    }
}

/// A deleted row may refer to deleted ones.
fn live_term(child: &Table) -> &'static str {
    if child.managed {
        "c.deletion_id IS NULL AND "
    } else {
        ""
    }
}

fn same_key(child: &Table) -> String {
    let terms = child.key.iter().map(|key| {
        let (name, equals) = (&key.name, &key.equals);
        format!("c.{name} {equals} k.{name}")
    });
    join(terms, " AND ")
}

/// Which of the remembered references point to a row that is deleted still, or would make the row
/// point to one by another reference; and by which deletion.
fn waiting_sql(
    reference: &Reference,
    child: &Table,
    parent: &Table,
    others: &[(&Reference, &Table)],
) -> String {
    let own = format!(
        "SELECT d.id, p.deletion_id FROM d, {parents} AS p,
              LATERAL pg_catalog.jsonb_populate_record(NULL::{child}, d.old) AS o
         WHERE {joins} AND p.deletion_id IS NOT NULL",
        child = child.name,
        parents = parent.rows(),
        joins = reference.joins("o", "p"),
    );
    let managed = others.iter().filter(|(_, their)| their.managed);
    let by_another = managed.map(|(other, their)| {
        format!(
            " UNION ALL
         SELECT d.id, q.deletion_id FROM d,
              LATERAL pg_catalog.jsonb_populate_record(NULL::{name}, d.key) AS k,
              LATERAL pg_catalog.jsonb_populate_record(NULL::{name}, d.old) AS o,
              {children} AS c, LATERAL {again} AS n, {their} AS q
         WHERE {live}{same_key} AND {joins} AND q.deletion_id IS NOT NULL",
            name = child.name,
            children = child.rows(),
            again = as_again(reference, other),
            their = their.rows(),
            live = live_term(child),
            same_key = same_key(child),
            joins = other.joins_by_parent_key("n", "q"),
        )
    });
    format!(
        "WITH d AS (SELECT d.id, d.key, d.old
                    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS d (id, key, old))
         {own}{others}",
        others = join(by_another, ""),
    )
}

/// Forgets what has been put back, and lets the rest wait with the deletions that still hold what
/// they point to.
fn settle(
    session: &mut Session<'_, '_>,
    all: DatumWithOid<'_>,
    waiting: SpiTupleTable<'_>,
) -> Outcome<()> {
    let (mut ids, mut holders) = (Vec::new(), Vec::new());
    for row in waiting {
        ids.push(row.get::<i64>(1)?);
        holders.push(row.get::<Uuid>(2)?);
    }
    session.registry(
        "WITH done AS (DELETE FROM keepsake.detached WHERE id = ANY ($1) AND id <> ALL ($2))
         UPDATE keepsake.detached AS d SET deletion_id = w.holder
         FROM unnest($2, $3) AS w (id, holder) WHERE d.id = w.id AND d.deletion_id <> w.holder",
        &[all, ids.into(), holders.into()],
    )?;
    Ok(())
}
