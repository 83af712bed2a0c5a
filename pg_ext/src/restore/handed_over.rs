//! Rows of a deletion that its restore cannot bring back, because another still-deleted parent
//! removes them as well. They pass to that parent's deletion (invariant I2).

use std::collections::{BTreeMap, HashMap};

use pgrx::{Uuid, pg_sys};

use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::reference::{OnDelete, Reference};
use crate::model::row_id::{RowId, is_among};
use crate::model::row_set::RowSet;
use crate::model::sql::Literal;
use crate::model::table::Table;
use crate::restore::archived_parents::{self, Returning};
use crate::spi::session::Session;

/// For each table, the rows to hand over and the deletion that each passes to.
#[derive(Debug, Default)]
pub struct HandedOver {
    tables: HashMap<pg_sys::Oid, BTreeMap<RowId, Uuid>>,
}

/// The table of a deletion's root, and the condition that row `t` of it is the root.
pub type Root<'a> = (&'a Table, &'a str);

impl HandedOver {
    /// Finds them all among the tables that hold the deletion, from parents to children: a child of
    /// such a row is handed over with it. A single root never is: who asks for it back is told of its
    /// parent instead.
    pub fn find(
        session: &mut Session<'_, '_>,
        graph: &Graph,
        tables: &[Vec<&Table>],
        root: Option<Root<'_>>,
        deletion: Uuid,
    ) -> Outcome<Self> {
        let mut handed_over = Self::default();
        for group in tables.iter().rev() {
            for child in group {
                handed_over.begin_with_lost(session, graph, child, root, deletion)?;
            }
            while handed_over.extend_into(session, graph, group, root, deletion)? {}
        }
        Ok(handed_over)
    }

    /// The rows whose parents are in an archive, by another deletion.
    fn begin_with_lost(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        child: &Table,
        root: Option<Root<'_>>,
        deletion: Uuid,
    ) -> Outcome<()> {
        let root = match root {
            Some((table, condition)) if table.oid == child.oid => {
                let sql = format!(
                    "SELECT t.tableoid, t.ctid FROM {} AS t WHERE t.deletion_id = $1 AND {condition}",
                    child.rows()
                );
                RowId::read_all(session.as_owner(child, &sql, &[deletion.into()])?)?
            }
            _ => Vec::new(),
        };
        let mut stays = RowSet::default();
        for row in root {
            stays.insert(child.oid, row);
        }
        let returning = Returning::SameDeletion;
        for lost in archived_parents::lost(session, graph, child, deletion, &stays, returning)? {
            if let Some(holder) = lost.holder.filter(|holder| *holder != deletion) {
                let known = self.tables.entry(child.oid).or_default();
                known.entry(lost.row).or_insert(holder);
            }
        }
        Ok(())
    }

    fn extend_into(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        group: &[&Table],
        root: Option<Root<'_>>,
        deletion: Uuid,
    ) -> Outcome<bool> {
        let mut grew = false;
        for child in group {
            for (reference, parent) in graph.references_of(child.oid) {
                if reference.on_delete == OnDelete::Cascade {
                    grew |= self.extend_along(session, reference, child, parent, root, deletion)?;
                }
            }
        }
        Ok(grew)
    }

    fn extend_along(
        &mut self,
        session: &mut Session<'_, '_>,
        reference: &Reference,
        child: &Table,
        parent: &Table,
        root: Option<Root<'_>>,
        deletion: Uuid,
    ) -> Outcome<bool> {
        reference.check_readable(child, parent)?;
        let not_root = match root {
            Some((table, condition)) if table.oid == child.oid => format!("AND NOT ({condition})"),
            _ => String::new(),
        };
        let mut found = Vec::new();
        let mut look = |held: &str, holder: &str| -> Outcome<()> {
            let sql = format!(
                "SELECT t.tableoid, t.ctid, {holder} FROM {child} AS t JOIN {parent} AS p ON {joins}
                 WHERE t.deletion_id = $1 {not_root} AND {held} ORDER BY 3",
                child = child.rows(),
                parent = parent.rows(),
                joins = reference.joins_by_parent_key("t", "p"),
            );
            for row in session.as_owner(child, &sql, &[deletion.into()])? {
                found.extend(RowId::read(&row, 1)?.zip(row.get::<Uuid>(3)?));
            }
            Ok(())
        };
        look(
            "p.deleted_at IS NOT NULL AND p.deletion_id <> $1",
            "p.deletion_id",
        )?;
        for (holder, rows) in self.by_deletion(parent.oid) {
            look(
                &is_among(&rows, "p"),
                &format!("{}::uuid", Literal(&holder.to_string())),
            )?;
        }
        let known = self.tables.entry(child.oid).or_default();
        let before = known.len();
        for (row, holder) in found {
            known.entry(row).or_insert(holder);
        }
        Ok(known.len() > before)
    }

    fn of(&self, table: pg_sys::Oid) -> impl Iterator<Item = (&RowId, &Uuid)> {
        self.tables.get(&table).into_iter().flatten()
    }

    /// All the rows.
    pub fn rows(&self) -> RowSet {
        let mut rows = RowSet::default();
        for (table, held) in &self.tables {
            for row in held.keys() {
                rows.insert(*table, *row);
            }
        }
        rows
    }

    /// The rows of `table` that pass to each deletion.
    pub fn by_deletion(&self, table: pg_sys::Oid) -> Vec<(Uuid, Vec<RowId>)> {
        let mut by_holder: BTreeMap<[u8; 16], Vec<RowId>> = BTreeMap::new();
        for (row, holder) in self.of(table) {
            by_holder.entry(*holder.as_bytes()).or_default().push(*row);
        }
        by_holder
            .into_iter()
            .map(|(holder, rows)| (Uuid::from_bytes(holder), rows))
            .collect()
    }

    /// The deletions that rows pass to, in order.
    pub fn deletions(&self) -> Vec<Uuid> {
        let mut ids: Vec<[u8; 16]> = self
            .tables
            .values()
            .flat_map(BTreeMap::values)
            .map(|id| *id.as_bytes())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(Uuid::from_bytes).collect()
    }
}
