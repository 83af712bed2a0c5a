//! Puts back what `SET NULL` and `SET DEFAULT` had made rows let go of: the deletion kept it in `keepsake.detached`.

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;
use pgrx::{PgLogLevel, PgSqlErrorCode, Uuid, ereport, pg_sys};

use crate::graph::reference_graph::Graph;
use crate::graph::stored_columns;
use crate::model::error::{Failure, Outcome, count};
use crate::model::reference::Reference;
use crate::model::sql::{Ident, join};
use crate::model::stored_value::{StoredColumn, are_equal, row_of_array};
use crate::model::table::Table;
use crate::postgres::settings::LocalSettings;
use crate::registry::stored_key::is_done;
use crate::spi::session::{Session, with_session};
use crate::spi::shown_names;

/// Puts back what the deletion made rows let go of, once its own rows are live again. A row that
/// has been given another value since keeps it. What referred to a row that passed to another
/// deletion, or that stays deleted, waits with that row; so does what would make a live row refer to
/// a deleted one by another reference over the same columns. Where that other row is gone for good,
/// what was let go of stays so.
pub fn put_back(session: &mut Session<'_, '_>, graph: &Graph, deletion: Uuid) -> Outcome<()> {
    let _exact = LocalSettings::exact_output();
    for group in remembered(session, deletion)? {
        match Found::of(session, graph, &group)? {
            Some(found) => put_back_along(graph, &found, &group, deletion)?,
            None => tell_lost(session, &group)?,
        }
    }
    Ok(())
}

/// Rows that had referred to rows of the deletion alike.
struct Group {
    table: pg_sys::Oid,
    reference: String,
    columns: Vec<String>,
    changed: Vec<String>,
    key: Vec<String>,
    /// The last part of them. What is put back later, and yet waits with this same deletion, makes further parts.
    last: i64,
    rows: i64,
}

fn remembered(session: &mut Session<'_, '_>, deletion: Uuid) -> Outcome<Vec<Group>> {
    session
        .registry_planned_once(
            "SELECT relation::oid, reference::text, columns::text[], changed::text[], key_columns::text[], max(id),
                    sum(cardinality(row_keys))::bigint
             FROM keepsake.detached WHERE deletion_id = $1 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3",
            &[deletion.into()],
        )?
        .map(|row| {
            Ok(Group {
                table: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
                reference: row.get(2)?.unwrap_or_default(),
                columns: row.get(3)?.unwrap_or_default(),
                changed: row.get(4)?.unwrap_or_default(),
                key: row.get(5)?.unwrap_or_default(),
                last: row.get(6)?.unwrap_or_default(),
                rows: row.get(7)?.unwrap_or_default(),
            })
        })
        .collect()
}

/// What a group is put back by, as the tables are today.
struct Found<'a> {
    child: &'a Table,
    reference: &'a Reference,
    parent: &'a Table,
    columns: Vec<StoredColumn>,
    changed: Vec<Ident>,
    key: Vec<StoredColumn>,
}

impl<'a> Found<'a> {
    /// The reference is the one over the same columns, and of the same name where there are several. `None` where it, or a column of the key, is gone.
    fn of(session: &Session<'_, '_>, graph: &'a Graph, group: &Group) -> Outcome<Option<Self>> {
        let Some(child) = graph.table(group.table) else {
            return Ok(None);
        };
        let same = graph.references_of(child.oid).filter(|(reference, _)| {
            let columns = reference.child_columns().into_iter();
            !reference.is_declared() && columns.map(|column| &column.0).eq(&group.columns)
        });
        let known = same.max_by_key(|(reference, _)| reference.name == group.reference);
        let columns = group.columns.iter().map(String::as_str);
        let columns = stored_columns::find(session, child, columns)?;
        let key = stored_columns::find(session, child, group.key.iter().map(String::as_str))?;
        let Some(((reference, parent), (columns, key))) = known.zip(columns.zip(key)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            child,
            reference,
            parent,
            columns,
            changed: group.changed.iter().cloned().map(Ident).collect(),
            key,
        }))
    }

    /// Whether the types of the columns take what is remembered.
    fn reads(&self, session: &mut Session<'_, '_>, part: &Part) -> Outcome<bool> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FILTER (WHERE pg_catalog.num_nulls({columns}) OPERATOR(pg_catalog.>=) 0)
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS d (key, old, new),
                  LATERAL {key} AS k, LATERAL {old} AS o, LATERAL {new} AS n",
            columns = join(
                self.key.iter().map(|column| format!("k.{}", column.name))
                    .chain(self.columns.iter().map(|column| format!("o.{0}, n.{0}", column.name))),
                ", "
            ),
            key = row_of_array(&self.key, "d.key"),
            old = row_of_array(&self.columns, "d.old"),
            new = row_of_array(&self.columns, "d.new"),
        );
        let arguments = [
            part.keys.clone().into(),
            part.old.clone().into(),
            part.new.clone().into(),
        ];
        is_done(|| session.as_owner(self.child, &sql, &arguments).map(|_| ()))
    }
}

