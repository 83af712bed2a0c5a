//! Puts back what `SET NULL` and `SET DEFAULT` had made rows let go of: the deletion kept it in `keepsake.detached`.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;
use pgrx::{Uuid, pg_sys};
use serde_json::json;

use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::printed_values::{as_object, populated};
use crate::model::reference::Reference;
use crate::model::sql::{Literal, join};
use crate::model::table::Table;
use crate::postgres::settings::LocalSettings;
use crate::spi::session::{Session, with_session};

/// The object of what a remembered row `d` was given.
fn given(reference: &Reference) -> String {
    let nulls = reference.set_columns.iter();
    let nulls: serde_json::Map<_, _> = nulls
        .map(|column| (column.0.clone(), serde_json::Value::Null))
        .collect();
    format!(
        "COALESCE(d.new::pg_catalog.jsonb, d.old::pg_catalog.jsonb OPERATOR(pg_catalog.||) {}::pg_catalog.jsonb)",
        Literal(&json!(nulls).to_string())
    )
}

/// Puts back what the deletion made rows let go of, once its own rows are live again. A row that
/// has been given another value since keeps it. What referred to a row that passed to another
/// deletion, or that stays deleted, waits with that row; so does what would make a live row refer to
/// a deleted one by another reference over the same columns. Where that other row is gone for good,
/// what was let go of stays so.
pub fn put_back(session: &mut Session<'_, '_>, graph: &Graph, deletion: Uuid) -> Outcome<()> {
    let _exact = LocalSettings::exact_output();
    for (child, name, last) in remembered(session, deletion)? {
        // A table or key that was dropped since has nothing to be put back.
        let found = graph.table(child).and_then(|child| {
            let mut references = graph.references_of(child.oid);
            let (reference, parent) = references.find(|(reference, _)| reference.name == name)?;
            Some((child, reference, parent))
        });
        if let Some((child, reference, parent)) = found {
            let others = sharing(graph, reference);
            put_back_along(reference, child, parent, &others, deletion, last)?;
        }
    }
    Ok(())
}

/// The references by which rows had referred to rows of the deletion: the table, the name, and the last
/// part. What is put back later, and yet waits with this same deletion, makes further parts.
fn remembered(
    session: &mut Session<'_, '_>,
    deletion: Uuid,
) -> Outcome<Vec<(pg_sys::Oid, String, i64)>> {
    session
        .registry(
            "SELECT relation::oid, reference::text, max(id) FROM keepsake.detached
             WHERE deletion_id = $1 GROUP BY 1, 2 ORDER BY 1, 2",
            &[deletion.into()],
        )?
        .map(|row| {
            Ok((
                row.get(1)?.unwrap_or(pg_sys::InvalidOid),
                row.get(2)?.unwrap_or_default(),
                row.get(3)?.unwrap_or_default(),
            ))
        })
        .collect()
}

/// The other references of the child that would be complete again with the columns that this one
/// had let go of.
fn sharing<'a>(graph: &'a Graph, reference: &Reference) -> Vec<(&'a Reference, &'a Table)> {
    let shares = |other: &Reference| {
        let columns = other.child_columns();
        other.name != reference.name
            && reference
                .set_columns
                .iter()
                .any(|column| columns.contains(&column))
    };
    graph
        .all_references_of(reference.child)
        .filter(|(other, _)| shares(other))
        .collect()
}

/// The next part of what is remembered: its id, keys, old and new values.
const READ: &str = "
    SELECT id, row_keys, old_values, new_values FROM keepsake.detached
    WHERE deletion_id = $1 AND relation = $2 AND reference = $3::text::name AND id > $4 AND id <= $5
    ORDER BY id LIMIT 1";

fn put_back_along(
    reference: &Reference,
    child: &Table,
    parent: &Table,
    others: &[(&Reference, &Table)],
    deletion: Uuid,
    last: i64,
) -> Outcome<()> {
    let sql = PutBack {
        lock: lock_sql(reference, child, parent),
        live: put_back_sql(reference, child, parent, others),
        waiting: waiting_sql(reference, child, parent, others),
    };
    let mut done = 0_i64;
    loop {
        let part = [
            deletion.into(),
            child.oid.into(),
            reference.name.as_str().into(),
            done.into(),
            last.into(),
        ];
        // A session for each part: what it reads and writes is not kept until all is done.
        let read = with_session(|session| {
            let Some(part) = Part::read(session, &part)? else {
                return Ok(None);
            };
            sql.put_back(session, child, parent, &part)?;
            Ok::<_, Failure>(Some(part.id))
        })?;
        match read {
            Some(id) => done = id,
            None => return Ok(()),
        }
    }
}

/// What one row of the registry remembers of many others.
struct Part {
    id: i64,
    keys: Vec<String>,
    old: Vec<String>,
    /// What the rows were given, where that is not NULL.
    new: Option<Vec<String>>,
}

