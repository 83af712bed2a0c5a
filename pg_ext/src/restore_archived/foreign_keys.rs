//! The foreign keys of rows that come back, checked for all rows at once; and their declared references, which are checked in the same
//! way.
//!
//! PostgreSQL's own check takes a query for each row. Ours locks the parents as that does (`RI_FKey_check` in
//! `ri_triggers.c`), with one query for each foreign key, and as the same role: the owner of the parents' table.

use std::collections::HashSet;

use pgrx::spi::SpiHeapTupleData;
use pgrx::{Uuid, pg_sys};

use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::reference::{Kind, OnDelete, Pair, Reference};
use crate::model::sql::{Ident, join};
use crate::model::table::Table;
use crate::restore_archived::archived_rows::{Archived, Rows, plain_table};
use crate::spi::session::Session;

const FOREIGN_KEYS: &str = include_str!("read_foreign_keys.sql");

/// Where deleted rows of the parents' table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In an archive.
    Archive,
    /// In the table, marked.
    InPlace,
    /// Nowhere.
    Nothing,
}

/// A foreign key, or a declared reference, of a table that is to get rows.
#[derive(Debug)]
pub struct ForeignKey {
    /// Its columns, and how they compare.
    pub reference: Reference,
    /// The referred table.
    pub parent: Table,
    /// Where that one's deleted rows are.
    pub keep: Keep,
    /// The deletions of which such rows count as live: they come back next.
    pub returning: Vec<Uuid>,
    /// Whether a row of NULLs and values is wrong: that is left to PostgreSQL's own check.
    pub match_full: bool,
    /// The constraint and its copies for partitions; none of a declared reference.
    pub copies: Vec<pg_sys::Oid>,
}

/// Those of these tables. Rows in place of the deletions `returning` count as live.
pub fn read(
    session: &Session<'_, '_>,
    tables: &[Archived],
    returning: &[Uuid],
) -> Outcome<Vec<ForeignKey>> {
    let oids: Vec<pg_sys::Oid> = tables.iter().map(|one| one.table.oid).collect();
    let found = session.registry_now_of_few(FOREIGN_KEYS, &[oids.into()])?;
    found.iter().map(|row| read_one(row, returning)).collect()
}

fn read_one(row: &SpiHeapTupleData<'_>, returning: &[Uuid]) -> Outcome<ForeignKey> {
    let children: Vec<String> = field(row, "child_columns")?;
    let parents: Vec<String> = field(row, "parent_columns")?;
    let operators: Vec<String> = field(row, "operators")?;
    let parent_type: Option<String> = row.get_by_name("parent_type")?;
    let pairs = children.into_iter().zip(parents).zip(operators);
    let pairs = pairs.map(|((child, parent), equals)| Pair {
        child: Ident(child),
        parent: Ident(parent),
        equals,
        collation: None,
        parent_type: parent_type.clone(),
    });
    let declared = row
        .get_by_name("type_column")?
        .zip(row.get_by_name("type_value")?);
    let parent = plain_table(
        field(row, "parent")?,
        field(row, "parent_shown")?,
        (field(row, "parent_schema")?, field(row, "parent_name")?),
        field(row, "parent_owner")?,
        field(row, "parent_partitioned")?,
    );
    Ok(ForeignKey {
        reference: Reference {
            name: field(row, "name")?,
            child: field(row, "child")?,
            parent: parent.oid,
            pairs: pairs.collect(),
            on_delete: if field(row, "cascades")? {
                OnDelete::Cascade
            } else {
                OnDelete::Restrict
            },
            set_columns: Vec::new(),
            refuses_null: false,
            restricts: false,
            checked_at_commit: false,
            kind: declared.map_or(Kind::ForeignKey, |(type_column, type_value)| {
                Kind::Declared {
                    type_column: Ident(type_column),
                    type_value,
                }
            }),
            deferrable: false,
            readable: true,
            has_period: field(row, "has_period")?,
            lost: false,
            prints_alike: false,
        },
        parent,
        keep: match row.get_by_name::<String, _>("parent_keep")?.as_deref() {
            Some("archive") => Keep::Archive,
            Some(_) => Keep::InPlace,
            None => Keep::Nothing,
        },
        returning: returning.to_vec(),
        match_full: field(row, "match_full")?,
        copies: field(row, "copies")?,
    })
}

/// The constraints that are checked here, of one table.
pub fn checked(keys: &[ForeignKey], table: pg_sys::Oid) -> HashSet<pg_sys::Oid> {
    keys.iter()
        .filter(|key| key.reference.child == table && !key.match_full && !key.reference.has_period)
        .flat_map(|key| key.copies.iter().copied())
        .collect()
}

impl ForeignKey {
    /// The condition that row `p` of the parents' table is a live one.
    pub fn is_live(&self, p: &str) -> String {
        match self.keep {
            Keep::InPlace if self.returning.is_empty() => format!("{p}.deleted_at IS NULL"),
            Keep::InPlace => {
                let ids = self.returning.iter().map(ToString::to_string);
                format!(
                    "({p}.deleted_at IS NULL OR {p}.deletion_id OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.uuid[]))",
                    join(ids, ",")
                )
            }
            Keep::Archive | Keep::Nothing => "true".into(),
        }
    }

    /// The live rows `p` that a row `c` refers to, as a FROM clause with a condition.
    pub fn live_parents(&self) -> String {
        format!(
            "{parents} AS p WHERE {joins} AND {live}",
            parents = self.parent.rows(),
            joins = self.reference.joins_by_parent_key("c", "p"),
            live = self.is_live("p"),
        )
    }

    /// What the rows refer to: each combination of values once.
    fn referred(&self, child: &Archived, rows: &Rows) -> String {
        let columns = self.reference.child_columns().into_iter();
        format!(
            "(SELECT DISTINCT {} FROM ({}) AS s WHERE {})",
            join(columns.map(|column| format!("s.{column}")), ", "),
            child.source(rows),
            self.reference.is_set("s"),
        )
    }

    /// Locks the parents that are live already: a deletion of theirs waits for this restore, or this restore for it.
    pub fn lock_parents(
        &self,
        session: &mut Session<'_, '_>,
        child: &Archived,
        rows: &Rows,
    ) -> Outcome<()> {
        let order = self
            .reference
            .pairs
            .iter()
            .map(|pair| format!("p.{}", pair.parent));
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM (
                 SELECT 1 FROM {parents} AS p JOIN {referred} AS c ON {joins} AND {live}
                 ORDER BY {order} FOR KEY SHARE OF p) AS locked",
            parents = self.parent.rows(),
            referred = self.referred(child, rows),
            joins = self.reference.joins_by_parent_key("c", "p"),
            live = self.is_live("p"),
            order = join(order, ", "),
        );
        session.over_archives(&self.parent, &sql, &[])?;
        Ok(())
    }

    /// Whether a row refers to none that is live now.
    pub fn lacks_parents(
        &self,
        session: &mut Session<'_, '_>,
        child: &Archived,
        rows: &Rows,
    ) -> Outcome<bool> {
        let sql = format!(
            "SELECT 1 FROM {referred} AS c WHERE NOT {found} LIMIT 1",
            referred = self.referred(child, rows),
            found = self.reference.is_found("c", &self.live_parents()),
        );
        Ok(!session.over_archives(&self.parent, &sql, &[])?.is_empty())
    }
}
