//! References that let go of a deleted row: `ON DELETE SET NULL` and `SET DEFAULT`, done at once as
//! PostgreSQL would, and put back by a restore.
//!
//! What rows referred to is kept in `keepsake.detached`, many rows in one of its own: columns of every
//! type there is, as JSON objects of strings, each the text that its type prints and reads itself. The
//! settings under which it does so are pinned, so that each value comes back as it was, to the last
//! digit and blank.

use std::collections::BTreeMap;

use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;
use pgrx::{Uuid, pg_sys};
use serde_json::json;

use crate::cascade::Removed;
use crate::error::{Failure, Outcome};
use crate::graph::{Graph, OnDelete, Reference, Table};
use crate::session::{Session, with_session};
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

fn detach_along(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<()> {
    let way = Way {
        reference,
        child,
        parent,
        deletion,
    };
    if reference.on_delete == OnDelete::SetDefault {
        way.set_default(session)
    } else {
        way.set_null(session)
    }
}

/// Rows of `child` that let go of rows of `parent`. They are locked first, then changed: two statements, as
/// the cascade does it.
struct Way<'a> {
    reference: &'a Reference,
    child: &'a Table,
    parent: &'a Table,
    deletion: Uuid,
}

impl Way<'_> {
    /// What they will be is known: they are remembered as they are locked, and the change is one plain
    /// UPDATE.
    fn set_null(&self, session: &mut Session<'_, '_>) -> Outcome<()> {
        let (reference, child) = (self.reference, self.child);
        let lock = format!(
            "SELECT {key}, {old} FROM {referring} ORDER BY {order} FOR UPDATE OF c",
            key = printed("c", self.key()),
            old = printed("c", self.columns()),
            referring = self.referring(),
            order = child.key_columns("c"),
        );
        let arguments = [self.deletion.into()];
        let mut remembered = 0;
        session.read_in_windows(child, (&lock, &arguments), WINDOW, |session, rows| {
            remembered += rows.len();
            self.remember(session, rows)
        })?;
        if remembered == 0 {
            return Ok(());
        }
        let change = format!(
            "UPDATE {children} AS c SET {set} FROM {parents} AS p
             WHERE p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}",
            children = child.rows(),
            set = self.set("NULL"),
            parents = self.parent.rows(),
            joins = reference.joins("c", "p"),
        );
        // Fewer, where a trigger of the table's own keeps rows as they are: they are so at a restore, too.
        if session.write(child, &change, &arguments)?.len() > remembered {
            return Err(Failure::ConcurrentChild {
                table: self.parent.shown.clone(),
            });
        }
        Ok(())
    }

    /// What they will be is known when it is done.
    fn set_default(&self, session: &mut Session<'_, '_>) -> Outcome<()> {
        let child = self.child;
        let lock = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {referring} ORDER BY {key} FOR UPDATE OF c) AS locked",
            referring = self.referring(),
            key = child.key_columns("c"),
        );
        let arguments = [self.deletion.into()];
        let locked = session.as_owner(child, &lock, &arguments)?;
        if locked.first().get_one::<i64>()? == Some(0) {
            return Ok(());
        }
        let columns = join(
            self.columns()
                .into_iter()
                .map(|column| format!("c.{column}")),
            ", ",
        );
        let change = format!(
            "UPDATE {children} AS c SET {set}
             FROM (SELECT c.tableoid AS keepsake_relation, c.ctid AS keepsake_row, {columns} FROM {referring}) AS o
             WHERE c.ctid OPERATOR(pg_catalog.=) o.keepsake_row AND c.tableoid OPERATOR(pg_catalog.=) o.keepsake_relation
             RETURNING {key}, {old}, {new}",
            children = child.rows(),
            set = self.set("DEFAULT"),
            referring = self.referring(),
            key = printed("c", self.key()),
            old = printed("o", self.columns()),
            new = printed("c", self.columns()),
        );
        session.write_in_windows(child, (&change, &arguments), WINDOW, |session, rows| {
            self.remember(session, rows)
        })
    }

    fn referring(&self) -> String {
        format!(
            "{parents} AS p JOIN {children} AS c ON p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}",
            parents = self.parent.rows(),
            children = self.child.rows(),
            joins = self.reference.joins("c", "p"),
        )
    }

    fn set(&self, value: &str) -> String {
        let columns = self.reference.detached_columns.iter();
        join(columns.map(|column| format!("{column} = {value}")), ", ")
    }

    fn key(&self) -> Vec<&Ident> {
        self.child.key.iter().map(|column| &column.name).collect()
    }

    fn columns(&self) -> Vec<&Ident> {
        self.reference.child_columns()
    }

    /// Enters rows of a key, of old values, and of new ones where they are not known, into the registry.
    fn remember(&self, session: &mut Session<'_, '_>, rows: SpiTupleTable<'_>) -> Outcome<()> {
        let (key, columns) = (self.key(), self.columns());
        let [mut keys, mut old, mut new] = [const { Objects::new() }; 3];
        for row in rows {
            let mut ordinals = 1..;
            let mut read = |columns: &[&Ident]| -> Outcome<Object> {
                let named = columns.iter().zip(ordinals.by_ref());
                named
                    .map(|(column, ordinal)| Ok((column.0.clone(), row.get(ordinal)?)))
                    .collect()
            };
            keys.push(Some(as_text(read(&key)?)));
            let values = read(&columns)?;
            let changed = match self.reference.on_delete {
                OnDelete::SetDefault => read(&columns)?,
                _ => self.with_nulls(values.clone()),
            };
            old.push(Some(as_text(values)));
            new.push(Some(as_text(changed)));
        }
        if self.reference.on_delete == OnDelete::SetDefault {
            refuse_dead_default(
                session,
                self.reference,
                self.child,
                self.parent,
                new.clone(),
            )?;
        }
        session.registry_kept(
            "INSERT INTO keepsake.detached (deletion_id, relation, reference, row_keys, old_values, new_values)
             VALUES ($1, $2, $3::text::name, $4, $5, $6)",
            &[
                self.deletion.into(),
                self.child.oid.into(),
                self.reference.name.as_str().into(),
                keys.into(),
                old.into(),
                new.into(),
            ],
        )?;
        Ok(())
    }

    fn with_nulls(&self, mut values: Object) -> Object {
        for column in &self.reference.detached_columns {
            values.insert(column.0.clone(), None);
        }
        values
    }
}