impl Part {
    fn read(session: &mut Session<'_, '_>, which: &[DatumWithOid<'_>]) -> Outcome<Option<Self>> {
        let Some(row) = session.registry_kept(READ, which)?.next() else {
            return Ok(None);
        };
        Ok(Some(Self {
            id: row.get(1)?.unwrap_or_default(),
            keys: row.get(2)?.unwrap_or_default(),
            old: row.get(3)?.unwrap_or_default(),
            new: row.get(4)?,
        }))
    }
}

/// The statements that put a part back.
struct PutBack {
    lock: String,
    live: String,
    waiting: String,
}

impl PutBack {
    fn put_back(
        &self,
        session: &mut Session<'_, '_>,
        child: &Table,
        parent: &Table,
        part: &Part,
    ) -> Outcome<()> {
        let keys = || part.keys.clone().into();
        let old = || part.old.clone().into();
        session.as_owner(parent, &self.lock, &[old()])?;
        session.write(child, &self.live, &[keys(), old(), part.new.clone().into()])?;
        let waiting = session.as_owner(child, &self.waiting, &[keys(), old()])?;
        resolve(session, part.id, waiting)
    }
}

/// Locks what is referred to, as a foreign key's check would: nobody deletes it between the look at
/// it and the commit.
fn lock_sql(reference: &Reference, child: &Table, parent: &Table) -> String {
    format!(
        "SELECT 1 FROM {parents} AS p WHERE EXISTS (
             SELECT FROM pg_catalog.unnest($1) AS d (old), LATERAL {populated} AS o
             WHERE {joins})
         ORDER BY {key} FOR KEY SHARE OF p",
        parents = parent.rows(),
        populated = populated(child, "d.old"),
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
        .set_columns
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
              LATERAL {key} AS k, LATERAL {old} AS o, {parents} AS p
         WHERE {joins} AND p.deletion_id IS NULL AND {same_key} AND {now} OPERATOR(pg_catalog.=) {given}{others}",
        children = child.rows(),
        parents = parent.rows(),
        key = populated(child, "d.key"),
        old = populated(child, "d.old"),
        set = join(set, ", "),
        joins = reference.joins("o", "p"),
        same_key = same_key(child),
        now = as_object("c", reference.child_columns()),
        given = given(reference),
        others = join(is_whole, ""),
    )
}

/// The columns of another reference as they will be in row `c` once `o` is put back.
fn as_again(reference: &Reference, other: &Reference) -> String {
    let columns = other.child_columns().into_iter().map(|column| {
        let from = if reference.set_columns.contains(column) {
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

/// Which of the remembered rows, counted from 1, referred to a row that is deleted still, or would
/// come to refer to one by another reference; and by which deletion.
fn waiting_sql(
    reference: &Reference,
    child: &Table,
    parent: &Table,
    others: &[(&Reference, &Table)],
) -> String {
    let own = format!(
        "SELECT d.n, p.deletion_id FROM d, LATERAL {old} AS o, {parents} AS p
         WHERE {joins} AND p.deletion_id IS NOT NULL",
        old = populated(child, "d.old"),
        parents = parent.rows(),
        joins = reference.joins("o", "p"),
    );
    let managed = others.iter().filter(|(_, their)| their.managed);
    let by_another = managed.map(|(other, their)| {
        format!(
            " UNION ALL
         SELECT d.n, q.deletion_id FROM d, LATERAL {key} AS k, LATERAL {old} AS o,
              {children} AS c, LATERAL {again} AS n, {their} AS q
         WHERE {live}{same_key} AND {joins} AND q.deletion_id IS NOT NULL",
            key = populated(child, "d.key"),
            old = populated(child, "d.old"),
            children = child.rows(),
            again = as_again(reference, other),
            their = their.rows(),
            live = live_term(child),
            same_key = same_key(child),
            joins = other.joins_by_parent_key("n", "q"),
        )
    });
    format!(
        "WITH d AS (SELECT d.n, d.key, d.old
                    FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) WITH ORDINALITY AS d (key, old, n))
         {own}{others}",
        others = join(by_another, ""),
    )
}

/// Splits a part by the deletions that still hold what its rows referred to.
const SPLIT: &str = "
    INSERT INTO keepsake.detached (deletion_id, relation, reference, row_keys, old_values, new_values)
    SELECT w.holder, d.relation, d.reference,
           array_agg(r.key ORDER BY r.n), array_agg(r.old ORDER BY r.n),
           CASE WHEN num_nulls(d.new_values) = 0 THEN array_agg(r.new ORDER BY r.n) END
    FROM keepsake.detached AS d,
         LATERAL unnest(d.row_keys, d.old_values, d.new_values) WITH ORDINALITY AS r (key, old, new, n)
    JOIN (SELECT DISTINCT ON (n) n, holder FROM unnest($2, $3) AS w (n, holder) ORDER BY n, holder) AS w ON w.n = r.n
    WHERE d.id = $1 GROUP BY w.holder, d.relation, d.reference, d.new_values";

/// Forgets what has been put back, and lets the rest wait with the deletions that still hold what
/// they point to.
fn resolve(session: &mut Session<'_, '_>, part: i64, waiting: SpiTupleTable<'_>) -> Outcome<()> {
    let (mut rows, mut holders) = (Vec::new(), Vec::new());
    for row in waiting {
        rows.push(row.get::<i64>(1)?);
        holders.push(row.get::<Uuid>(2)?);
    }
    if !rows.is_empty() {
        session.registry_kept(SPLIT, &[part.into(), rows.into(), holders.into()])?;
    }
    session.registry_kept(
        "DELETE FROM keepsake.detached WHERE id = $1",
        &[part.into()],
    )?;
    Ok(())
}
