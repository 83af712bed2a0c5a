//! The dry run of a purge: what would go, and why the rest would not.

use std::collections::{BTreeMap, HashMap};

use pgrx::Uuid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::hold::in_force;
use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::purge::isolation;
use crate::purge::selection::Expired;
use crate::spi::session::{Session, with_purging_session};

/// What a purge at `as_of` (now, unless given) would do, for each table: how many rows would go
/// (`outcome` is `purge`), and how many would stay and why: `not_expired`, `held`, `failed_before`
/// (within the last hour), `referred_to`; or `unknown`, where the
/// owner's tables could not be looked at. Changes nothing and locks nothing.
#[pg_extern]
fn purge_plan(
    as_of: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(table_name, String),
            name!(outcome, String),
            name!(rows, i64),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(with_purging_session(|session| {
        preview(session, as_of)
    })?))
}

type Line = (String, String, i64);

const CLASSES: &str = "
    SELECT d.id,
           CASE WHEN (d.expires_at <= coalesce($1, now()) AND d.expires_at < 'infinity') IS NOT TRUE THEN 'not_expired'
                WHEN (d.purge_failed_at <= coalesce($1, now()) - interval '1 hour') IS FALSE THEN 'failed_before'
                ELSE 'purge' END,
           d.root_table::oid
    FROM keepsake.deletion d
    WHERE d.state IN ('deleted', 'purging')";

const COUNTS: &str = "
    SELECT t.relation::oid, sum(t.row_count - t.purged)::bigint, min(CASE WHEN a.archive IS NOT NULL THEN format('%I.%I', a.source_schema, a.source_name) END)
    FROM keepsake.deletion_table t
    -- What a dropped table had deleted is known by the OID that it had.
    LEFT JOIN keepsake.archive_table a ON coalesce(a.relation::oid, a.former) = t.relation::oid
    WHERE t.deletion_id = ANY ($1) AND t.purged < t.row_count
    GROUP BY 1";

fn preview(
    session: &mut Session<'_, '_>,
    as_of: Option<TimestampWithTimeZone>,
) -> Outcome<Vec<Line>> {
    let graph = cache::current(session)?;
    let (mut due, mut lines) = (Vec::new(), Lines::new());
    let mut waiting: HashMap<String, Vec<Uuid>> = HashMap::new();
    for row in session.registry(CLASSES, &[as_of.into()])? {
        if let (Some(id), Some(outcome), Some(root_table)) =
            (row.get(1)?, row.get::<String>(2)?, row.get(3)?)
        {
            if outcome == NOT_EXPIRED {
                waiting.entry(outcome).or_default().push(id);
            } else {
                due.push((Expired { id, root_table }, outcome));
            }
        }
    }
    for (outcome, ids) in waiting {
        count(session, &graph, &ids, &outcome, &mut lines)?;
    }
    let outcomes: HashMap<[u8; 16], String> = due
        .iter()
        .map(|(one, outcome)| (*one.id.as_bytes(), outcome.clone()))
        .collect();
    let due: Vec<Expired> = due.into_iter().map(|(one, _)| one).collect();
    for (_, ids) in isolation::by_owner(&graph, &due) {
        // One owner's tables that cannot be looked at say so, and stand in nobody's way.
        let looked = isolation::look(|| of_owner(session, &graph, &ids, &outcomes));
        match looked {
            Some(found) => found
                .into_iter()
                .for_each(|(key, rows)| *lines.entry(key).or_default() += rows),
            None => count(session, &graph, &ids, UNKNOWN, &mut lines)?,
        }
    }
    Ok(lines
        .into_iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|((table, outcome), rows)| (table, outcome, rows))
        .collect())
}

const NOT_EXPIRED: &str = "not_expired";
const UNKNOWN: &str = "unknown";

/// How many rows of each table come to each outcome.
type Lines = BTreeMap<(String, String), i64>;