/// Says what cannot be put back. It stays in the registry.
fn tell_lost(session: &Session<'_, '_>, group: &Group) -> Outcome<()> {
    let known = session.catalog(
        "SELECT 1 FROM pg_class WHERE oid = $1",
        &[group.table.into()],
    )?;
    // With a dropped table its rows are gone.
    if !known.is_empty() {
        warn_lost(
            &shown_names::table(session, group.table)?,
            group,
            group.rows,
        );
    }
    Ok(())
}

fn warn_lost(table: &str, group: &Group, rows: i64) {
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "{} of {table} did not get back what reference \"{}\" referred to",
            count(usize::try_from(rows).unwrap_or(usize::MAX), "row"),
            group.reference
        ),
        "The reference or the table's key was dropped, or a column has changed its type, since the deletion. keepsake.detached keeps the old values."
    );
}

/// The other references of the child that would be complete again with the columns that this one
/// had let go of.
fn sharing<'a>(graph: &'a Graph, found: &Found<'_>) -> Vec<(&'a Reference, &'a Table)> {
    let shares = |other: &Reference| {
        let columns = other.child_columns();
        other.name != found.reference.name
            && found.changed.iter().any(|column| columns.contains(&column))
    };
    graph
        .all_references_of(found.child.oid)
        .filter(|(other, _)| shares(other))
        .collect()
}

/// The next part of what is remembered: its id, keys, old and new values.
const READ: &str = "
    SELECT id, row_keys, old_values, new_values FROM keepsake.detached
    WHERE deletion_id = $1 AND relation = $2 AND reference = $3::text::name AND columns = $4::text[]::name[]
      AND changed = $5::text[]::name[] AND key_columns = $6::text[]::name[] AND id > $7 AND id <= $8
    ORDER BY id LIMIT 1";

fn put_back_along(graph: &Graph, found: &Found<'_>, group: &Group, deletion: Uuid) -> Outcome<()> {
    let others = sharing(graph, found);
    let sql = PutBack {
        lock: lock_sql(found),
        live: put_back_sql(found, &others),
        waiting: waiting_sql(found, &others),
    };
    let (mut done, mut lost) = (0_i64, 0_usize);
    loop {
        let part = [
            deletion.into(),
            group.table.into(),
            group.reference.as_str().into(),
            group.columns.clone().into(),
            group.changed.clone().into(),
            group.key.clone().into(),
            done.into(),
            group.last.into(),
        ];
        // A session for each part: what it reads and writes is not kept until all is done.
        let read = with_session(|session| {
            let Some(part) = Part::read(session, &part)? else {
                return Ok(None);
            };
            if found.reads(session, &part)? {
                sql.put_back(session, found, &part)?;
            } else {
                lost += part.keys.len();
            }
            Ok::<_, Failure>(Some(part.id))
        })?;
        match read {
            Some(id) => done = id,
            None => break,
        }
    }
    if lost > 0 {
        warn_lost(
            &found.child.shown,
            group,
            i64::try_from(lost).unwrap_or(i64::MAX),
        );
    }
    Ok(())
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
        found: &Found<'_>,
        part: &Part,
    ) -> Outcome<()> {
        let (child, parent) = (found.child, found.parent);
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
fn lock_sql(found: &Found<'_>) -> String {
    format!(
        "SELECT 1 FROM {parents} AS p WHERE EXISTS (
             SELECT FROM pg_catalog.unnest($1) AS d (old), LATERAL {old} AS o
             WHERE {joins})
         ORDER BY {key} FOR KEY SHARE OF p",
        parents = found.parent.rows(),
        old = row_of_array(&found.columns, "d.old"),
        joins = found.reference.joins_by_parent_key("o", "p"),
        key = found.parent.key_columns("p"),
    )
}

