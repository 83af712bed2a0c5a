//! The reference graph: managed tables, every table that refers to one, and the references
//! between them, read from the catalog and the registry. The engine only walks this.

use std::collections::HashSet;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::model::oid_map::{OidMap, OidSet};
use crate::model::reference::Reference;
use crate::model::table::Table;
use crate::spi::session::Session;
use crate::spi::shown_names;

/// The whole graph.
#[derive(Debug)]
pub struct Graph {
    tables: OidMap<Table>,
    /// The table of the graph that each partition belongs to.
    roots: OidMap<pg_sys::Oid>,
    references: Vec<Reference>,
    /// Strongly connected groups, referring tables first.
    groups: Vec<Vec<pg_sys::Oid>>,
}

const KEPT: &str = "SELECT 1 FROM keepsake.managed_table WHERE relation = $1";

/// What to say of a table that is not kept in place.
pub fn not_in_place(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Failure> {
    let table = shown_names::table(session, oid)?;
    Ok(if session.registry_now(KEPT, &[oid.into()])?.is_empty() {
        Failure::NotManaged { table }
    } else {
        Failure::KeptInArchive { table }
    })
}

impl Graph {
    /// Builds the graph from its parts.
    pub fn new(tables: Vec<Table>, references: Vec<Reference>) -> Self {
        let mut edges = DiGraphMap::<u32, ()>::new();
        for table in &tables {
            edges.add_node(table.oid.to_u32());
        }
        for reference in &references {
            edges.add_edge(reference.parent.to_u32(), reference.child.to_u32(), ());
        }
        // Tarjan gives the groups in reverse topological order: with edges from parent to child,
        // that is children first.
        let groups = tarjan_scc(&edges)
            .into_iter()
            .map(|group| group.into_iter().map(pg_sys::Oid::from).collect())
            .collect();
        let tables: OidMap<_> = tables.into_iter().map(|table| (table.oid, table)).collect();
        let references = references
            .into_iter()
            .map(|reference| reference.or_restricting(&tables))
            .collect();
        let roots = tables
            .values()
            .flat_map(|table| table.partitions.iter().map(|part| (part.oid, table.oid)))
            .collect();
        Self {
            roots,
            tables,
            references,
            groups,
        }
    }

    /// A table of the graph.
    pub fn table(&self, oid: pg_sys::Oid) -> Option<&Table> {
        self.tables.get(&oid)
    }

    /// The table of the graph that a relation is, or is a partition of.
    pub fn table_or_root(&self, oid: pg_sys::Oid) -> Option<&Table> {
        self.table(self.roots.get(&oid).copied().unwrap_or(oid))
    }

    /// The same, if it is managed.
    pub fn managed_or_root(&self, oid: pg_sys::Oid) -> Option<&Table> {
        self.table_or_root(oid).filter(|table| table.managed)
    }

    /// The numbers of the columns `deleted_at` and `deletion_id` of a table or partition.
    pub fn marks_of(&self, oid: pg_sys::Oid) -> Option<[i16; 2]> {
        let table = self.table_or_root(oid)?;
        if table.oid == oid {
            return table.marks;
        }
        table.partitions.iter().find(|part| part.oid == oid)?.marks
    }

    /// A managed table, or the failure that says it is not.
    pub fn managed(&self, session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<&Table> {
        match self.table(oid).filter(|table| table.managed) {
            Some(table) => Ok(table),
            None => Err(not_in_place(session, oid)?),
        }
    }

    /// Every OID in the graph.
    pub fn oids(&self) -> OidSet {
        self.tables
            .keys()
            .chain(self.roots.keys())
            .copied()
            .collect()
    }

    /// The types of all keys.
    pub fn key_types(&self) -> impl Iterator<Item = pg_sys::Oid> {
        let keys = self.tables.values().flat_map(|table| &table.key);
        keys.flat_map(|column| [column.type_oid, column.declared_type])
    }

    /// References out of `child` into a table kept in place.
    pub fn references_of(&self, child: pg_sys::Oid) -> impl Iterator<Item = (&Reference, &Table)> {
        self.all_references_of(child)
            .filter(|(_, parent)| parent.managed)
    }

    /// Declared references out of `child` into a table with an archive.
    pub fn archived_references_of(
        &self,
        child: pg_sys::Oid,
    ) -> impl Iterator<Item = (&Reference, &Table)> {
        self.all_references_of(child)
            .filter(|(reference, parent)| reference.is_declared() && parent.archived)
    }

    /// References out of `child` that are guarded: those into a table kept in place, and declared ones into one with an archive.
    pub fn guarded_references_of(
        &self,
        child: pg_sys::Oid,
    ) -> impl Iterator<Item = (&Reference, &Table)> {
        self.all_references_of(child).filter(|(reference, parent)| {
            parent.managed || reference.is_declared() && parent.archived
        })
    }

    /// References out of `child`, those into tables that are not managed as well, as far as they
    /// are known: of a managed table, all.
    pub fn all_references_of(
        &self,
        child: pg_sys::Oid,
    ) -> impl Iterator<Item = (&Reference, &Table)> {
        self.references
            .iter()
            .filter(move |reference| reference.child == child)
            .filter_map(|reference| Some((reference, self.table(reference.parent)?)))
    }

    /// Whether a column of the table belongs to several references.
    pub fn shares_columns(&self, table: &Table) -> bool {
        let mut seen = HashSet::new();
        self.guarded_references_of(table.oid)
            .flat_map(|(reference, _)| reference.child_columns())
            .any(|column| !seen.insert(&column.0))
    }

    /// References into `parent`, with the referring table.
    pub fn references_to(&self, parent: pg_sys::Oid) -> impl Iterator<Item = (&Reference, &Table)> {
        self.references
            .iter()
            .filter(move |reference| reference.parent == parent)
            .filter_map(|reference| Some((reference, self.table(reference.child)?)))
    }

    /// Refuses to delete rows of `parent` while a table that refers to it has lost its guards: a row of it could come to refer
    /// to a deleted one.
    pub fn check_guarded(&self, parent: &Table) -> Outcome<()> {
        let guarded = |reference: &Reference| {
            !reference.lost && (parent.managed || reference.is_declared() && parent.archived)
        };
        let open = self
            .references_to(parent.oid)
            .find(|(reference, child)| guarded(reference) && !child.guards_stand);
        open.map_or(Ok(()), |(_, child)| {
            Err(Failure::GuardsLost {
                child: child.shown.clone(),
                parent: parent.shown.clone(),
            })
        })
    }

    /// Groups of tables, referred ones first; a group of several, or one that refers to itself,
    /// is a cycle.
    pub fn parents_first(&self) -> impl Iterator<Item = Vec<&Table>> {
        self.groups
            .iter()
            .rev()
            .map(|group| group.iter().filter_map(|oid| self.table(*oid)).collect())
    }

    /// The same groups, referring ones first.
    pub fn groups_children_first(&self) -> impl Iterator<Item = Vec<&Table>> {
        self.groups
            .iter()
            .map(|group| group.iter().filter_map(|oid| self.table(*oid)).collect())
    }

    /// Whether one pass over the group may leave something to do for a second.
    pub fn is_cycle(&self, group: &[&Table]) -> bool {
        let refers_to_itself = |table: &&Table| {
            self.references_of(table.oid)
                .any(|(_, parent)| parent.oid == table.oid)
        };
        group.len() > 1 || group.iter().any(refers_to_itself)
    }
}
