//! The purge of the rows of deletions that are locked and not held: referring rows first, never a
//! row that something still refers to.

use std::collections::{HashMap, HashSet};

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::row_id::{RowId, as_arguments};
use crate::model::table::Table;
use crate::postgres::settings::indexes_only;
use crate::purge::archived;
use crate::purge::cycles;
use crate::purge::gone::{Gone, registry_arguments};
use crate::purge::report::Report;
use crate::registry::deletion;
use crate::spi::cursor::Cursor;
use crate::spi::session::Session;
use pgrx::spi::SpiTupleTable;
use pgrx::{Uuid, pg_sys};

/// Rows that are locked and deleted by one pair of statements.
const WINDOW: i64 = 1000;

/// Purges rows of these deletions, enters them in the registry, and puts off those deletions of
/// which rows had to stay. A group of tables that refer to each other is gone over as long as that
/// frees further rows.
pub fn purge(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    deletions: &[Uuid],
    report: &mut Report,
) -> Outcome<()> {
    let (mut gone, mut stuck) = (Gone::new(), HashSet::new());
    let holding = archived::holding(session, deletions)?;
    let kept_in_place = |oid: &pg_sys::Oid| graph.table(*oid).is_some_and(|table| table.managed);
    let groups = if holding.tables.iter().any(kept_in_place) {
        deletion::holding(session, graph, deletions)?
    } else {
        Vec::new()
    };
    for group in groups {
        loop {
            let mut passes = Vec::new();
            for table in &group {
                passes.push((
                    *table,
                    purge_table(session, graph, table, deletions, report, &mut gone)?,
                ));
            }
            let freed = passes.iter().any(|(_, pass)| pass.purged > 0);
            let blocked = passes.iter().any(|(_, pass)| pass.blocked > 0);
            let again = graph.is_cycle(&group) && !report.is_full();
            if again && freed {
                continue;
            }
            if again
                && blocked
                && purge_cycle(session, graph, &group, deletions, report, &mut gone)?
            {
                continue;
            }
            // What was only not reached, or may be free by now, is not blocked.
            if !report.is_full() || !freed {
                for (table, pass) in passes {
                    report.note_blocked(&table.shown, pass.blocked);
                    stuck.extend(pass.stuck);
                }
            }
            break;
        }
        if report.is_full() {
            break;
        }
    }
    if !report.is_full() {
        archived::purge(session, holding, report, &mut gone)?;
    }
    if !report.is_full() {
        // Of these nothing was to be had: others have locked their rows, or their tables are gone.
        let touched: HashSet<[u8; 16]> = gone.keys().map(|(deletion, _)| *deletion).collect();
        let untouched = deletions.iter().map(|id| *id.as_bytes());
        stuck.extend(untouched.filter(|id| !touched.contains(id)));
    }
    enter(session, gone)?;
    deletion::postpone(session, stuck.into_iter().map(Uuid::from_bytes).collect())
}

/// Purges rows that only refer to each other; whether there were any.
fn purge_cycle(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    deletions: &[Uuid],
    report: &mut Report,
    gone: &mut Gone,
) -> Outcome<bool> {
    let cycle = cycles::purge(session, graph, group, deletions)?;
    for ((deletion, oid), rows) in &cycle {
        *gone.entry((*deletion, *oid)).or_insert(0) += rows;
        if let Some(table) = graph.table(*oid) {
            report.note_purged(&table.shown, *rows);
        }
    }
    Ok(!cycle.is_empty())
}

/// One pass over the rows of one table.
#[derive(Default)]
struct Pass {
    purged: i64,
    blocked: i64,
    /// The deletions of blocked rows.
    stuck: HashSet<[u8; 16]>,
}

impl Pass {
    fn note(&mut self, table: &Table, purged: &Purged, report: &mut Report, gone: &mut Gone) {
        for (deletion, rows) in purged {
            *gone.entry((*deletion, table.oid)).or_insert(0) += rows;
            self.purged += rows;
            report.note_purged(&table.shown, *rows);
        }
    }
}

fn purge_table(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    deletions: &[Uuid],
    report: &mut Report,
    gone: &mut Gone,
) -> Outcome<Pass> {
    let mut references = graph.references_to(table.oid);
    let is_leaf = references.all(|(reference, child)| reference.lets_go(child));
    if is_leaf && !table.partitioned {
        let mut pass = Pass::default();
        let purged = delete_leaf(session, table, deletions, report.left())?;
        pass.note(table, &purged, report, gone);
        return Ok(pass);
    }
    purge_referred(session, graph, table, deletions, report, gone)
}

