//! What the catalog says of a table before it is in the graph, and whether its owner may do with it what he asks.

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::graph::reference_graph::not_in_place;
use crate::model::error::{Failure, Outcome};
use crate::spi::session::Session;

const DESCRIBE: &str = include_str!("describe_table.sql");

/// What the catalog says of a table, before it is in the graph.
pub struct Description {
    /// The name as the caller would write it.
    pub shown: String,
    /// Whether it is managed already.
    pub managed: bool,
    kind: String,
    persistence: String,
    is_partition: bool,
    inherits: bool,
    owned: bool,
    has_key: bool,
    is_system: bool,
    /// Those of its columns that have the names of the marks, with their types.
    pub state_columns: Vec<String>,
    generated_key: Option<String>,
    cascading_parent: Option<String>,
    partition_trouble: Option<String>,
    refers_to_partition: Option<String>,
}

/// Describes `table`.
pub fn describe(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<Description> {
    let rows = session.catalog_now(DESCRIBE, &[table.into()])?;
    let row = rows.first().ok_or_else(|| Failure::RowNotFound {
        table: "pg_class".into(),
    })?;
    let flag = |name: &str| -> Outcome<bool> { Ok(row.get_by_name(name)?.unwrap_or(false)) };
    Ok(Description {
        shown: text(row, "shown")?.unwrap_or_default(),
        managed: flag("managed")?,
        kind: text(row, "kind")?.unwrap_or_default(),
        persistence: text(row, "persistence")?.unwrap_or_default(),
        is_partition: flag("is_partition")?,
        inherits: flag("inherits")?,
        owned: flag("owned")?,
        has_key: flag("has_key")?,
        is_system: flag("is_system")?,
        state_columns: row.get_by_name("state_columns")?.unwrap_or_default(),
        generated_key: text(row, "generated_key")?,
        cascading_parent: text(row, "cascading_parent")?,
        partition_trouble: text(row, "partition_trouble")?,
        refers_to_partition: text(row, "refers_to_partition")?,
    })
}

fn text(row: &SpiHeapTupleData<'_>, name: &str) -> Outcome<Option<String>> {
    Ok(row.get_by_name(name)?)
}

/// Describes `table` for its owner, who has given it to Keepsake; refuses anyone else.
pub fn describe_managed(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<Description> {
    let found = describe(session, table)?;
    found.check_owned()?;
    if found.managed {
        Ok(found)
    } else {
        Err(not_in_place(session, table)?)
    }
}

impl Description {
    /// Refuses anyone but the owner.
    pub fn check_owned(&self) -> Outcome<()> {
        if self.owned {
            Ok(())
        } else {
            Err(Failure::NotOwner {
                table: self.shown.clone(),
            })
        }
    }

    /// Refuses foreign keys of or into one partition, which the engine could not follow.
    pub fn check_references(&self) -> Outcome<()> {
        let trouble = match (&self.partition_trouble, &self.refers_to_partition) {
            (Some(trouble), _) if self.managed => trouble.clone(),
            (_, Some(partition)) => {
                format!("It refers to {partition}, which is a partition of a managed table.")
            }
            _ => return Ok(()),
        };
        Err(Failure::CannotManage {
            table: self.shown.clone(),
            why: trouble,
            fix: "Create the foreign key between the partitioned tables themselves.".into(),
        })
    }

    /// Refuses anyone but the owner, and a table whose rows could not be undeleted. `adopts`: its rows are soft-deleted
    /// already, so that it may have one of the columns that the other is added to.
    pub fn check_safe(&self, adopts: bool) -> Outcome<()> {
        self.check_owned()?;
        let refusal = self
            .refusal_of_kind()
            .or_else(|| self.refusal_of_columns(adopts))
            .or_else(|| self.refusal_of_parent());
        match refusal {
            None => Ok(()),
            Some((why, fix)) => Err(Failure::CannotManage {
                table: self.shown.clone(),
                why,
                fix,
            }),
        }
    }

    /// Why no table of this kind can be managed, and what can.
    fn refusal_of_kind(&self) -> Option<(String, String)> {
        let (why, fix) = if self.persistence == "t" {
            ("It is a temporary table.", "Manage a permanent table.")
        } else if self.is_system {
            (
                "It belongs to PostgreSQL or to Keepsake.",
                "Manage a table of your application.",
            )
        } else if self.is_partition {
            (
                "It is a partition.",
                "Manage its partitioned table instead.",
            )
        } else if !matches!(self.kind.as_str(), "r" | "p") || self.inherits {
            (
                "It is not a table, or takes part in inheritance: triggers, keys and foreign keys of a parent table do not apply to rows of the tables that inherit from it.",
                "Manage an ordinary or a partitioned table.",
            )
        } else {
            (
                self.partition_trouble.as_deref()?,
                "Move what is defined on one partition to the partitioned table.",
            )
        };
        Some((why.to_owned(), fix.to_owned()))
    }

    /// Which columns it lacks, or has of other types.
    fn refusal_of_columns(&self, adopts: bool) -> Option<(String, String)> {
        let marks = ["deleted_at timestamp with time zone", "deletion_id uuid"];
        if !self.has_key {
            return Some((
                "It has no primary key, so a deleted row could not be identified.".to_owned(),
                format!("ALTER TABLE {} ADD PRIMARY KEY (…);", self.shown),
            ));
        }
        if let Some(column) = &self.generated_key {
            return Some((
                format!(
                    "The column {column} of its primary key is generated, so no trigger could keep its value while a row is deleted or held."
                ),
                "Give the table a primary key of ordinary columns.".to_owned(),
            ));
        }
        let fits = |column: &String| marks.contains(&column.as_str());
        let is_whole = self.state_columns.is_empty() || self.state_columns == marks;
        let is_own = adopts && self.state_columns.iter().all(fits);
        if is_whole || is_own {
            return None;
        }
        let adopt = format!(
            "SELECT keepsake.manage('{}', adopt => 'deleted_at IS NOT NULL');",
            self.shown
        );
        let fix = match self.state_columns.as_slice() {
            [own] if own == marks[0] => {
                format!(
                    "If the column marks rows as deleted, make deletions of them: {adopt} Otherwise rename it."
                )
            }
            [own] if own.starts_with("deleted_at timestamp") => format!(
                "If the column marks rows as deleted, run ALTER TABLE {} ALTER deleted_at TYPE timestamptz USING deleted_at AT TIME ZONE 'UTC'; {adopt} Otherwise rename it.",
                self.shown
            ),
            _ => "Rename the table's own column, or give the table both columns with these types."
                .to_owned(),
        };
        Some((
            format!(
                "Keepsake adds the columns deleted_at timestamptz and deletion_id uuid, but the table already has {}.",
                self.state_columns.join(", ")
            ),
            fix,
        ))
    }

    /// Which parent is to be managed first.
    fn refusal_of_parent(&self) -> Option<(String, String)> {
        let parent = self.cascading_parent.as_ref()?;
        Some((
            format!(
                "A DELETE in {parent} would cascade to it, and those rows could not be restored."
            ),
            format!(
                "Manage the parent table first: SELECT keepsake.manage('{}');",
                parent.split(' ').next().unwrap_or(parent)
            ),
        ))
    }
}
