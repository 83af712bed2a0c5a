//! The way of a deletion down the graph: what cascades is marked, and what detaches lets go. At its end
//! [`restrict`] looks for what refuses it.

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::{Uuid, pg_sys};

use crate::archive::removal;
use crate::call::trigger_call::OldRows;
use crate::delete::put_off::{self, PutOff};
use crate::delete::record::count_rows;
use crate::delete::{absorb, chain, restrict, set_null};
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::reference::{OnDelete, Reference};
use crate::model::row_id::{RowId, as_arguments};
use crate::model::table::Table;
use crate::registry::deletion_group;
use crate::spi::session::Session;

/// How many rows of each table a deletion removed.
type Removed = HashMap<pg_sys::Oid, usize>;

/// How often a deletion begins again because the schema has changed: triggers that it fires may do that each time.
const MOST_ROUNDS: usize = 16;

/// Carries out a deletion whose `roots` rows of the table `root` are marked: everything that follows
/// from them, and the count of it in the registry.
///
/// # Errors
/// 23503 when live rows restrict it; 40001 when an old snapshot hides a row or a key beneath it, or the schema does not
/// come to rest.
pub fn carry_out(
    session: &mut Session<'_, '_>,
    graph: Rc<Graph>,
    root: pg_sys::Oid,
    roots: usize,
    deletion: Uuid,
) -> Outcome<()> {
    let removed = Removed::from([(root, roots)]);
    let removed = carry_on(session, graph, removed, (deletion, false), |_, _, _| {
        Ok(root)
    })?;
    count_rows(deletion, counts(&removed));
    Ok(())
}

fn counts(removed: &Removed) -> impl Iterator<Item = (pg_sys::Oid, usize)> {
    removed.iter().map(|(table, rows)| (*table, *rows))
}

/// Carries a deletion of archived rows on to the tables kept in place: to what refers by a declared reference to the rows that have
/// just gone from the table `relation`, which is the table or a partition, and to everything that follows from that.
///
/// # Errors
/// As [`carry_out`].
pub fn carry_beneath(
    session: &mut Session<'_, '_>,
    graph: Rc<Graph>,
    relation: pg_sys::Oid,
    deletion: Uuid,
) -> Outcome<()> {
    let take = |session: &mut Session<'_, '_>, graph: &Graph, removed: &mut Removed| {
        let parent = graph.table_or_root(relation);
        if let Some(parent) = parent.filter(|parent| parent.archived) {
            take_declared(session, graph, (relation, parent), deletion, removed)?;
        }
        Ok(parent.map_or(relation, |parent| parent.oid))
    };
    let waits = put_off::is_possible();
    let removed = carry_on(session, graph, Removed::new(), (deletion, waits), take)?;
    removal::count(counts(&removed));
    Ok(())
}

/// Takes rows with `take`, which answers with the table that the deletion began with, and follows what goes with them; until the
/// schema has not changed meanwhile. `waits`: archived rows may go until the statement ends. Answers with how many rows went.
fn carry_on(
    session: &mut Session<'_, '_>,
    mut graph: Rc<Graph>,
    mut removed: Removed,
    (deletion, waits): (Uuid, bool),
    take: impl Fn(&mut Session<'_, '_>, &Graph, &mut Removed) -> Outcome<pg_sys::Oid>,
) -> Outcome<Removed> {
    for _ in 0..MOST_ROUNDS {
        let followed = take(session, &graph, &mut removed)
            .and_then(|root| follow(session, &graph, root, &mut removed, (deletion, waits)));
        // A foreign key may have been made, or a table managed, while we waited for a lock; now that we
        // hold it none can be. Or nothing has changed but statistics, which is not told apart.
        let now = cache::current(session)?;
        if Rc::ptr_eq(&now, &graph) {
            followed?;
            for table in removed.keys().filter_map(|oid| graph.table(*oid)) {
                absorb::settle(session, table, deletion)?;
            }
            deletion_group::carried_out(deletion, removed.keys().copied());
            return Ok(removed);
        }
        graph = now;
    }
    Err(Failure::SchemaMoves)
}

fn follow(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    root: pg_sys::Oid,
    removed: &mut Removed,
    (deletion, waits): (Uuid, bool),
) -> Outcome<()> {
    if removed.is_empty() {
        return Ok(());
    }
    for group in graph.parents_first() {
        cascade_into(session, graph, &group, deletion, removed)?;
    }
    set_null::apply(session, graph, removed.keys().copied(), deletion)?;
    for parent in removed.keys().filter_map(|oid| graph.table(*oid)) {
        graph.check_guarded(parent)?;
    }
    let archived = graph.table(root).filter(|table| table.archived);
    let root = archived.map_or_else(|| graph.managed(session, root), Ok)?;
    let parents: Vec<pg_sys::Oid> = removed.keys().copied().collect();
    session.name_owner(root.owner);
    restrict::refuse_if_referred(session, graph, root, (&parents, deletion), |child| {
        !(waits && child.archived)
    })?;
    let refers_from_archive = |parent: &&pg_sys::Oid| {
        let mut references = graph.references_to(**parent);
        references.any(|(_, child)| child.archived)
    };
    let parents: Vec<pg_sys::Oid> = parents
        .iter()
        .filter(refers_from_archive)
        .copied()
        .collect();
    if waits && !parents.is_empty() {
        put_off::until_statement_ends(PutOff {
            root: root.oid,
            parents,
            deletion,
        });
    }
    Ok(())
}

