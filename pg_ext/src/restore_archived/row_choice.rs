//! The archived rows that a restore is about, of several tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use pgrx::{Uuid, pg_sys};

use crate::model::error::Outcome;
use crate::model::row_id::{RowId, is_among};
use crate::model::sql::join;
use crate::restore_archived::archived_rows::{Archived, Rows};
use crate::restore_archived::foreign_keys::ForeignKey;
use crate::spi::session::{Session, first_column};

/// Rows of several tables, by table.
#[derive(Clone, Debug, Default)]
pub struct Set {
    tables: HashMap<pg_sys::Oid, Rows>,
}

impl Set {
    /// All rows of these deletions.
    pub fn of(tables: &[Archived], deletions: &[Uuid]) -> Self {
        let rows = Rows {
            deletions: deletions.to_vec(),
            ..Rows::default()
        };
        Self {
            tables: tables
                .iter()
                .map(|one| (one.table.oid, rows.clone()))
                .collect(),
        }
    }

    /// These rows alone.
    pub fn of_rows(rows: &HashMap<pg_sys::Oid, BTreeSet<RowId>>) -> Self {
        let mut set = Self::default();
        for (table, rows) in rows {
            set.tables.entry(*table).or_default().also.extend(rows);
        }
        set
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(Rows::is_empty)
    }

    /// Adds the rows of another set, which has none of these.
    pub fn extend(&mut self, other: Self) {
        for (table, rows) in other.tables {
            let kept = self.tables.entry(table).or_default();
            kept.deletions.extend(rows.deletions);
            kept.also.extend(rows.also);
            kept.without.extend(rows.without);
        }
    }

    /// The rows of one table.
    pub fn rows(&self, table: pg_sys::Oid) -> Rows {
        self.tables.get(&table).cloned().unwrap_or_default()
    }

    /// Adds a row.
    pub fn add(&mut self, table: pg_sys::Oid, row: RowId) -> bool {
        let rows = self.tables.entry(table).or_default();
        rows.without.remove(&row) || rows.also.insert(row)
    }

    /// The deletions that the rows are of.
    pub fn deletions(
        &self,
        session: &mut Session<'_, '_>,
        tables: &[Archived],
    ) -> Outcome<Vec<Uuid>> {
        let mut deletions = BTreeSet::new();
        for one in tables {
            let rows = self.rows(one.table.oid);
            deletions.extend(rows.deletions.iter().map(|id| *id.as_bytes()));
            if rows.also.is_empty() {
                continue;
            }
            let sql = format!(
                "SELECT DISTINCT a.keepsake_deletion FROM {} AS a WHERE {}",
                one.archive_name,
                is_among(&rows.also, "a")
            );
            let found: Vec<Uuid> = first_column(session.write_archive(&sql, &[])?)?;
            deletions.extend(found.iter().map(|id| *id.as_bytes()));
        }
        Ok(deletions.into_iter().map(Uuid::from_bytes).collect())
    }

    /// Takes a row out.
    pub fn remove(&mut self, table: pg_sys::Oid, row: RowId) -> bool {
        self.tables
            .get_mut(&table)
            .is_some_and(|rows| rows.remove(row))
    }
}

/// Adds the rows of `candidates` that refer to a row of the set, until none is new: what the same transaction had removed
/// beneath it, by statements of its own. Answers whether there are any.
pub fn close(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    keys: &[ForeignKey],
    set: &mut Set,
    candidates: &[Uuid],
) -> Outcome<bool> {
    if candidates.is_empty() {
        return Ok(false);
    }
    let mut found: HashMap<(pg_sys::Oid, Uuid), Vec<RowId>> = HashMap::new();
    loop {
        let mut grew = false;
        for key in keys {
            let Some((child, parent)) = between(tables, key) else {
                continue;
            };
            let mut deletions = HashSet::new();
            for (row, deletion) in referring(session, key, child, parent, set, candidates)? {
                if set.add(child.table.oid, row) {
                    let of_deletion = found.entry((child.table.oid, deletion)).or_default();
                    of_deletion.push(row);
                    deletions.insert(deletion);
                }
            }
            grew |= !deletions.is_empty();
            for deletion in deletions {
                let rows = found.get(&(child.table.oid, deletion));
                set.simplify(session, child, deletion, rows.map_or(&[], Vec::as_slice))?;
            }
        }
        if !grew {
            return Ok(!found.is_empty());
        }
    }
}

impl Set {
    /// Names a deletion in place of its rows, where they are all there.
    fn simplify(
        &mut self,
        session: &mut Session<'_, '_>,
        one: &Archived,
        deletion: Uuid,
        rows: &[RowId],
    ) -> Outcome<()> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} AS a WHERE a.keepsake_deletion OPERATOR(pg_catalog.=) $1",
            one.archive_name
        );
        let all: Option<i64> = session
            .write_archive(&sql, &[deletion.into()])?
            .first()
            .get_one()?;
        if all == i64::try_from(rows.len()).ok() {
            let kept = self.tables.entry(one.table.oid).or_default();
            for row in rows {
                kept.also.remove(row);
            }
            kept.deletions.push(deletion);
        }
        Ok(())
    }
}

/// The two tables of a foreign key, where both have archives.
pub fn between<'a>(
    tables: &'a [Archived],
    key: &ForeignKey,
) -> Option<(&'a Archived, &'a Archived)> {
    let find = |oid| tables.iter().find(|one| one.table.oid == oid);
    Some((find(key.reference.child)?, find(key.reference.parent)?))
}

/// The rows of some deletions, outside the set, that refer to a row of the set.
fn referring(
    session: &mut Session<'_, '_>,
    key: &ForeignKey,
    child: &Archived,
    parent: &Archived,
    set: &Set,
    candidates: &[Uuid],
) -> Outcome<Vec<(RowId, Uuid)>> {
    let inside = set.rows(child.table.oid);
    let parents = set.rows(parent.table.oid);
    let others = Rows {
        deletions: candidates
            .iter()
            .filter(|id| !inside.deletions.contains(id))
            .copied()
            .collect(),
        also: BTreeSet::new(),
        without: inside.also.clone(),
    };
    if parents.is_empty() || others.is_empty() {
        return Ok(Vec::new());
    }
    let columns = key
        .reference
        .pairs
        .iter()
        .map(|pair| format!("s.{}", pair.parent));
    let sql = format!(
        "SELECT c.keepsake_relation, c.keepsake_ctid, c.keepsake_deletion FROM ({children}) AS c
         WHERE EXISTS (SELECT FROM keepsake_parents AS p WHERE {joins})",
        children = child.source(&others),
        joins = key.reference.joins("c", "p"),
    );
    let sql = format!(
        "WITH keepsake_parents AS NOT MATERIALIZED (SELECT {} FROM ({}) AS s) {sql}",
        join(columns, ", "),
        parent.source(&parents),
    );
    let mut rows = Vec::new();
    for row in session.over_archives(&child.table, &sql, &[])? {
        rows.extend(RowId::read(&row, 1)?.zip(row.get::<Uuid>(3)?));
    }
    Ok(rows)
}
