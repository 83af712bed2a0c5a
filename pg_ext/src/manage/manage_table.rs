//! `manage` and `unmanage`: what a table gets when it is given to Keepsake.

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::call::arguments::Regclass;
use crate::graph::catalog;
use crate::graph::reference_graph::{Graph, Table};
use crate::manage::drop_guards;
use crate::manage::hide;
use crate::manage::triggers;
use crate::model::error::{Failure, Outcome, required};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::purge::retention;
use crate::spi::session::{Session, with_session};

const DESCRIBE: &str = include_str!("describe_table.sql");

/// Gives `table` to Keepsake: adds `deleted_at` and `deletion_id`, the index and triggers that
/// soft deletion needs, and registers how long its deleted rows are kept (30 days, unless given)
/// and what a plain DELETE does: `convert` it to a soft delete (the default), `reject` it, or
/// `allow` it to remove live rows for good. A second call mends what is missing and changes what is
/// given. Only the table's owner may call it.
///
/// # Errors
/// 0A000 with the fix in the HINT when the table cannot be kept safe; 42501 for anyone but the owner.
#[pg_extern]
fn manage(
    relation: Option<Regclass>,
    retention: default!(Option<Interval>, "NULL"),
    on_delete: default!(Option<&str>, "NULL"),
) -> Result<(), ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let policy = on_delete.map(OnPlainDelete::parse).transpose()?;
    Ok(with_session(|session| {
        take_on(session, oid, retention, policy)
    })?)
}

/// Takes `table` back from Keepsake: triggers, index and the two columns go.
///
/// # Errors
/// 55000 while it still holds soft-deleted rows; 42501 for anyone but the owner.
#[pg_extern]
fn unmanage(relation: Regclass) -> Result<(), ErrorReport> {
    Ok(with_session(|session| {
        hand_back(session, oid_of(relation))
    })?)
}

/// The table's OID.
pub fn oid_of(relation: Regclass) -> pg_sys::Oid {
    relation.0
}

fn take_on(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    retention: Option<Interval>,
    policy: Option<OnPlainDelete>,
) -> Outcome<()> {
    describe(session, oid)?.check_safe()?;
    retention::register(session, oid, retention)?;
    let policy = set_policy(session, oid, policy)?;
    catalog::invalidate(oid);
    // Another call may have come first, and registering has waited for it.
    let found = describe(session, oid)?;
    if found.state_columns.is_empty() {
        let name = Graph::current(session)?
            .managed(session, oid)?
            .name
            .to_string();
        session.ddl(
            &format!("ALTER TABLE {name} ADD COLUMN deleted_at pg_catalog.timestamptz, ADD COLUMN deletion_id pg_catalog.uuid"),
        )?;
        catalog::invalidate(oid);
    }
    let graph = Graph::current(session)?;
    let table = graph.managed(session, oid)?;
    refuse_foreign_marks(session, table)?;
    add_index(session, table)?;
    triggers::guard_state(session, table, policy)?;
    triggers::guard_references(session, &graph, table)?;
    for (_, child) in graph.references_to(oid) {
        triggers::guard_references(session, &graph, child)?;
    }
    catalog::invalidate(oid);
    Ok(())
}