/// Deletes the rows of tables with an archive that refer by a declared reference to rows that have just gone from another, or from a
/// partition of it: their own triggers archive them, in the same deletion.
pub fn delete_beneath(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    relation: pg_sys::Oid,
) -> Outcome<()> {
    let Some(parent) = graph.table_or_root(relation).filter(|table| table.archived) else {
        return Ok(());
    };
    graph.check_guarded(parent)?;
    let declared = graph
        .references_to(parent.oid)
        .filter(|(reference, child)| reference.is_declared() && child.archived);
    for (reference, child) in declared {
        reference.check_readable(child, parent)?;
        let (source, children) = (Parents::Gone.source(parent), child.rows());
        let joins = reference.joins("c", "p");
        let left = format!("SELECT 1 FROM {source} JOIN {children} AS c ON {joins} LIMIT 1");
        let of_child = (relation, child.owner);
        // A DELETE of no rows would fire the triggers of a table that refers to itself again and again.
        if !session.exists_now(of_child, &left, &[])? {
            continue;
        }
        let delete = format!("DELETE FROM {children} AS c USING {source} WHERE {joins}");
        put_off::as_part_of_statement(|| session.write(child, &delete, &[]))?;
        if session.exists_now(of_child, &left, &[])? {
            return Err(if session.keeps_its_snapshot() {
                Failure::ConcurrentChild {
                    table: parent.shown.clone(),
                }
            } else {
                Failure::Prevented {
                    table: child.shown.clone(),
                }
            });
        }
    }
    Ok(())
}

/// Takes the rows in place that refer by a declared reference to rows that have just gone from a table with an archive, or from a
/// partition of it.
fn take_declared(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    (relation, parent): (pg_sys::Oid, &Table),
    deletion: Uuid,
    removed: &mut Removed,
) -> Outcome<()> {
    let declared = graph
        .references_to(parent.oid)
        .filter(|(reference, child)| reference.is_declared() && child.managed);
    for (reference, child) in declared {
        let step = Step {
            graph,
            reference,
            child,
            parent,
            deletion,
        };
        step.take(session, &Parents::Gone, false, removed)?;
        // Committed since an old snapshot was taken, and so overlooked.
        let overlooked = format!(
            "SELECT 1 FROM {source} JOIN {children} AS c ON {joins} AND c.deleted_at IS NULL LIMIT 1",
            source = Parents::Gone.source(parent),
            children = child.rows(),
            joins = reference.joins("c", "p"),
        );
        if session.keeps_its_snapshot()
            && session.exists_now((relation, child.owner), &overlooked, &[])?
        {
            return Err(Failure::ConcurrentChild {
                table: parent.shown.clone(),
            });
        }
    }
    if !removed.is_empty() {
        removal::enter_current()?;
    }
    Ok(())
}

/// From how many rows a step starts, at most, to be carried out by plans that are kept. To plan it anew takes longer then than to do it; of many
/// rows, how many there are decides which plan is good.
const FEW: usize = 16;

/// The deleted rows that a step starts from.
enum Parents<'rows> {
    /// All that the deletion has removed so far, and how many that is.
    All(usize),
    /// Those that the step before has removed.
    New(&'rows [RowId]),
    /// Those that the trigger's statement has removed from a table with an archive.
    Gone,
}

