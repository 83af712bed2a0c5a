//! Layouts: the columns that a table had when its rows were archived.
//!
//! An archive only ever gets columns. When the source changes, a new layout says where each of its columns is kept from
//! now on; rows archived before stay as they are and say by number which layout they have.

use pgrx::pg_sys;

use crate::archive::using::Converted;

/// A column of a source table, as an archive keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number in the source table, which it keeps as long as it lives.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type; of a domain what that is over.
    pub type_oid: pg_sys::Oid,
    /// Its length or precision, as the type has it.
    pub typmod: i32,
    /// Its collation.
    pub collation: pg_sys::Oid,
    /// Whether it is computed from others.
    pub generated: bool,
    /// Whether it is in the primary key.
    pub in_key: bool,
}

/// A column of a layout: of the source, and where the archive keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The column.
    pub column: Column,
    /// Its number in the archive.
    pub archive_number: i16,
}

/// What it takes to make a new layout of the newest one.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Columns of the archive that serve on.
    pub kept: Vec<Kept>,
    /// Columns that the archive is to get.
    pub added: Vec<Column>,
    /// Columns of the source that are gone: people drop columns to erase what is in them.
    pub dropped: Vec<i16>,
    changes_layout: bool,
}

impl Change {
    /// Whether columns have other names and nothing else has changed: the layout stays.
    pub const fn only_renames(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty() && !self.changes_layout
    }
}

/// What has changed between the newest layout and the table as it is now; `None` when nothing has. Columns whose values were `converted`
/// have changed, even if they have the type that they had.
pub fn change(newest: &[Kept], now: &[Column], converted: &Converted) -> Option<Change> {
    let is_converted = |column: &Column| converted.iter().any(|(name, _)| *name == column.name);
    let unchanged = newest.len() == now.len()
        && !now.iter().any(is_converted)
        && newest
            .iter()
            .zip(now)
            .all(|(kept, column)| kept.column == *column);
    if unchanged {
        return None;
    }
    let stores = |kept: &Kept, column: &Column| {
        let old = &kept.column;
        (old.number, old.type_oid, old.typmod, old.collation)
            == (
                column.number,
                column.type_oid,
                column.typmod,
                column.collation,
            )
    };
    let mut change = Change {
        kept: Vec::new(),
        added: Vec::new(),
        dropped: Vec::new(),
        changes_layout: false,
    };
    for column in now {
        let stored = newest.iter().find(|kept| stores(kept, column));
        match stored.filter(|_| !is_converted(column)) {
            Some(kept) => {
                change.changes_layout |= kept.column.generated != column.generated
                    || kept.column.in_key != column.in_key;
                change.kept.push(Kept {
                    column: column.clone(),
                    archive_number: kept.archive_number,
                });
            }
            None => change.added.push(column.clone()),
        }
    }
    // A negative number is of a column that a dump has lost sight of: it is none that was dropped.
    let is_gone = |kept: &&Kept| {
        kept.column.number > 0 && !now.iter().any(|column| column.number == kept.column.number)
    };
    let gone = newest.iter().filter(is_gone);
    change.dropped.extend(gone.map(|kept| kept.column.number));
    change.changes_layout |= newest.len() != now.len();
    Some(change)
}
