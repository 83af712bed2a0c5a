//! The first pass over the rows of a deletion: how many there are, and where their parents are.

use pgrx::{Uuid, pg_sys};

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::reference::Reference;
use crate::model::row_set::RowSet;
use crate::model::sql::join;
use crate::model::table::Table;
use crate::restore::archived_parents::{self, Returning};
use crate::restore::find_conflicts::Parents;
use crate::spi::session::Session;

/// What a first pass over the rows of a deletion tells.
pub struct Survey {
    /// The tables, their names and how many rows each holds.
    pub rows: Vec<(pg_sys::Oid, String, i64)>,
    /// What is known of their parents.
    pub parents: Parents,
}

impl Survey {
    /// How many rows of this table there are.
    pub fn rows_of(&self, table: &Table) -> i64 {
        let of_table = self.rows.iter().find(|(oid, ..)| *oid == table.oid);
        of_table.map_or(0, |(.., rows)| *rows)
    }
}

/// What a survey locks, so that what it saw stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It only looks.
    Nothing,
    /// The parents outside the deletion, as a foreign key's check would: a deletion of theirs now
    /// waits for this restore, or this restore for it.
    Parents,
    /// First the rows, so that their addresses stay as they are. Rows before parents is the order of
    /// an ordinary write.
    RowsAndParents,
}

impl Lock {
    /// What is locked when the rows are, or are not.
    pub const fn of(rows: bool) -> Self {
        if rows {
            Self::RowsAndParents
        } else {
            Self::Parents
        }
    }

    /// Whoever only looks has restored nothing before.
    fn returning(self) -> Returning {
        match self {
            Self::Nothing => Returning::SameDeletion,
            Self::Parents | Self::RowsAndParents => Returning::Nothing,
        }
    }
}

/// Counts the rows and looks for parents outside the deletion.
pub fn survey(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    tables: &[Vec<&Table>],
    deletion: Uuid,
    lock: Lock,
) -> Outcome<Survey> {
    let mut rows = Vec::new();
    let mut missing = false;
    let mut outside = Vec::new();
    for table in tables.iter().rev().flatten() {
        let references = live_references(graph, table)?;
        let lock_rows = lock == Lock::RowsAndParents;
        let (count, flags) = survey_table(session, table, &references, deletion, lock_rows)?;
        rows.push((table.oid, table.shown.clone(), count));
        for ((reference, parent), flag) in references.iter().zip(flags) {
            missing |= flag.missing;
            if flag.outside {
                outside.push((*table, *reference, *parent));
            }
        }
    }
    let mut deleted = false;
    for child in tables.iter().rev().flatten() {
        if lock != Lock::Nothing {
            archived_parents::lock(session, graph, child, deletion)?;
        }
        let stays = RowSet::default();
        let lost =
            archived_parents::lost(session, graph, child, deletion, &stays, lock.returning())?;
        deleted |= lost.iter().any(|one| one.holder.is_some());
        missing |= !lost.is_empty();
    }
    for (child, reference, parent) in outside {
        let lock_parents = lock != Lock::Nothing;
        deleted |= survey_parents(session, child, reference, parent, deletion, lock_parents)?;
    }
    Ok(Survey {
        rows,
        parents: Parents {
            deleted,
            missing,
            returning: lock.returning(),
        },
    })
}

/// The references of `child` that must not point from a live row to a deleted one.
pub fn live_references<'a>(
    graph: &'a Graph,
    child: &Table,
) -> Outcome<Vec<(&'a Reference, &'a Table)>> {
    graph
        .references_of(child.oid)
        .filter(|(reference, _)| !reference.lets_go(child))
        .map(|(reference, parent)| {
            reference.check_readable(child, parent)?;
            Ok((reference, parent))
        })
        .collect()
}

/// Where the rows of one table point to by one reference.
struct PointsTo {
    missing: bool,
    outside: bool,
}