impl Parents<'_> {
    /// The parents in a FROM clause, as `p`; `$1` is the deletion.
    fn source(&self, parent: &Table) -> String {
        let parents = parent.rows();
        match self {
            Self::All(_) => format!("{parents} AS p"),
            Self::Gone => format!("{} AS p", OldRows::NAME),
            Self::New(_) => {
                // How many they are is hidden from the planner where its plan is kept: it would take one for just so many to be better, and plan
                // each time.
                let of = |n: u32| {
                    if self.are_few() {
                        format!("(SELECT ${n})")
                    } else {
                        format!("${n}")
                    }
                };
                format!(
                    "ROWS FROM (pg_catalog.unnest({relations}), pg_catalog.unnest({rows})) AS f (relation, row)
                     JOIN {parents} AS p ON p.ctid OPERATOR(pg_catalog.=) f.row AND p.tableoid OPERATOR(pg_catalog.=) f.relation",
                    relations = of(2),
                    rows = of(3),
                )
            }
        }
    }

    /// The condition that `p` is of the deletion. Where its rows are known by their addresses, no index is to find them by the deletion: in a long
    /// chain all rows so far have it.
    fn are_deleted(&self) -> &'static str {
        match self {
            Self::All(_) => "p.deletion_id OPERATOR(pg_catalog.=) $1",
            Self::New(_) => "p.deletion_id IS NOT DISTINCT FROM $1",
            Self::Gone => "$1 IS NOT NULL",
        }
    }

    fn are_few(&self) -> bool {
        match self {
            Self::All(rows) => *rows <= FEW,
            Self::New(rows) => rows.len() <= FEW,
            // What a transition table has is different each time.
            Self::Gone => false,
        }
    }

    fn arguments(&self, deletion: Uuid) -> Vec<DatumWithOid<'static>> {
        match self {
            Self::All(_) | Self::Gone => vec![deletion.into()],
            Self::New(rows) => {
                let [relations, rows] = as_arguments(rows);
                vec![deletion.into(), relations, rows]
            }
        }
    }
}

/// Carries the deletion into a group of tables. In a group that refers to itself each step starts
/// from the rows that the last one found, so that a long chain costs its length.
fn cascade_into(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    deletion: Uuid,
    removed: &mut Removed,
) -> Outcome<()> {
    let repeats = graph.is_cycle(group);
    let mut found: HashMap<pg_sys::Oid, Vec<RowId>> = HashMap::new();
    for (reference, child, parent) in cascades_within(graph, group, deletion) {
        if let Some(rows) = removed.get(&parent.oid).copied() {
            let step = Step {
                graph,
                reference,
                child,
                parent,
                deletion,
            };
            let rows = step.take(session, &Parents::All(rows), repeats, removed)?;
            found.entry(child.oid).or_default().extend(rows);
        }
    }
    let mut level = 0;
    while found.values().any(|rows| !rows.is_empty()) {
        level += 1;
        if level % chain::LEVELS == 0
            && let Some((table, rows)) = take_chain(session, graph, group, deletion, &found)?
        {
            *removed.entry(table).or_default() += rows.len();
            let above = found.entry(table).or_default();
            // Where not all were taken, some may hang on rows that were found before.
            if rows.len() < chain::MOST {
                above.clear();
            }
            above.extend(rows);
        }
        let mut next: HashMap<pg_sys::Oid, Vec<RowId>> = HashMap::new();
        for (reference, child, parent) in cascades_within(graph, group, deletion) {
            let Some(rows) = found.get(&parent.oid).filter(|rows| !rows.is_empty()) else {
                continue;
            };
            let step = Step {
                graph,
                reference,
                child,
                parent,
                deletion,
            };
            let rows = step.take(session, &Parents::New(rows), true, removed)?;
            next.entry(child.oid).or_default().extend(rows);
        }
        found = next;
    }
    Ok(())
}

/// Where one table cascades to itself alone: takes all that hangs on the rows just found. `None` where there is nothing, or another way to tell.
fn take_chain(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    group: &[&Table],
    deletion: Uuid,
    found: &HashMap<pg_sys::Oid, Vec<RowId>>,
) -> Outcome<Option<(pg_sys::Oid, Vec<RowId>)>> {
    let [table] = group else {
        return Ok(None);
    };
    let cascades = cascades_within(graph, group, deletion);
    let own = cascades
        .into_iter()
        .filter(|(_, _, parent)| parent.oid == table.oid);
    let [(reference, ..)] = own.collect::<Vec<_>>()[..] else {
        return Ok(None);
    };
    let is_plain = reference.on_delete == OnDelete::Cascade
        && !table.may_prevent_update
        && chain::can_follow(reference, table)
        && deletion_group::others_of(deletion, table.oid).is_empty();
    let Some(rows) = found.get(&table.oid).filter(|_| is_plain) else {
        return Ok(None);
    };
    let parents = Parents::New(rows);
    let above = chain::Above {
        source: parents.source(table),
        condition: parents.are_deleted(),
        arguments: parents.arguments(deletion),
    };
    let rows = chain::take(session, (reference, table), &above, deletion)?;
    Ok((!rows.is_empty()).then_some((table.oid, rows)))
}

/// The references from the managed tables of a group along which rows go with their parents: the cascading ones, and those along which
/// this transaction may have removed them before.
fn cascades_within<'graph>(
    graph: &'graph Graph,
    group: &[&'graph Table],
    deletion: Uuid,
) -> Vec<(&'graph Reference, &'graph Table, &'graph Table)> {
    let managed = group.iter().filter(|table| table.managed);
    managed
        .flat_map(|child| {
            graph
                .references_of(child.oid)
                .filter(move |(reference, _)| {
                    reference.on_delete == OnDelete::Cascade
                        || !reference.on_delete.sets_columns()
                            && !deletion_group::others_of(deletion, child.oid).is_empty()
                })
                .map(move |(reference, parent)| (reference, *child, parent))
        })
        .collect()
}

