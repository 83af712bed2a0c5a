//! The reference graph: managed tables, every table that refers to one, and the references
//! between them, read from the catalog and the registry. The engine only walks this.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use pgrx::pg_sys;

use crate::graph::catalog;
use crate::model::error::{Failure, Outcome};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::sql::{Ident, Literal, Qualified, join};
use crate::spi::session::{Session, with_session};

/// A table of the graph.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its OID.
    pub oid: pg_sys::Oid,
    /// Its qualified name.
    pub name: Qualified,
    /// Its name as a person would write it, for messages.
    pub shown: String,
    /// The role that owns it.
    pub owner: pg_sys::Oid,
    /// Whether it was given to `keepsake.manage()`; then it has `deleted_at` and `deletion_id`.
    pub managed: bool,
    /// The numbers of its columns `deleted_at` and `deletion_id`, where it has them, of their types.
    pub marks: Option<[i16; 2]>,
    /// What a plain DELETE does, where it is managed.
    pub policy: Option<OnPlainDelete>,
    /// Its partitions, at every level; empty for a plain table.
    pub partitions: Vec<Partition>,
    /// Whether it is partitioned: then a row's address (ctid) is one partition's alone, and only
    /// `(tableoid, ctid)` names a row.
    pub partitioned: bool,
    /// Whether it has row triggers of its own that run before an UPDATE, and so may prevent it.
    pub may_prevent_update: bool,
    /// Whether a trigger of its own fires `BEFORE UPDATE OF` a column of the primary key, or AFTER.
    pub key_is_watched: bool,
    /// All its columns, in order.
    pub columns: Vec<Ident>,
    /// The primary key.
    pub key: Vec<KeyColumn>,
}

/// A partition of a table of the graph.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its OID.
    pub oid: pg_sys::Oid,
    /// Its qualified name.
    pub name: Qualified,
    /// The numbers of its columns `deleted_at` and `deletion_id`.
    pub marks: Option<[i16; 2]>,
}

/// One column of a primary key.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    /// Its name.
    pub name: Ident,
    /// Its type, qualified, without length or precision: a cast to `varchar(3)` would cut a longer key down to another
    /// row's. Of a domain what it is over, so that a cast runs no check of the domain's.
    pub type_sql: String,
    /// The OID of that type.
    pub type_oid: pg_sys::Oid,
    /// The OID of the type that the column was declared with: a domain, or the same.
    pub declared_type: pg_sys::Oid,
    /// The qualified equality operator of the key's index.
    pub equals: String,
}

impl Table {
    /// The table in a FROM clause or as the target of a statement: its own rows and those of its
    /// partitions, not those of tables that inherit from it, whose keys may be the same.
    pub fn rows(&self) -> String {
        if self.partitioned {
            self.name.to_string()
        } else {
            format!("ONLY {}", self.name)
        }
    }

    /// Refuses what would mark or unmark rows while the columns that it takes are gone or exchanged,
    /// here or in a partition.
    pub fn check_marks(&self) -> Outcome<()> {
        let of_parts = self.partitions.iter().map(|part| part.marks);
        let fit = of_parts.chain([self.marks]).all(|marks| marks.is_some());
        if fit || !self.managed {
            Ok(())
        } else {
            Err(self.lost_marks())
        }
    }

    /// The failure that says so.
    pub fn lost_marks(&self) -> Failure {
        Failure::StateColumns {
            table: self.shown.clone(),
        }
    }

    /// The key of the row `alias` as a JSON object.
    pub fn key_json(&self, alias: &str) -> String {
        let pairs = self
            .key
            .iter()
            .map(|column| format!("{}, {alias}.{}", Literal(&column.name.0), column.name));
        format!("pg_catalog.jsonb_build_object({})", join(pairs, ", "))
    }

    /// The key columns of the row `alias`, for an ORDER BY.
    pub fn key_columns(&self, alias: &str) -> String {
        join(
            self.key
                .iter()
                .map(|column| format!("{alias}.{}", column.name)),
            ", ",
        )
    }
}

/// What PostgreSQL would do with the referring rows of a deleted row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The referring rows go too.
    Cascade,
    /// RESTRICT or NO ACTION: referring rows forbid the deletion.
    Restrict,
    /// SET NULL: the referring columns become NULL, until a restore puts their values back.
    SetNull,
    /// SET DEFAULT: likewise, with the columns' defaults.
    SetDefault,
}

