//! Rows of a deletion that its restore cannot bring back, because another still-deleted parent
//! removes them as well. They pass to that parent's deletion (invariant I2).

use std::collections::{BTreeMap, HashMap};

use pgrx::datum::DatumWithOid;
use pgrx::itemptr::{item_pointer_to_u64, u64_to_item_pointer};
use pgrx::{Uuid, pg_sys};

use crate::error::Outcome;
use crate::graph::{Graph, OnDelete, Reference, Table};
use crate::session::Session;

/// For each table, the held rows and the deletion that each passes to.
#[derive(Debug, Default)]
pub struct Held {
    tables: HashMap<pg_sys::Oid, BTreeMap<RowId, Uuid>>,
}

/// The address of a row version (its ctid) as an orderable number.
type RowId = u64;

impl Held {
    /// Finds them all among the tables that hold the deletion, from parents to children: a child of a held row is held with it. The root is never
    /// held: who asks for it back is told of its parent instead.
    pub fn find(
        session: &mut Session<'_, '_>,
        graph: &Graph,
        tables: &[Vec<&Table>],
        root: (&Table, &str),
        deletion: Uuid,
    ) -> Outcome<Self> {
        let mut held = Self::default();
        for group in tables.iter().rev() {
            while held.extend_into(session, graph, group, root, deletion)? {}
        }
        Ok(held)
    }

    fn extend_into(
        &mut self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        group: &[&Table],
        root: (&Table, &str),
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
        (root, root_condition): (&Table, &str),
        deletion: Uuid,
    ) -> Outcome<bool> {
        reference.check_readable(child, parent)?;
        let not_root = if child.oid == root.oid {
            format!("AND NOT ({root_condition})")
        } else {
            String::new()
        };
        let sql = format!(
            "SELECT t.ctid, coalesce(h.deletion, p.deletion_id)
             FROM {child} AS t JOIN {parent} AS p ON {joins}
             LEFT JOIN unnest($2, $3) AS h (ctid, deletion) ON h.ctid = p.ctid
             WHERE t.deletion_id = $1 {not_root}
               AND (h.ctid IS NOT NULL OR (p.deleted_at IS NOT NULL AND p.deletion_id <> $1))
             ORDER BY 2",
            child = child.rows(),
            parent = parent.rows(),
            joins = reference.joins("t", "p"),
        );
        let (rows, deletions) = self.arrays(parent.oid);
        let found: Vec<(RowId, Uuid)> = session
            .as_owner(child, &sql, &[deletion.into(), rows, deletions])?
            .filter_map(|row| {
                let pair = row
                    .get::<pg_sys::ItemPointerData>(1)
                    .and_then(|tid| Ok((tid, row.get::<Uuid>(2)?)));
                match pair {
                    Ok((Some(tid), Some(deletion))) => {
                        Some(Ok((item_pointer_to_u64(tid), deletion)))
                    }
                    Ok(_) => None,
                    Err(error) => Some(Err(error.into())),
                }
            })
            .collect::<Outcome<_>>()?;
        let known = self.tables.entry(child.oid).or_default();
        let before = known.len();
        for (row, deletion) in found {
            known.entry(row).or_insert(deletion);
        }
        Ok(known.len() > before)
    }

    /// The held rows of `table`, as an argument of type `tid[]`.
    pub fn rows_of(&self, table: pg_sys::Oid) -> DatumWithOid<'static> {
        self.arrays(table).0
    }

    /// The held rows of `table` and the deletion of each, as arguments `tid[]` and `uuid[]`.
    pub fn arrays(&self, table: pg_sys::Oid) -> (DatumWithOid<'static>, DatumWithOid<'static>) {
        let held = self.tables.get(&table);
        let rows: Vec<pg_sys::ItemPointerData> = held
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(|row| tid(*row))
            .collect();
        let deletions: Vec<Uuid> = held
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        (rows.into(), deletions.into())
    }

    /// How many rows of `table` pass to each deletion.
    pub fn passed(&self, table: pg_sys::Oid) -> BTreeMap<[u8; 16], i64> {
        let mut counts = BTreeMap::new();
        for deletion in self
            .tables
            .get(&table)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            *counts.entry(*deletion.as_bytes()).or_insert(0) += 1;
        }
        counts
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

fn tid(row: RowId) -> pg_sys::ItemPointerData {
    let mut tid = pg_sys::ItemPointerData::default();
    u64_to_item_pointer(row, &mut tid);
    tid
}
