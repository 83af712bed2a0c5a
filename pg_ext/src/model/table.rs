//! A table of the reference graph, and the SQL that names its rows and keys.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::sql::{Ident, Literal, Qualified, join};
use crate::model::stored_value::{Source, StoredColumn, printed};

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
    /// Whether its deleted rows are kept in place; then it has `deleted_at` and `deletion_id`.
    pub managed: bool,
    /// Whether its deleted rows are kept in an archive.
    pub archived: bool,
    /// The numbers of its columns `deleted_at` and `deletion_id`, where it has them, of their types.
    pub marks: Option<[i16; 2]>,
    /// The index by which the rows of a deletion are found.
    pub deletion_index: Option<pg_sys::Oid>,
    /// What a plain DELETE does, where it is managed.
    pub on_plain_delete: Option<OnPlainDelete>,
    /// Its partitions, at every level; empty for a plain table.
    pub partitions: Vec<Partition>,
    /// Whether it is partitioned: then a row's address (ctid) is one partition's alone, and only
    /// `(tableoid, ctid)` names a row.
    pub partitioned: bool,
    /// Whether it has row triggers of its own that run before an UPDATE, and so may prevent it.
    pub may_prevent_update: bool,
    /// Whether a trigger of its own fires `BEFORE UPDATE OF` a column of the primary key, or AFTER.
    pub key_is_watched: bool,
    /// Whether it and each of its partitions have the triggers that guard its references, and these fire.
    pub guards_stand: bool,
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

impl KeyColumn {
    /// Types whose values JSON has, for whatever reads it.
    const AS_THEY_ARE: [pg_sys::Oid; 4] = [
        pg_sys::INT2OID,
        pg_sys::INT4OID,
        pg_sys::INT8OID,
        pg_sys::BOOLOID,
    ];

    /// The column, to read a value of it by itself.
    pub fn stored(&self, from: Source) -> StoredColumn {
        StoredColumn {
            name: self.name.clone(),
            equals: self.equals.clone(),
            type_sql: self.type_sql.clone(),
            collation: None,
            is_text_of_json: self.type_oid == pg_sys::JSONBOID && from == Source::Text,
        }
    }
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

    /// The condition that row `alias` is live.
    pub fn is_live(&self, alias: &str) -> String {
        if self.managed {
            format!("{alias}.deleted_at IS NULL")
        } else {
            "true".into()
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

    /// The key of the row `alias` as a JSON object: whole numbers and booleans as they are, everything else as the text
    /// that its type prints and reads, so that it is found again by the very value.
    pub fn key_json(&self, alias: &str) -> String {
        let pairs = self.key.iter().map(|column| {
            let value = if KeyColumn::AS_THEY_ARE.contains(&column.type_oid) {
                format!("{alias}.{}", column.name)
            } else {
                printed(alias, &column.name)
            };
            format!("{}, {value}", Literal(&column.name.0))
        });
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