/// One reference that a deletion follows.
struct Step<'graph> {
    graph: &'graph Graph,
    reference: &'graph Reference,
    child: &'graph Table,
    parent: &'graph Table,
    deletion: Uuid,
}

impl Step<'_> {
    /// Locks the live children, then marks them. Two statements, because one that had waited for a
    /// lock would still not see the rows committed while it waited. Answers with the rows, when
    /// asked to.
    fn take(
        &self,
        session: &mut Session<'_, '_>,
        parents: &Parents<'_>,
        returning: bool,
        removed: &mut Removed,
    ) -> Outcome<Vec<RowId>> {
        let (reference, child) = (self.reference, self.child);
        reference.check_readable(child, self.parent)?;
        child.check_marks()?;
        let mut rows = self.absorb(session, parents, removed)?;
        if reference.on_delete != OnDelete::Cascade {
            return Ok(rows);
        }
        let children = child.rows();
        let source = parents.source(self.parent);
        let arguments = parents.arguments(self.deletion);
        let condition = format!(
            "{} AND {} AND c.deleted_at IS NULL",
            parents.are_deleted(),
            reference.joins("c", "p")
        );
        let found = format!("SELECT 1 FROM {source} JOIN {children} AS c ON {condition}");
        let mut locked = None;
        if self.graph.references_to(child.oid).next().is_some() {
            let lock = format!(
                "SELECT count(*) FROM ({found} ORDER BY {key} FOR UPDATE OF c) AS locked",
                key = child.key_columns("c"),
            );
            let count = if parents.are_few() {
                session.as_owner_kept(child, &lock, &arguments)?
            } else {
                session.as_owner(child, &lock, &arguments)?
            };
            locked = count.first().get_one::<i64>()?;
        }
        let mark = format!(
            "UPDATE {children} AS c SET deleted_at = pg_catalog.now(), deletion_id = $1
             FROM {source} WHERE {condition}{}",
            if returning || child.may_prevent_update {
                " RETURNING c.tableoid, c.ctid, c.deletion_id"
            } else {
                ""
            }
        );
        let (count, marked) = if parents.are_few() {
            session.write_from_few(child, &mark, &arguments)?
        } else {
            let marked = session.write(child, &mark, &arguments)?;
            (marked.len(), marked.collect())
        };
        if returning || child.may_prevent_update {
            let mut stand = 0;
            for row in marked {
                stand += i64::from(row.get::<Uuid>(3)? == Some(self.deletion));
                if returning {
                    rows.extend(RowId::read(&row, 1)?);
                }
            }
            // A trigger may have kept rows, or their marks, from the engine.
            if child.may_prevent_update && stand < locked.unwrap_or(stand).max(as_rows(count)) {
                return Err(Failure::Prevented {
                    table: child.shown.clone(),
                });
            }
        }
        // In a table that refers to itself, the rows just marked have children of their own, which are live still.
        if child.may_prevent_update && locked.is_none() {
            let left = format!("{found} LIMIT 1");
            if !session.as_owner(child, &left, &arguments)?.is_empty() {
                return Err(Failure::Prevented {
                    table: child.shown.clone(),
                });
            }
        }
        if count > 0 {
            *removed.entry(child.oid).or_default() += count;
        }
        Ok(rows)
    }
}

fn as_rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Step<'_> {
    /// Takes over the children that this transaction has removed before: by a statement of its own, as an application does that deletes
    /// children itself, or by a trigger.
    fn absorb(
        &self,
        session: &mut Session<'_, '_>,
        parents: &Parents<'_>,
        removed: &mut Removed,
    ) -> Outcome<Vec<RowId>> {
        let others = deletion_group::others_of(self.deletion, self.child.oid);
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = parents.arguments(self.deletion);
        arguments.push(others.into());
        let take = format!(
            "UPDATE {children} AS c SET deletion_id = $1 FROM {source}
             WHERE {deleted} AND {joins} AND c.deletion_id OPERATOR(pg_catalog.=) ANY (${n})
             RETURNING c.tableoid, c.ctid",
            children = self.child.rows(),
            source = parents.source(self.parent),
            deleted = parents.are_deleted(),
            joins = self.reference.joins("c", "p"),
            n = arguments.len(),
        );
        let rows = RowId::read_all(session.write(self.child, &take, &arguments)?)?;
        if !rows.is_empty() {
            *removed.entry(self.child.oid).or_default() += rows.len();
        }
        Ok(rows)
    }
}