impl OnDelete {
    /// Whether referring rows stay, but let go of the deleted row.
    pub fn detaches(self) -> bool {
        matches!(self, Self::SetNull | Self::SetDefault)
    }
}

/// How a reference is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A foreign key of the catalog.
    ForeignKey,
    /// A polymorphic reference of `keepsake.declare_reference()`.
    Declared {
        /// The column that says which table is meant.
        type_column: Ident,
        /// Its value for this parent.
        type_value: String,
    },
}

/// A pair of columns that must be equal.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The referring column.
    pub child: Ident,
    /// The referred column.
    pub parent: Ident,
    /// The qualified operator, parent on the left.
    pub equals: String,
    /// For a declared reference whose id is text: the type of the parent's key.
    pub parent_type: Option<String>,
}

/// What a uuid prints as.
const UUID: &str = "'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'";

impl Pair {
    /// For a text id: the operator and the value of row `c` to compare the parent's key with. NULL
    /// where the text is none that a key prints as, so that no cast can fail.
    fn as_parent_key(&self, c: &str) -> Option<(&str, String)> {
        const EQUALS: &str = "OPERATOR(pg_catalog.=)";
        let id = format!("{c}.{}", self.child);
        let matches = |pattern: &str| format!("{id} OPERATOR(pg_catalog.~) {pattern}");
        let at_most =
            |most: &str| format!("{id} COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.<=) '{most}'");
        match self.parent_type.as_deref()? {
            "pg_catalog.int2" | "pg_catalog.int4" | "pg_catalog.int8" => Some((
                EQUALS,
                format!(
                    "CASE WHEN {short} OR {long} AND {most} OR {negative} AND {least} THEN {id}::pg_catalog.int8 END",
                    short = matches("'^-?[0-9]{1,18}$'"),
                    long = matches("'^[0-9]{19}$'"),
                    most = at_most("9223372036854775807"),
                    negative = matches("'^-[0-9]{19}$'"),
                    least = at_most("-9223372036854775808"),
                ),
            )),
            "pg_catalog.uuid" => Some((
                &self.equals,
                format!("CASE WHEN {} THEN {id}::pg_catalog.uuid END", matches(UUID)),
            )),
            text => Some((&self.equals, format!("{id}::{text}"))),
        }
    }
}

/// A reference from rows of `child` to rows of `parent`.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The constraint's name, or one made up for a declared reference.
    pub name: String,
    /// The referring table.
    pub child: pg_sys::Oid,
    /// The referred table.
    pub parent: pg_sys::Oid,
    /// The columns.
    pub pairs: Vec<Pair>,
    /// What a deletion does.
    pub on_delete: OnDelete,
    /// The referring columns that SET NULL or SET DEFAULT changes.
    pub detached_columns: Vec<Ident>,
    /// Foreign key or declared.
    pub kind: Kind,
    /// Whether its check may be put off to the commit, after ours.
    pub deferrable: bool,
    /// Whether each table's owner sees all rows of the other: the engine works as these roles, and
    /// rows that a policy hides from them would be overlooked.
    pub readable: bool,
    /// Whether it is a declared one whose columns or key are gone.
    pub lost: bool,
    /// Whether equal values of its columns print alike: then the parent's key says what the child held.
    pub prints_alike: bool,
}

impl Reference {
    /// What cannot be undone is not done: where the referring row has no key by which a restore
    /// could find it again, or where SET DEFAULT would change that key, the reference restricts.
    fn or_restricting(mut self, tables: &HashMap<pg_sys::Oid, Table>) -> Self {
        let found_again = tables.get(&self.child).is_some_and(|child| {
            let in_key = |column: &Ident| child.key.iter().any(|key| key.name == *column);
            // A text of JSON comes back as a string of it.
            let is_json = |key: &KeyColumn| key.type_oid == pg_sys::JSONBOID;
            !child.key.is_empty()
                && !child.key.iter().any(is_json)
                && !self.detached_columns.iter().any(in_key)
        });
        if self.on_delete.detaches() && !found_again {
            self.on_delete = OnDelete::Restrict;
        }
        self
    }

    /// Whether it was declared, and is no foreign key.
    pub fn is_declared(&self) -> bool {
        matches!(self.kind, Kind::Declared { .. })
    }

    /// Refuses to follow the reference where rows could be overlooked.
    pub fn check_readable(&self, child: &Table, parent: &Table) -> Outcome<()> {
        self.check_there(child)?;
        if self.readable {
            return Ok(());
        }
        Err(Failure::Unreadable {
            reference: self.name.clone(),
            child: child.shown.clone(),
            parent: parent.shown.clone(),
        })
    }