/// Columns and what their types print of a row's values.
type Object = BTreeMap<String, Option<String>>;

/// Many such, as text.
type Objects = Vec<Option<String>>;

fn as_text(object: Object) -> String {
    json!(object).to_string()
}

/// The default must not refer to a deleted row either; that it refers to a row at all is what the
/// foreign key checks.
fn refuse_dead_default(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    new: Objects,
) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.unnest($1) AS d (new),
                       LATERAL {populated} AS n,
                       {parents} AS p
         WHERE {joins} AND p.deletion_id IS NOT NULL LIMIT 1",
        populated = populated(child, "d.new"),
        parents = parent.rows(),
        joins = reference.joins("n", "p"),
    );
    if session.as_owner(child, &sql, &[new.into()])?.is_empty() {
        return Ok(());
    }
    Err(Failure::DeadParent {
        child: child.shown.clone(),
        parent: parent.shown.clone(),
        reference: reference.name.clone(),
    })
}

/// A column's value as its type prints it: a cast to text may be somebody's own, and that of `char(n)` drops
/// blanks. A value is NULL or not by itself, whatever is in it, as a row of NULLs.
fn value(row: &str, column: &Ident) -> String {
    format!(
        "CASE pg_catalog.num_nulls({row}.{column}) WHEN 0 THEN pg_catalog.concat({row}.{column}) END"
    )
}

fn printed<'a>(row: &str, columns: impl IntoIterator<Item = &'a Ident>) -> String {
    join(columns.into_iter().map(|column| value(row, column)), ", ")
}

/// The same values as an object, to be compared with one that is remembered.
fn as_object<'a>(row: &str, columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let pairs = columns
        .into_iter()
        .map(|column| format!("{}, {}", Literal(&column.0), value(row, column)));
    format!("pg_catalog.jsonb_build_object({})", join(pairs, ", "))
}

/// The row of `table` that such a text gives, in a FROM clause.
fn populated(table: &Table, object: &str) -> String {
    format!(
        "pg_catalog.json_populate_record(NULL::{}, {object}::pg_catalog.json)",
        table.name
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
                .detached_columns
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
    keys: Objects,
    old: Objects,
    new: Objects,
}

impl Part {
    fn read(session: &mut Session<'_, '_>, which: &[DatumWithOid<'_>]) -> Outcome<Option<Self>> {
        let Some(row) = session.registry_kept(READ, which)?.next() else {
            return Ok(None);
        };
        let objects = |ordinal| -> Outcome<Objects> { Ok(row.get(ordinal)?.unwrap_or_default()) };
        Ok(Some(Self {
            id: row.get(1)?.unwrap_or_default(),
            keys: objects(2)?,
            old: objects(3)?,
            new: objects(4)?,
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
        settle(session, part.id, waiting)
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
              LATERAL {key} AS k, LATERAL {old} AS o, {parents} AS p
         WHERE {joins} AND p.deletion_id IS NULL AND {same_key} AND {now} OPERATOR(pg_catalog.=) d.new::pg_catalog.jsonb{others}",
        children = child.rows(),
        parents = parent.rows(),
        key = populated(child, "d.key"),
        old = populated(child, "d.old"),
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
           array_agg(r.key ORDER BY r.n), array_agg(r.old ORDER BY r.n), array_agg(r.new ORDER BY r.n)
    FROM keepsake.detached AS d,
         LATERAL unnest(d.row_keys, d.old_values, d.new_values) WITH ORDINALITY AS r (key, old, new, n)
    JOIN (SELECT DISTINCT ON (n) n, holder FROM unnest($2, $3) AS w (n, holder) ORDER BY n, holder) AS w ON w.n = r.n
    WHERE d.id = $1 GROUP BY w.holder, d.relation, d.reference";

/// Forgets what has been put back, and lets the rest wait with the deletions that still hold what
/// they point to.
fn settle(session: &mut Session<'_, '_>, part: i64, waiting: SpiTupleTable<'_>) -> Outcome<()> {
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