/// Sets the referring columns of the rows that still have what the deletion gave them, where what
/// they referred to is live, and so is whatever else the row would refer to again.
fn put_back_sql(found: &Found<'_>, others: &[(&Reference, &Table)]) -> String {
    let child = found.child;
    let set = found
        .changed
        .iter()
        .map(|column| format!("{column} = o.{column}"));
    let is_whole = others.iter().map(|(other, their)| {
        format!(
            " AND NOT EXISTS (SELECT FROM {again} AS n WHERE {judged}{set} AND NOT EXISTS (
                  SELECT FROM {their} AS q WHERE {joins}{stands}))",
            again = as_again(found, other),
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
              LATERAL {key} AS k, LATERAL {old} AS o, LATERAL {new} AS g, {parents} AS p
         WHERE {joins} AND p.deletion_id IS NULL AND {same_key} AND {as_given}{others}",
        children = child.rows(),
        parents = found.parent.rows(),
        key = row_of_array(&found.key, "d.key"),
        old = row_of_array(&found.columns, "d.old"),
        new = row_of_array(&found.columns, "d.new"),
        set = join(set, ", "),
        joins = found.reference.joins("o", "p"),
        same_key = are_equal(&found.key, "c", "k"),
        as_given = as_given(found),
        others = join(is_whole, ""),
    )
}

/// The condition that row `c` has what it was given: row `g`; or, where that is of NULLs, NULL in what was set NULL and what it
/// had, row `o`, in the rest.
fn as_given(found: &Found<'_>) -> String {
    let terms = found.columns.iter().map(|column| {
        let kept = if found.changed.contains(&column.name) {
            format!(
                "pg_catalog.num_nulls(c.{}) OPERATOR(pg_catalog.=) 1",
                column.name
            )
        } else {
            column.is_same("c", "o")
        };
        format!(
            "CASE WHEN d.new IS NULL THEN {kept} ELSE {} END",
            column.is_same("c", "g")
        )
    });
    join(terms, " AND ")
}

/// The columns of another reference as they will be in row `c` once `o` is put back.
fn as_again(found: &Found<'_>, other: &Reference) -> String {
    let columns = other.child_columns().into_iter().map(|column| {
        let from = if found.changed.contains(column) {
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

/// Which of the remembered rows, counted from 1, referred to a row that is deleted still, or would
/// come to refer to one by another reference; and by which deletion.
fn waiting_sql(found: &Found<'_>, others: &[(&Reference, &Table)]) -> String {
    let key = row_of_array(&found.key, "d.key");
    let old = row_of_array(&found.columns, "d.old");
    let own = format!(
        "SELECT d.n, p.deletion_id FROM d, LATERAL {old} AS o, {parents} AS p
         WHERE {joins} AND p.deletion_id IS NOT NULL",
        parents = found.parent.rows(),
        joins = found.reference.joins("o", "p"),
    );
    let managed = others.iter().filter(|(_, their)| their.managed);
    let by_another = managed.map(|(other, their)| {
        format!(
            " UNION ALL
         SELECT d.n, q.deletion_id FROM d, LATERAL {key} AS k, LATERAL {old} AS o,
              {children} AS c, LATERAL {again} AS n, {their} AS q
         WHERE {live}{same_key} AND {joins} AND q.deletion_id IS NOT NULL",
            children = found.child.rows(),
            again = as_again(found, other),
            their = their.rows(),
            live = live_term(found.child),
            same_key = are_equal(&found.key, "c", "k"),
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
    INSERT INTO keepsake.detached (deletion_id, relation, reference, columns, changed, key_columns, row_keys, old_values, new_values)
    SELECT w.holder, d.relation, d.reference, d.columns, d.changed, d.key_columns,
           array_agg(r.key ORDER BY r.n), array_agg(r.old ORDER BY r.n),
           CASE WHEN num_nulls(d.new_values) = 0 THEN array_agg(r.new ORDER BY r.n) END
    FROM keepsake.detached AS d,
         LATERAL unnest(d.row_keys, d.old_values, d.new_values) WITH ORDINALITY AS r (key, old, new, n)
    JOIN (SELECT DISTINCT ON (n) n, holder FROM unnest($2, $3) AS w (n, holder) ORDER BY n, holder) AS w ON w.n = r.n
    WHERE d.id = $1 GROUP BY w.holder, d.id";

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