    /// Refuses a declared reference whose columns or key are gone: whatever concerns its two tables, and nothing else.
    pub fn check_there(&self, child: &Table) -> Outcome<()> {
        if !self.lost {
            return Ok(());
        }
        Err(Failure::LostReference {
            reference: self.name.clone(),
            child: child.shown.clone(),
        })
    }

    /// The condition that row `c` refers to row `p`; an index on the child's columns serves it.
    pub fn joins(&self, c: &str, p: &str) -> String {
        let mut terms = self.type_term(c);
        terms.extend(self.pairs.iter().map(|pair| match &pair.parent_type {
            Some(_) => {
                format!(
                    "{c}.{} OPERATOR(pg_catalog.=) {p}.{}::pg_catalog.text",
                    pair.child, pair.parent
                )
            }
            None => format!("{p}.{} {} {c}.{}", pair.parent, pair.equals, pair.child),
        }));
        terms.join(" AND ")
    }

    /// The same condition, written so that the index on the parent's key serves it.
    pub fn joins_by_parent_key(&self, c: &str, p: &str) -> String {
        let casts = self.pairs.iter().filter_map(|pair| {
            let (equals, value) = pair.as_parent_key(c)?;
            let value = match self.type_term(c).first() {
                Some(term) => format!("CASE WHEN {term} THEN {value} END"),
                None => value,
            };
            Some(format!("{p}.{} {equals} {value}", pair.parent))
        });
        let mut terms: Vec<String> = casts.collect();
        terms.push(self.joins(c, p));
        terms.join(" AND ")
    }

    /// The condition that row `c` uses this reference at all (no NULL in it).
    pub fn is_set(&self, c: &str) -> String {
        let mut terms = self.type_term(c);
        terms.extend(
            self.pairs
                .iter()
                .map(|pair| format!("{c}.{} IS NOT NULL", pair.child)),
        );
        terms.join(" AND ")
    }

    /// Every referring column, the discriminator included.
    pub fn child_columns(&self) -> Vec<&Ident> {
        let discriminator = match &self.kind {
            Kind::Declared { type_column, .. } => Some(type_column),
            Kind::ForeignKey => None,
        };
        discriminator
            .into_iter()
            .chain(self.pairs.iter().map(|pair| &pair.child))
            .collect()
    }

    fn type_term(&self, c: &str) -> Vec<String> {
        match &self.kind {
            Kind::Declared {
                type_column,
                type_value,
            } => {
                vec![format!(
                    "{c}.{type_column} OPERATOR(pg_catalog.=) {}",
                    Literal(type_value)
                )]
            }
            Kind::ForeignKey => Vec::new(),
        }
    }
}

/// The whole graph.
#[derive(Debug)]
pub struct Graph {
    tables: HashMap<pg_sys::Oid, Table>,
    /// The table of the graph that each partition belongs to.
    roots: HashMap<pg_sys::Oid, pg_sys::Oid>,
    references: Vec<Reference>,
    /// Strongly connected groups, referring tables first.
    groups: Vec<Vec<pg_sys::Oid>>,
}

impl Graph {
    /// The graph as the catalog has it now; kept for the backend until something in it changes.
    pub fn current(session: &Session<'_, '_>) -> Outcome<Rc<Self>> {
        catalog::cached(session)
    }

    /// The same, for a row's trigger: opens a session only when nothing is kept.
    pub fn known() -> Outcome<Rc<Self>> {
        catalog::kept().map_or_else(|| with_session(|session| Self::current(session)), Ok)
    }

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
        let tables: HashMap<_, _> = tables.into_iter().map(|table| (table.oid, table)).collect();
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
            None => Err(Failure::NotManaged {
                table: catalog::shown(session, oid)?,
            }),
        }
    }

    /// Every OID in the graph.
    pub fn oids(&self) -> HashSet<pg_sys::Oid> {
        self.tables
            .keys()
            .chain(self.roots.keys())
            .copied()
            .collect()
    }

    /// References out of `child` into a managed table.
    pub fn references_of(&self, child: pg_sys::Oid) -> impl Iterator<Item = (&Reference, &Table)> {
        self.all_references_of(child)
            .filter(|(_, parent)| parent.managed)
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
        self.references_of(table.oid)
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
