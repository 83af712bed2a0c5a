//! Archived rows that refer to rows in place which the same restore brings back: an archived row comes back first, and what it refers to next.

use pgrx::Uuid;
use serde_json::Value;

use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::table::Table;
use crate::postgres::subtransaction::{Caught, attempt_unless};
use crate::registry::deletion;
use crate::restore_archived::work::Root;
use crate::spi::session::Session;

/// Whether tables with an archive refer to some of those in place that deletions have rows of: these rows then wait for each other.
pub fn are_possible(graph: &Graph, tables: &[Vec<&Table>]) -> bool {
    tables.iter().flatten().any(|parent| {
        let mut references = graph.references_to(parent.oid);
        references.any(|(_, child)| child.archived)
    })
}

/// Restores these deletions with `work`: first as if all their rows in place would come back. Where some do not, once more, and what refers to rows in place
/// stays.
pub fn restore<'conn>(
    session: &mut Session<'_, 'conn>,
    graph: &Graph,
    deletions: &[Uuid],
    work: impl Fn(&mut Session<'_, 'conn>, Root) -> Outcome<Value>,
) -> Outcome<Value> {
    let tables = deletion::holding(session, graph, deletions)?;
    if !are_possible(graph, &tables) {
        return work(session, Root::Archived);
    }
    let mut some_stay = false;
    // Nothing that is raised is caught.
    let tried = attempt_unless(
        |_| true,
        || {
            let answer = work(session, Root::ArchivedFirst)?;
            some_stay = refer_to_deleted(session, graph, &tables, &answer, deletions)?;
            if some_stay {
                return Err(Failure::RestoreConflicts {
                    conflicts: Vec::new(),
                });
            }
            Ok(answer)
        },
    );
    match tried {
        Ok(answer) => Ok(answer),
        Err(Caught::Failure(failure)) if !some_stay => Err(failure),
        Err(_) => work(session, Root::Archived),
    }
}

/// Whether rows that came back into tables with an archive refer to rows in place that did not: that the restore has left, or passed to
/// other deletions.
fn refer_to_deleted(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    answer: &Value,
    deletions: &[Uuid],
) -> Outcome<bool> {
    let passed = answer.get("passed").and_then(Value::as_array);
    let holders = passed.into_iter().flatten();
    let holders = holders.filter_map(|line| Some(line.get("deletion_id")?.as_str()?.to_owned()));
    let own = deletions.iter().map(ToString::to_string);
    let holders: Vec<String> = holders.chain(own).collect();
    for parent in tables.iter().flatten() {
        for (reference, child) in graph.references_to(parent.oid) {
            if !child.archived {
                continue;
            }
            let sql = format!(
                "SELECT 1 FROM {parents} AS p JOIN {children} AS c ON {joins}
                 WHERE p.deletion_id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.uuid[]) LIMIT 1",
                parents = parent.rows(),
                children = child.rows(),
                joins = reference.joins("c", "p"),
            );
            let args = [holders.clone().into()];
            if session.exists_now((child.oid, child.owner), &sql, &args)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
