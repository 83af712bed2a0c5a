//! References that let go of a deleted row: `ON DELETE SET NULL` and `SET DEFAULT`, done at once as
//! PostgreSQL would, and put back by a restore.
//!
//! What rows referred to is kept in `keepsake.detached`, many rows in one of its own: columns of every
//! type there is, as JSON objects of strings, each the text that its type prints and reads itself. The
//! settings under which it does so are pinned, so that each value comes back as it was, to the last
//! digit and blank.

use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiHeapTupleData, SpiTupleTable};
use pgrx::{Uuid, pg_sys};
use serde_json::json;

use crate::delete::cascade::Removed;
use crate::graph::reference_graph::{Graph, OnDelete, Reference, Table};
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Literal, join};
use crate::postgres::settings::LocalSettings;
use crate::spi::session::{Session, with_session};

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
    let from = if reference.prints_alike {
        way.beside_parents()
    } else if way.lock(session)? {
        way.beside_themselves()
    } else {
        return Ok(());
    };
    let change = format!(
        "UPDATE {children} AS c SET {set} FROM {from} RETURNING {printed}",
        children = child.rows(),
        set = way.set(),
        printed = way.printed(),
    );
    let arguments = [deletion.into()];
    session.write_in_windows(child, (&change, &arguments), WINDOW, |session, rows| {
        way.remember(session, rows)
    })
}

/// A reference along which rows of `child` let go of rows of `parent`.
struct Way<'a> {
    reference: &'a Reference,
    child: &'a Table,
    parent: &'a Table,
    deletion: Uuid,
}

impl Way<'_> {
    /// What the child held is read from the parent's key, as `o`: PostgreSQL goes on with a row that it has
    /// waited for, as for its own SET NULL.
    fn beside_parents(&self) -> String {
        let names = self.reference.pairs.iter();
        let named = names.map(|pair| format!("p.{} AS {}", pair.parent, pair.child));
        format!(
            "{parents} AS p CROSS JOIN LATERAL (SELECT {named}) AS o
             WHERE p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}",
            parents = self.parent.rows(),
            named = join(named, ", "),
            joins = self.reference.joins("c", "p"),
        )
    }

    /// Locks the referring rows, if there are any. Then they are changed by another statement, as the
    /// cascade does it: one that had waited for a lock would not find the row by its old address.
    fn lock(&self, session: &mut Session<'_, '_>) -> Outcome<bool> {
        let lock = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {referring} ORDER BY {key} FOR UPDATE OF c) AS locked",
            referring = self.referring(),
            key = self.child.key_columns("c"),
        );
        let locked = session.as_owner(self.child, &lock, &[self.deletion.into()])?;
        Ok(locked.first().get_one::<i64>()? != Some(0))
    }

    /// What the child held is read from the row as it was, as `o`.
    fn beside_themselves(&self) -> String {
        let columns = self.columns().into_iter();
        format!(
            "(SELECT c.tableoid AS keepsake_relation, c.ctid AS keepsake_row, {columns} FROM {referring}) AS o
             WHERE c.ctid OPERATOR(pg_catalog.=) o.keepsake_row AND c.tableoid OPERATOR(pg_catalog.=) o.keepsake_relation",
            columns = join(columns.map(|column| format!("c.{column}")), ", "),
            referring = self.referring(),
        )
    }

    fn referring(&self) -> String {
        format!(
            "{parents} AS p JOIN {children} AS c ON p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}",
            parents = self.parent.rows(),
            children = self.child.rows(),
            joins = self.reference.joins("c", "p"),
        )
    }

    fn set(&self) -> String {
        let value = match self.reference.on_delete {
            OnDelete::SetDefault => "DEFAULT",
            _ => "NULL",
        };
        let columns = self.reference.detached_columns.iter();
        join(columns.map(|column| format!("{column} = {value}")), ", ")
    }

    fn key(&self) -> Vec<&Ident> {
        self.child.key.iter().map(|column| &column.name).collect()
    }

    fn columns(&self) -> Vec<&Ident> {
        self.reference.child_columns()
    }

    /// What is remembered of a row: its key and what it held; and what it was given, where that is not NULL.
    fn printed(&self) -> String {
        let of = |row: &str, columns: Vec<&Ident>| -> Vec<String> {
            let columns = columns.into_iter();
            columns.map(|column| printed(row, column)).collect()
        };
        let mut values = of("c", self.key());
        values.extend(of("o", self.columns()));
        if self.sets_default() {
            values.extend(of("c", self.columns()));
        }
        values.join(", ")
    }

    fn sets_default(&self) -> bool {
        self.reference.on_delete == OnDelete::SetDefault
    }

    /// Enters rows of such values into the registry.
    fn remember(&self, session: &mut Session<'_, '_>, rows: SpiTupleTable<'_>) -> Outcome<()> {
        let mut keys = Objects::of(self.key(), 1);
        let mut old = Objects::of(self.columns(), keys.end());
        let mut new = self
            .sets_default()
            .then(|| Objects::of(self.columns(), old.end()));
        for row in rows {
            keys.push(&row)?;
            old.push(&row)?;
            if let Some(new) = &mut new {
                new.push(&row)?;
            }
        }
        let new = new.map(|new| new.texts);
        if let Some(new) = &new {
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
                keys.texts.into(),
                old.texts.into(),
                new.into(),
            ],
        )?;
        Ok(())
    }
}

