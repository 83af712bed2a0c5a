//! The purge of chosen rows: what one person left in deletions that hold more than that.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::Value;

use crate::access::privileges::Privileges;
use crate::call::arguments::{Jsonb, Regclass};
use crate::graph::cache;
use crate::graph::reference_graph::{Graph, not_in_place};
use crate::hold::in_force;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::purge::gone::{Gone, registry_arguments};
use crate::purge::report::Report;
use crate::purge::rows;
use crate::registry::description::describe_managed;
use crate::registry::stored_key::StoredKey;
use crate::spi::session::{Session, first_column, with_purging_session};

/// Purges deleted rows of a table that keeps them in place now, by their keys (a JSON array of objects), and nothing else of their
/// deletions, which can still be restored: for content that must not be kept. Rows of a deletion that is held, or that
/// holds a held row, stay, and so do rows that something refers to. Answers like `purge_batch`. Deletions that were put off keep
/// their time: to change that would lock those of everybody until the caller's transaction ends.
///
/// # Errors
/// 55000 when the table is not managed, or keeps its deleted rows apart; 42501 for anyone but its owner.
#[pg_extern]
fn purge_rows(relation: Regclass, keys: Jsonb) -> Result<JsonB, ErrorReport> {
    let oid = relation.oid();
    Ok(JsonB(with_purging_session(|session| {
        describe_managed(session, oid)?;
        let graph = cache::current(session)?;
        let Some(table) = graph.table(oid).filter(|table| table.managed) else {
            return Err(not_in_place(session, oid)?);
        };
        Privileges::of(session, table)?.refuse_unless_deletes(table)?;
        table.check_marks()?;
        purge(session, &graph, table, &keys.0)
    })?))
}

fn purge(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    keys: &Value,
) -> Outcome<Value> {
    let mut report = Report::new(i64::MAX);
    let chosen = condition(session, table, keys)?;
    let deletions = locked_deletions(session, table, &chosen)?;
    let holds = in_force::locked(session, graph, &deletions)?;
    let free: Vec<Uuid> = deletions
        .into_iter()
        .filter(|id| !holds.contain(*id))
        .collect();
    let gone = rows::purge_chosen(session, graph, table, &chosen, &free, &mut report)?;
    enter(session, gone)?;
    Ok(report.into_json(None))
}

/// The condition that row `t` has one of the keys.
fn condition(session: &mut Session<'_, '_>, table: &Table, keys: &Value) -> Outcome<String> {
    let keys = keys.as_array().ok_or_else(|| Failure::BadArgument {
        what: "keys must be a JSON array".into(),
        fix: r#"Pass the keys of the rows, such as '[{"id": 1}, {"id": 2}]'."#.into(),
    })?;
    let mut terms = vec!["false".to_owned()];
    for key in keys {
        let key = StoredKey::read(session, table, key)?.ok_or_else(|| Failure::BadArgument {
            what: format!("{key} is no key of table {}", table.shown),
            fix: "Pass an object with the columns of the primary key.".into(),
        })?;
        terms.push(format!("({})", key.condition()));
    }
    Ok(join(terms, " OR "))
}

/// The deletions of the chosen rows, locked: nobody restores or purges them meanwhile.
fn locked_deletions(
    session: &mut Session<'_, '_>,
    table: &Table,
    chosen: &str,
) -> Outcome<Vec<Uuid>> {
    let sql = format!(
        "SELECT DISTINCT t.deletion_id FROM {} AS t WHERE t.deletion_id IS NOT NULL AND ({chosen})",
        table.rows()
    );
    let found: Vec<Uuid> = first_column(session.as_owner(table, &sql, &[])?)?;
    first_column(session.registry(
        "SELECT d.id FROM keepsake.deletion d WHERE d.id = ANY ($1) AND d.state IN ('deleted', 'purging')
         ORDER BY d.id FOR UPDATE",
        &[found.into()],
    )?)
}

/// What is gone was never of the deletion, unless it was the last of it: the rest can still be restored, and what let go of it. Of a
/// deletion that is done nothing of that is needed.
const ENTER: &str = "
    WITH gone AS MATERIALIZED (
        SELECT g.deletion_id, g.relation, g.rows, bool_and(t.purged + coalesce(g.rows, 0) >= t.row_count) OVER (PARTITION BY t.deletion_id) AS is_all
        FROM keepsake.deletion_table t
        LEFT JOIN unnest($1, $2, $3) AS g (deletion_id, relation, rows) ON g.deletion_id = t.deletion_id AND g.relation = t.relation
        WHERE t.deletion_id = ANY ($1)),
    entered AS (
        UPDATE keepsake.deletion_table t
        SET purged = t.purged + CASE WHEN g.is_all THEN g.rows ELSE 0 END,
            row_count = t.row_count - CASE WHEN g.is_all THEN 0 ELSE g.rows END
        FROM gone g WHERE t.deletion_id = g.deletion_id AND t.relation = g.relation),
    forgotten AS (
        DELETE FROM keepsake.detached WHERE deletion_id IN (SELECT g.deletion_id FROM gone g WHERE g.is_all)),
    forgotten_too AS (
        DELETE FROM keepsake.archive_undo WHERE deletion_id IN (SELECT g.deletion_id FROM gone g WHERE g.is_all))
    UPDATE keepsake.deletion d
    SET state = 'purged', settled_at = now(), settled_role = $4::text::name, settled_session_role = $5::text::name, put_off_at = NULL
    FROM gone g WHERE d.id = g.deletion_id AND g.is_all";

fn enter(session: &mut Session<'_, '_>, gone: Gone) -> Outcome<()> {
    let entry = registry_arguments(session, gone)?;
    session.registry(ENTER, &entry)?;
    Ok(())
}