/// Rows of a table to which nothing can refer: locked and deleted by one statement, whatever others
/// commit meanwhile.
fn delete_leaf(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletions: &[Uuid],
    most: i64,
) -> Outcome<Purged> {
    let sql = format!(
        "WITH gone AS (
             DELETE FROM {rows} AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                 SELECT d.ctid FROM {rows} AS d WHERE d.deletion_id OPERATOR(pg_catalog.=) ANY ($1) AND d.deleted_at IS NOT NULL
                 LIMIT $2 FOR UPDATE SKIP LOCKED))
             RETURNING t.deletion_id)
         SELECT g.deletion_id, pg_catalog.count(*) FROM gone AS g GROUP BY g.deletion_id",
        rows = table.rows(),
    );
    let _plan = indexes_only();
    read_purged(session.write_kept(table, &sql, &[deletions.to_vec().into(), most.into()])?)
}

/// Rows are locked first and deleted by a later statement, which sees what was committed before the
/// lock was had.
fn purge_referred(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    deletions: &[Uuid],
    report: &mut Report,
    gone: &mut Gone,
) -> Outcome<Pass> {
    let sql = format!(
        "SELECT t.tableoid, t.ctid, t.deletion_id FROM {} AS t
         WHERE t.deletion_id = ANY ($1) AND t.deleted_at IS NOT NULL FOR UPDATE SKIP LOCKED",
        table.rows()
    );
    let mut rows = session.cursor(table, &sql, &[deletions.to_vec().into()])?;
    let mut pass = Pass::default();
    while !report.is_full() {
        let window = Window::fetch(&mut rows, WINDOW.min(report.left()))?;
        if window.rows.is_empty() {
            break;
        }
        let purged = delete(session, graph, table, &window)?;
        pass.note(table, &purged, report, gone);
        let mut left = window.counts();
        for (deletion, rows) in &purged {
            *left.entry(*deletion).or_insert(0) -= rows;
        }
        for (deletion, rows) in left.into_iter().filter(|(_, rows)| *rows > 0) {
            pass.blocked += rows;
            pass.stuck.insert(deletion);
        }
    }
    Ok(pass)
}

/// Purges those of the deletions' rows in one table that meet the condition, a term of SQL without arguments on row `t`; how many
/// are gone.
pub fn purge_chosen(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    chosen: &str,
    deletions: &[Uuid],
    report: &mut Report,
) -> Outcome<Gone> {
    let sql = format!(
        "SELECT t.tableoid, t.ctid, t.deletion_id FROM {} AS t
         WHERE t.deletion_id = ANY ($1) AND t.deleted_at IS NOT NULL AND ({chosen}) FOR UPDATE",
        table.rows()
    );
    let rows = session.as_owner(table, &sql, &[deletions.to_vec().into()])?;
    let window = Window::read(rows)?;
    let purged = delete(session, graph, table, &window)?;
    let (mut pass, mut gone) = (Pass::default(), Gone::new());
    pass.note(table, &purged, report, &mut gone);
    let locked = i64::try_from(window.rows.len()).unwrap_or(i64::MAX);
    report.note_blocked(&table.shown, locked - pass.purged);
    Ok(gone)
}

/// Rows that are locked: where they are, and which deletion each is of.
#[derive(Default)]
struct Window {
    rows: Vec<RowId>,
    deletions: Vec<[u8; 16]>,
}

impl Window {
    fn fetch(cursor: &mut Cursor<'_>, count: i64) -> Outcome<Self> {
        Self::read(cursor.fetch(count)?)
    }

    fn read(rows: SpiTupleTable<'_>) -> Outcome<Self> {
        let mut window = Self::default();
        for row in rows {
            if let (Some(place), Some(deletion)) = (RowId::read(&row, 1)?, row.get::<Uuid>(3)?) {
                window.rows.push(place);
                window.deletions.push(*deletion.as_bytes());
            }
        }
        Ok(window)
    }

    /// Whether they are all the table's own, not of its partitions.
    fn is_within(&self, table: &Table) -> bool {
        self.rows.iter().all(|row| row.relation() == table.oid)
    }

    fn counts(&self) -> HashMap<[u8; 16], i64> {
        let mut counts = HashMap::new();
        for deletion in &self.deletions {
            *counts.entry(*deletion).or_insert(0) += 1;
        }
        counts
    }
}

/// Deletes those of the rows that nothing refers to any more; how many of each deletion.
fn delete(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    window: &Window,
) -> Outcome<Purged> {
    let sql = delete_sql(graph, table, window.is_within(table))?;
    read_purged(session.write_kept(table, &sql, &as_arguments(&window.rows))?)
}

/// How many rows of each deletion are gone.
type Purged = Vec<([u8; 16], i64)>;

fn read_purged(rows: SpiTupleTable<'_>) -> Outcome<Purged> {
    rows.filter_map(|row| {
        let read = || -> Outcome<_> { Ok(row.get::<Uuid>(1)?.zip(row.get::<i64>(2)?)) };
        read()
            .map(|pair| pair.map(|(id, rows)| (*id.as_bytes(), rows)))
            .transpose()
    })
    .collect()
}