/// Columns of many rows, each row an object of what its types print, as text.
struct Objects {
    /// Where each column is in a row that is read, and its name as JSON.
    members: Vec<(usize, String)>,
    first: usize,
    texts: Vec<String>,
}

impl Objects {
    fn of(columns: Vec<&Ident>, first: usize) -> Self {
        let members = (first..).zip(columns);
        Self {
            members: members
                .map(|(ordinal, column)| (ordinal, json!(column.0).to_string()))
                .collect(),
            first,
            texts: Vec::new(),
        }
    }

    fn end(&self) -> usize {
        self.first + self.members.len()
    }

    fn push(&mut self, row: &SpiHeapTupleData<'_>) -> Outcome<()> {
        let mut text = String::new();
        for (ordinal, name) in &self.members {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(name);
            text.push(':');
            text.push_str(&json!(row.get::<String>(*ordinal)?).to_string());
        }
        text.push('}');
        self.texts.push(text);
        Ok(())
    }
}

/// The default must not refer to a deleted row either; that it refers to a row at all is what the
/// foreign key checks.
fn refuse_dead_default(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    new: Vec<String>,
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
fn printed(row: &str, column: &Ident) -> String {
    format!(
        "CASE pg_catalog.num_nulls({row}.{column}) WHEN 0 THEN pg_catalog.concat({row}.{column}) END"
    )
}

/// The same values as an object, to be compared with one that is remembered.
fn as_object<'a>(row: &str, columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let pairs = columns
        .into_iter()
        .map(|column| format!("{}, {}", Literal(&column.0), printed(row, column)));
    format!("pg_catalog.jsonb_build_object({})", join(pairs, ", "))
}

/// The object of what a remembered row `d` was given.
fn given(reference: &Reference) -> String {
    let nulls = reference.detached_columns.iter();
    let nulls: serde_json::Map<_, _> = nulls
        .map(|column| (column.0.clone(), serde_json::Value::Null))
        .collect();
    format!(
        "COALESCE(d.new::pg_catalog.jsonb, d.old::pg_catalog.jsonb OPERATOR(pg_catalog.||) {}::pg_catalog.jsonb)",
        Literal(&json!(nulls).to_string())
    )
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
           array_agg(r.key ORDER BY r.n), array_agg(r.old ORDER BY r.n),
           CASE WHEN num_nulls(d.new_values) = 0 THEN array_agg(r.new ORDER BY r.n) END
    FROM keepsake.detached AS d,
         LATERAL unnest(d.row_keys, d.old_values, d.new_values) WITH ORDINALITY AS r (key, old, new, n)
    JOIN (SELECT DISTINCT ON (n) n, holder FROM unnest($2, $3) AS w (n, holder) ORDER BY n, holder) AS w ON w.n = r.n
    WHERE d.id = $1 GROUP BY w.holder, d.relation, d.reference, d.new_values";

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
