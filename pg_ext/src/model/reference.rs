//! A reference from one table to another, and the SQL that follows it.

use pgrx::pg_sys;

use crate::model::error::{ConstraintName, Failure, Outcome};
use crate::model::oid_map::OidMap;
use crate::model::sql::{Ident, Literal};
use crate::model::table::Table;

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
    /// Whether referring rows stay, with other values in the referring columns: SET NULL and SET DEFAULT.
    pub fn sets_columns(self) -> bool {
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
    /// The collation by which they are compared, where they have different ones.
    pub collation: Option<String>,
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
    pub set_columns: Vec<Ident>,
    /// Whether a constraint of the child's may keep SET NULL from a row.
    pub refuses_null: bool,
    /// Foreign key or declared.
    pub kind: Kind,
    /// Whether its ON DELETE is RESTRICT, and not NO ACTION.
    pub restricts: bool,
    /// Whether it is NO ACTION and looked at when the transaction commits, by a trigger on the parent.
    pub checked_at_commit: bool,
    /// Whether its check may be put off to the commit, after ours.
    pub deferrable: bool,
    /// Whether each table's owner sees all rows of the other: the engine works as these roles, and
    /// rows that a policy hides from them would be overlooked.
    pub readable: bool,
    /// Whether it is a foreign key with a PERIOD: the child's range lies within those of several parents.
    pub has_period: bool,
    /// Whether it is a declared one whose columns or key are gone.
    pub lost: bool,
    /// Whether equal values of its columns print alike: then the parent's key says what the child held.
    pub prints_alike: bool,
}

impl Reference {
    /// What cannot be undone is not done: where the referring row has no key by which a restore
    /// could find it again, or where SET DEFAULT would change that key, the reference restricts.
    pub fn or_restricting(mut self, tables: &OidMap<Table>) -> Self {
        let found_again = tables.get(&self.child).is_some_and(|child| {
            let in_key = |column: &Ident| child.key.iter().any(|key| key.name == *column);
            !child.key.is_empty() && !self.set_columns.iter().any(in_key)
        });
        if self.on_delete.sets_columns() && !found_again {
            self.on_delete = OnDelete::Restrict;
        }
        self
    }

    /// Whether a deleted row of `child` may go on referring to a deleted one, although the reference lets go: the default may be deleted as well,
    /// or a constraint refuse the NULL.
    pub fn clings_to(&self, child: &Table) -> bool {
        child.managed && (self.refuses_null || self.on_delete == OnDelete::SetDefault)
    }

    /// Whether no row of `child` refers to a deleted one for long: it lets go of it.
    pub fn lets_go(&self, child: &Table) -> bool {
        self.on_delete.sets_columns() && !self.clings_to(child)
    }

    /// Its name, for the fields of an error.
    pub fn constraint_of(&self, child: &Table) -> ConstraintName {
        ConstraintName {
            table: child.name.clone(),
            name: self.name.clone(),
        }
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

    /// The condition that row `c` refers to row `p`; an index on the child's columns serves it. For a query that comes from the parents: of a declared
    /// reference it compares keys as text, for which the parent's table has no index.
    pub fn joins(&self, c: &str, p: &str) -> String {
        let mut terms = self.type_term(c);
        terms.extend(self.pairs.iter().map(|pair| match &pair.parent_type {
            Some(_) => {
                format!(
                    "{c}.{} OPERATOR(pg_catalog.=) {p}.{}::pg_catalog.text",
                    pair.child, pair.parent
                )
            }
            None => format!(
                "{p}.{} {} {c}.{}{}",
                pair.parent,
                pair.equals,
                pair.child,
                pair.collation
                    .as_ref()
                    .map_or_else(String::new, |name| format!(" COLLATE {name}"))
            ),
        }));
        terms.join(" AND ")
    }

    /// The same condition, written so that the index on the parent's key serves it. For a query that comes from the children.
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

    /// The condition that row `c` finds its parent among the rows `p` of `parents`, a FROM clause with a condition; by a key with a PERIOD, all of its range
    /// among those of several.
    pub fn is_found(&self, c: &str, parents: &str) -> String {
        match self.pairs.last().filter(|_| self.has_period) {
            // As PostgreSQL asks it (`RI_FKey_check` in ri_triggers.c).
            Some(period) => format!(
                "coalesce({c}.{child} OPERATOR(pg_catalog.<@) (SELECT pg_catalog.range_agg(p.{parent}) FROM {parents}), false)",
                child = period.child,
                parent = period.parent,
            ),
            None => format!("EXISTS (SELECT FROM {parents})"),
        }
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