/// Deletes the rows at `$1` (tables) and `$2` (addresses) that nothing refers to, live or deleted: a
/// foreign key's CASCADE must have nothing to take along. Rows of a table that refers to itself may
/// go together: blocked are those to which a row outside, or a blocked one, refers. When all are
/// `within` the table itself, their addresses alone find them, which is faster.
fn delete_sql(graph: &Graph, table: &Table, within: bool) -> Outcome<String> {
    let (from, using, at) = if within {
        ("", "", "t.ctid OPERATOR(pg_catalog.=) ANY ($2)")
    } else {
        (
            "here AS h, ",
            " USING here AS h",
            "t.ctid OPERATOR(pg_catalog.=) h.row AND t.tableoid OPERATOR(pg_catalog.=) h.relation",
        )
    };
    let (mut outside, mut parents) = (Vec::new(), Vec::new());
    let rows = table.rows();
    for (reference, child) in graph.references_to(table.oid) {
        if reference.lets_go(child) {
            continue;
        }
        reference.check_readable(child, table)?;
        let to_itself = child.oid == table.oid;
        outside.push(format!(
            "EXISTS (SELECT FROM {child} AS c WHERE {joins}{not_here})",
            child = child.rows(),
            joins = reference.joins("c", "t"),
            not_here = if to_itself { NOT_HERE } else { "" },
        ));
        if to_itself {
            parents.push(format!(
                "SELECT p.tableoid, p.ctid FROM {rows} AS p WHERE {}",
                reference.joins_by_parent_key("c", "p")
            ));
        }
    }
    let (with, condition) = if parents.is_empty() {
        let terms = outside.iter().map(|term| format!(" AND NOT {term}"));
        (String::new(), terms.collect())
    } else {
        let with = format!(
            "blocked (relation, row) AS (
                 SELECT t.tableoid, t.ctid FROM {from}{rows} AS t WHERE {at} AND ({outside})
                 UNION
                 SELECT h.relation, h.row FROM blocked AS b, {rows} AS c, LATERAL ({parents}) AS p (relation, row), here AS h
                 WHERE c.ctid OPERATOR(pg_catalog.=) b.row AND c.tableoid OPERATOR(pg_catalog.=) b.relation
                   AND h.row OPERATOR(pg_catalog.=) p.row AND h.relation OPERATOR(pg_catalog.=) p.relation), ",
            outside = outside.join(" OR "),
            parents = parents.join(" UNION ALL "),
        );
        (with, NOT_BLOCKED.to_owned())
    };
    Ok(format!(
        "WITH RECURSIVE here AS MATERIALIZED (
             SELECT h.relation, h.row FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS h (relation, row)),
         {with}gone AS (
             DELETE FROM {rows} AS t{using} WHERE {at}{condition}
             RETURNING t.deletion_id)
         SELECT g.deletion_id, pg_catalog.count(*) FROM gone AS g GROUP BY g.deletion_id"
    ))
}

const NOT_HERE: &str = " AND NOT EXISTS (SELECT FROM here AS v
    WHERE v.row OPERATOR(pg_catalog.=) c.ctid AND v.relation OPERATOR(pg_catalog.=) c.tableoid)";
const NOT_BLOCKED: &str = " AND NOT EXISTS (SELECT FROM blocked AS b
    WHERE b.row OPERATOR(pg_catalog.=) t.ctid AND b.relation OPERATOR(pg_catalog.=) t.tableoid)";

const ENTER: &str = include_str!("enter_purged.sql");

/// Of a deletion that stays as it is, all but its count: $1 deletion, $2 table, $3 how many rows.
const COUNT: &str = "
    UPDATE keepsake.deletion_table t SET purged = t.purged + $3 FROM keepsake.deletion d
    WHERE t.deletion_id = $1 AND t.relation = $2 AND t.purged + $3 < t.row_count
      AND d.id = t.deletion_id AND d.state = 'purging' AND d.put_off_at IS NULL
    RETURNING 1";

/// Enters in the registry what is gone.
pub fn enter(session: &mut Session<'_, '_>, gone: Gone) -> Outcome<()> {
    if gone.is_empty() {
        return Ok(());
    }
    if gone.len() == 1
        && let Some(((deletion, table), rows)) = gone.iter().next()
    {
        let one = [
            Uuid::from_bytes(*deletion).into(),
            (*table).into(),
            (*rows).into(),
        ];
        if !session.registry_kept(COUNT, &one)?.is_empty() {
            return Ok(());
        }
    }
    let entry = registry_arguments(session, gone)?;
    session.registry_kept(ENTER, &entry)?;
    Ok(())
}