/// What becomes of deletions that have expired, in tables of one owner.
fn of_owner(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    ids: &[Uuid],
    outcomes: &HashMap<[u8; 16], String>,
) -> Outcome<Lines> {
    let holds = in_force::find(session, graph, ids)?;
    let mut classes: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for id in ids {
        let outcome = outcomes.get(id.as_bytes()).map_or(UNKNOWN, String::as_str);
        let outcome = if holds.contain(*id) { "held" } else { outcome };
        classes.entry(outcome).or_default().push(*id);
    }
    let mut lines = Lines::new();
    for (outcome, ids) in &classes {
        count(session, graph, ids, outcome, &mut lines)?;
    }
    let going = classes.remove("purge").unwrap_or_default();
    for (table, rows) in blocked(session, graph, &going)? {
        let Some(table) = graph.table(table) else {
            continue;
        };
        let stay = i64::try_from(rows.0.len()).unwrap_or(i64::MAX);
        if let Some(rows) = lines.get_mut(&(table.shown.clone(), "purge".into())) {
            *rows -= stay;
        }
        lines.insert((table.shown.clone(), "referred_to".into()), stay);
    }
    Ok(lines)
}

fn count(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    ids: &[Uuid],
    outcome: &str,
    lines: &mut Lines,
) -> Outcome<()> {
    for row in session.registry(COUNTS, &[ids.to_vec().into()])? {
        let (Some(table), Some(rows)) = (row.get::<pg_sys::Oid>(1)?, row.get::<i64>(2)?) else {
            continue;
        };
        let in_place = graph.table(table).filter(|table| table.managed);
        let shown = in_place.map(|table| table.shown.clone());
        if let Some(shown) = shown.or(row.get(3)?) {
            *lines.entry((shown, outcome.to_owned())).or_default() += rows;
        }
    }
    Ok(())
}

/// Rows that would stay: their tables' OIDs and their addresses, two arrays side by side.
type Rows = (Vec<pg_sys::Oid>, Vec<pg_sys::ItemPointerData>);

/// The rows of these deletions to which a row refers that would stay itself.
fn blocked(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    going: &[Uuid],
) -> Outcome<HashMap<pg_sys::Oid, Rows>> {
    let mut blocked: HashMap<pg_sys::Oid, Rows> = HashMap::new();
    for group in graph.groups_children_first() {
        loop {
            let mut grew = false;
            for table in group.iter().filter(|table| table.managed) {
                let known = blocked.get(&table.oid).map_or(0, |rows| rows.0.len());
                let found = blocked_of(session, graph, table, going, &blocked)?;
                grew |= found.0.len() > known;
                blocked.insert(table.oid, found);
            }
            if !grew || !graph.is_cycle(&group) {
                break;
            }
        }
    }
    Ok(blocked)
}

fn blocked_of(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    going: &[Uuid],
    blocked: &HashMap<pg_sys::Oid, Rows>,
) -> Outcome<Rows> {
    let mut rows = Rows::default();
    for (reference, child) in graph.references_to(table.oid) {
        if reference.lets_go(child) {
            continue;
        }
        reference.check_readable(child, table)?;
        let stays = if child.managed {
            "(c.deletion_id IS NULL OR c.deletion_id <> ALL ($1)
              OR EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS h (relation, row)
                         WHERE h.row OPERATOR(pg_catalog.=) c.ctid AND h.relation OPERATOR(pg_catalog.=) c.tableoid))"
        } else {
            "($2 IS NOT NULL AND $3 IS NOT NULL)"
        };
        let sql = format!(
            "SELECT t.tableoid, t.ctid FROM {} AS t WHERE t.deletion_id = ANY ($1)
             AND EXISTS (SELECT FROM {} AS c WHERE {} AND {stays})",
            table.rows(),
            child.rows(),
            reference.joins("c", "t"),
        );
        let (relations, tids) = blocked.get(&child.oid).cloned().unwrap_or_default();
        for row in session.as_owner(
            table,
            &sql,
            &[going.to_vec().into(), relations.into(), tids.into()],
        )? {
            if let (Some(relation), Some(tid)) = (row.get(1)?, row.get(2)?) {
                rows.0.push(relation);
                rows.1.push(tid);
            }
        }
    }
    distinct(session, rows)
}

/// Each row once, however many references lead to it.
fn distinct(session: &mut Session<'_, '_>, rows: Rows) -> Outcome<Rows> {
    let (relations, tids) = rows;
    let found = session.registry_kept(
        "SELECT array_agg(h.relation), array_agg(h.row) FROM (
             SELECT DISTINCT h.relation, h.row FROM ROWS FROM (unnest($1), unnest($2)) AS h (relation, row)) AS h",
        &[relations.into(), tids.into()],
    )?.first();
    Ok((
        found.get(1)?.unwrap_or_default(),
        found.get(2)?.unwrap_or_default(),
    ))
}