/// One pass over the rows of `child`. What is not in the deletion shows in the join that finds its
/// parents.
fn survey_table(
    session: &mut Session<'_, '_>,
    child: &Table,
    references: &[(&Reference, &Table)],
    deletion: Uuid,
    lock: bool,
) -> Outcome<(i64, Vec<PointsTo>)> {
    let mut columns: Vec<String> = references
        .iter()
        .flat_map(|(reference, _)| reference.child_columns())
        .map(|column| format!("c.{column}"))
        .collect();
    columns.sort();
    columns.dedup();
    let flags = references.iter().zip(1..).map(|((reference, parent), n)| {
        let missing = if reference.has_period {
            let joins = reference.joins_by_parent_key("c", "p");
            let parents = format!("{} AS p WHERE {joins}", parent.rows());
            format!("NOT {}", reference.is_found("c", &parents))
        } else {
            format!("p{n}.tableoid IS NULL")
        };
        format!(
            ", bool_or({missing} AND {set}), bool_or(p{n}.tableoid IS NOT NULL AND p{n}.deletion_id IS DISTINCT FROM $1)",
            set = reference.is_set("c")
        )
    });
    let joins = references.iter().zip(1..).map(|((reference, parent), n)| {
        let joins = reference.joins_by_parent_key("c", &format!("p{n}"));
        format!(" LEFT JOIN {} AS p{n} ON {joins}", parent.rows())
    });
    // Rows that refer alike are looked up once: a deletion has many rows beneath few parents. A row has several by a key with a PERIOD.
    let columns = join(columns, ", ");
    let group = if columns.is_empty() {
        String::new()
    } else {
        format!(" GROUP BY {columns}")
    };
    let sql = format!(
        "WITH keepsake_c AS MATERIALIZED (
             SELECT {listed}count(*) AS keepsake_rows
             FROM (SELECT {columns} FROM {rows} AS c WHERE c.deletion_id = $1{lock}) AS c{group})
         SELECT (SELECT sum(keepsake_rows) FROM keepsake_c)::bigint{flags} FROM keepsake_c AS c{joins}",
        flags = join(flags, ""),
        listed = if columns.is_empty() { String::new() } else { format!("{columns}, ") },
        rows = child.rows(),
        lock = if lock { " FOR UPDATE" } else { "" },
        joins = join(joins, ""),
    );
    let row = session.as_owner(child, &sql, &[deletion.into()])?.first();
    let flag = |ordinal| -> Outcome<bool> { Ok(row.get::<bool>(ordinal)?.unwrap_or(false)) };
    let points_to = (0..references.len())
        .map(|n| {
            Ok(PointsTo {
                missing: flag(2 * n + 2)?,
                outside: flag(2 * n + 3)?,
            })
        })
        .collect::<Outcome<_>>()?;
    Ok((row.get(1)?.unwrap_or(0), points_to))
}

/// Whether a parent outside the deletion is deleted; locks these parents first. Two statements: one that
/// had waited for an UPDATE of `deleted_at` would still see the row as it was, since that changes no key.
fn survey_parents(
    session: &mut Session<'_, '_>,
    child: &Table,
    reference: &Reference,
    parent: &Table,
    deletion: Uuid,
    lock: bool,
) -> Outcome<bool> {
    let outside = format!(
        "FROM {parent} AS p WHERE p.deletion_id IS DISTINCT FROM $1
         AND EXISTS (SELECT FROM {child} AS c WHERE c.deletion_id = $1 AND {joins})",
        parent = parent.rows(),
        child = child.rows(),
        joins = reference.joins_by_parent_key("c", "p"),
    );
    if lock {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 {outside} ORDER BY {key} FOR KEY SHARE OF p) AS locked",
            key = parent.key_columns("p"),
        );
        session.as_owner(parent, &sql, &[deletion.into()])?;
    }
    session.exists(
        parent,
        &format!("SELECT 1 {outside} AND p.deleted_at IS NOT NULL"),
        deletion,
    )
}
