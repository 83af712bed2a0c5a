//! What refuses a deletion: live rows that refer to what it removed, and do not go with it.

use pgrx::datum::DatumWithOid;
use pgrx::{Uuid, pg_sys};

use crate::access::visible_keys::visible_keys;
use crate::delete::put_off::PutOff;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::reference::{OnDelete, Reference};
use crate::model::row_id::RowId;
use crate::model::sql::join;
use crate::model::table::Table;
use crate::spi::session::Session;

/// After the cascade nothing live of the `concerned` tables may refer to what was removed. What does is a row that restricts
/// the deletion, or, under an old snapshot, a child that the cascade could not see.
pub fn refuse_if_referred(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    root: &Table,
    (parents, deletion): (&[pg_sys::Oid], Uuid),
    concerned: impl Fn(&Table) -> bool,
) -> Outcome<()> {
    let mut referrers = Vec::new();
    for parent in parents.iter().filter_map(|oid| graph.table(*oid)) {
        let references = graph.references_to(parent.oid);
        for (reference, child) in references.filter(|(_, child)| concerned(child)) {
            let follows = reference.on_delete.sets_columns()
                || reference.on_delete == OnDelete::Cascade && child.managed;
            if follows && !session.keeps_its_snapshot() || reference.checked_at_commit {
                continue;
            }
            reference.check_readable(child, parent)?;
            if !is_referred(session, reference, child, parent, deletion)? {
                continue;
            }
            if follows {
                return Err(Failure::ConcurrentChild {
                    table: root.shown.clone(),
                });
            }
            let described = describe_referrers(session, reference, child, parent, deletion)?;
            referrers.push((described, reference, child));
        }
    }
    refuse(root, referrers)
}

/// Refuses at the end of a statement what archived rows refer to that have not gone with it.
pub fn refuse_put_off(session: &mut Session<'_, '_>, graph: &Graph, what: &PutOff) -> Outcome<()> {
    let Some(root) = graph.table(what.root) else {
        return Ok(());
    };
    let parents = (what.parents.as_slice(), what.deletion);
    refuse_if_referred(session, graph, root, parents, |child| child.archived)
}

/// Refuses at the commit the deletion of a row of `table`, whose key these values are, when live rows refer to it by references that are only
/// checked then, and it is deleted still.
pub fn refuse_at_commit(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    table: &Table,
    key: &[DatumWithOid<'_>],
) -> Outcome<()> {
    let is_row = table.key.iter().zip(1..);
    let is_row = is_row.map(|(column, n)| format!("p.{} {} ${n}", column.name, column.equals));
    let is_row = join(is_row, " AND ");
    let mut referrers = Vec::new();
    for (reference, child) in graph.references_to(table.oid) {
        if !reference.checked_at_commit {
            continue;
        }
        reference.check_readable(child, table)?;
        let sql = format!(
            "SELECT 1 FROM {parent} AS p JOIN {children} AS c ON {joins}
             WHERE {is_row} AND p.deletion_id IS NOT NULL AND {live} LIMIT 1",
            parent = table.rows(),
            children = child.rows(),
            joins = reference.joins("c", "p"),
            live = child.is_live("c"),
        );
        if session.exists_now((child.oid, child.owner), &sql, key)? {
            referrers.push((described(reference, child), reference, child));
        }
    }
    refuse(table, referrers)
}

/// What an error says of live rows that refer to removed ones; the reference and its table.
type Referrers<'graph> = (String, &'graph Reference, &'graph Table);

fn refuse(root: &Table, mut referrers: Vec<Referrers<'_>>) -> Outcome<()> {
    // The error names one foreign key: PostgreSQL asks RESTRICT first.
    referrers.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let first = referrers
        .iter()
        .find(|(_, reference, _)| reference.restricts)
        .or(referrers.first());
    let Some((_, reference, child)) = first else {
        return Ok(());
    };
    Err(Failure::Blocked {
        table: root.shown.clone(),
        constraint: reference.constraint_of(child),
        restricts: reference.restricts,
        referrers: referrers
            .into_iter()
            .map(|(described, ..)| described)
            .collect(),
    })
}

fn described(reference: &Reference, child: &Table) -> String {
    format!("{} (constraint \"{}\")", child.shown, reference.name)
}

/// The live rows of `child` that refer to a row of the deletion.
fn referring(what: &str, reference: &Reference, child: &Table, parent: &Table) -> String {
    format!(
        "SELECT {what} FROM {parent} AS p JOIN {child} AS c ON {joins}
         WHERE p.deletion_id OPERATOR(pg_catalog.=) $1 AND {live}",
        parent = parent.rows(),
        joins = reference.joins("c", "p"),
        live = child.is_live("c"),
        child = child.rows(),
    )
}

fn is_referred(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<bool> {
    let sql = format!("{} LIMIT 1", referring("1", reference, child, parent));
    session.exists_now((child.oid, child.owner), &sql, &[deletion.into()])
}

/// How many referring rows an error names.
const NAMED: usize = 3;

/// Names the table, the reference and some of the rows, as far as the caller may see them.
fn describe_referrers(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<String> {
    let sql = format!(
        "{} LIMIT {}",
        referring("c.tableoid, c.ctid", reference, child, parent),
        NAMED + 1
    );
    let rows = RowId::read_all(session.as_owner(child, &sql, &[deletion.into()])?)?;
    let keys = visible_keys(session, child, &rows)?;
    let mut named: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    if rows.len() > named.len() && !named.is_empty() {
        named.push("…".into());
    }
    let described = described(reference, child);
    if named.is_empty() {
        Ok(described)
    } else {
        Ok(format!("{described}: {}", named.join(", ")))
    }
}