fn hand_back(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let found = describe(session, oid)?;
    found.check_owned()?;
    if !found.managed {
        return Ok(());
    }
    let graph = Graph::current(session)?;
    let table = graph.managed(session, oid)?;
    let name = &table.name;
    session.ddl(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))?;
    // As the owner: policies that hide deleted rows bind whoever else asks.
    let deleted = format!(
        "SELECT 1 FROM {} AS t WHERE t.deleted_at IS NOT NULL LIMIT 1",
        table.rows()
    );
    let held = session.as_owner(table, &deleted, &[])?;
    if !held.is_empty() {
        return Err(Failure::HoldsDeletedRows { table: found.shown });
    }
    hide::undo(session, table)?;
    triggers::drop_all(session, table)?;
    session.registry(
        "DELETE FROM keepsake.bound_storage WHERE relation = $1",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.declared_reference WHERE $1 IN (child, parent)",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.reference_override WHERE child = $1",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.managed_table WHERE relation = $1",
        &[oid.into()],
    )?;
    // No longer managed before its columns go: the event trigger then guards the references that it
    // may still have to managed tables.
    catalog::invalidate(oid);
    session.ddl(&format!(
        "ALTER TABLE {name} DROP COLUMN deleted_at, DROP COLUMN deletion_id"
    ))?;
    drop_guards::drop_needless_guards(session)
}

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
    state_columns: Vec<String>,
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
        Err(Failure::NotManaged { table: found.shown })
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
                format!("It refers to {partition}, one partition of a managed table.")
            }
            _ => return Ok(()),
        };
        Err(Failure::CannotManage {
            table: self.shown.clone(),
            why: trouble,
            fix: "Let the foreign key be between the partitioned tables themselves.".into(),
        })
    }

    fn check_safe(&self) -> Outcome<()> {
        self.check_owned()?;
        let expected = ["deleted_at timestamp with time zone", "deletion_id uuid"];
        let refusal = if self.persistence == "t" {
            Some((
                "It is a temporary table.".to_owned(),
                "Manage a permanent table.".to_owned(),
            ))
        } else if self.is_system {
            Some((
                "It belongs to PostgreSQL or to keepsake itself.".to_owned(),
                "Manage a table of your own.".to_owned(),
            ))
        } else if self.is_partition {
            Some((
                "It is a partition.".to_owned(),
                "Manage the partitioned table that it belongs to.".to_owned(),
            ))
        } else if !matches!(self.kind.as_str(), "r" | "p") || self.inherits {
            Some((
                "It is no table, or inherits: triggers, keys and foreign keys of a parent do not hold for rows of tables that inherit from it.".to_owned(),
                "Manage a plain or a partitioned table.".to_owned(),
            ))
        } else if let Some(trouble) = &self.partition_trouble {
            Some((
                trouble.clone(),
                "Move what concerns one partition to the partitioned table.".to_owned(),
            ))
        } else if !self.has_key {
            Some((
                "It has no primary key, so a deleted row could not be named.".to_owned(),
                format!("ALTER TABLE {} ADD PRIMARY KEY (…);", self.shown),
            ))
        } else if !self.state_columns.is_empty() && self.state_columns != expected {
            Some((
                format!(
                    "It has columns of the names that Keepsake needs, of other types: {}.",
                    self.state_columns.join(", ")
                ),
                "Rename them, or make them deleted_at timestamptz and deletion_id uuid.".to_owned(),
            ))
        } else {
            self.cascading_parent.as_ref().map(|parent| {
                (
                    format!("A hard delete in {parent} would cascade into it, and nothing could bring those rows back."),
                    format!(
                        "Manage the parent first: SELECT keepsake.manage('{}').",
                        parent.split(' ').next().unwrap_or(parent)
                    ),
                )
            })
        };
        match refusal {
            None => Ok(()),
            Some((why, fix)) => Err(Failure::CannotManage {
                table: self.shown.clone(),
                why,
                fix,
            }),
        }
    }
}

/// Registers what a plain DELETE does, when given, and answers with what it does now.
fn set_policy(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    policy: Option<OnPlainDelete>,
) -> Outcome<OnPlainDelete> {
    let name = session
        .registry(
            "UPDATE keepsake.managed_table SET on_delete = coalesce($2, on_delete) WHERE relation = $1
             RETURNING on_delete",
            &[oid.into(), policy.map(OnPlainDelete::name).into()],
        )?
        .first()
        .get_one::<String>()?;
    OnPlainDelete::parse(name.as_deref().unwrap_or_default())
}

/// Rows that something else has marked as deleted belong to no deletion, and could never come back.
fn refuse_foreign_marks(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 FROM {} AS t
         WHERE (t.deleted_at IS NULL) OPERATOR(pg_catalog.<>) (t.deletion_id IS NULL) LIMIT 1",
        table.rows()
    );
    if session.as_owner(table, &sql, &[])?.is_empty() {
        return Ok(());
    }
    Err(Failure::CannotManage {
        table: table.shown.clone(),
        why: "It holds rows with a deleted_at but no deletion_id, or the other way round.".into(),
        fix: "Delete these rows, or make them live, and delete them with keepsake.soft_delete()."
            .into(),
    })
}

const HAS_INDEX: &str = "
    SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = $1 AND a.attname = 'deletion_id' AND i.indisvalid";

/// The index that finds the rows of a deletion; over deleted rows alone, so that live ones pay
/// nothing for it.
fn add_index(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    if session.catalog(HAS_INDEX, &[table.oid.into()])?.is_empty() {
        let sql = format!(
            "CREATE INDEX ON {} (deletion_id) WHERE deletion_id IS NOT NULL",
            table.name
        );
        session.ddl(&sql)?;
    }
    Ok(())
}
