//! `manage` and `unmanage`: what a table gets when it is given to Keepsake.

use pgrx::PgRelation;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::catalog;
use crate::error::{Failure, Outcome, required};
use crate::graph::{Graph, Table};
use crate::hold;
use crate::retention;
use crate::session::{Session, first_column, with_session};
use crate::sql::{Ident, join};

const DESCRIBE: &str = include_str!("../sql/describe_table.sql");

/// Gives `table` to Keepsake: adds `deleted_at` and `deletion_id`, the index and triggers that
/// soft deletion needs, and registers how long its deleted rows are kept. A second call mends
/// what is missing and changes nothing else. Only the table's owner may call it.
///
/// # Errors
/// 0A000 with the fix in the HINT when the table cannot be kept safe; 42501 for anyone but the owner.
#[pg_extern]
fn manage(
    relation: Option<PgRelation>,
    retention: default!(Option<Interval>, "NULL"),
) -> Result<(), ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    Ok(with_session(|session| take_on(session, oid, retention))?)
}

/// Takes `table` back from Keepsake: triggers, index and the two columns go.
///
/// # Errors
/// 55000 while it still holds soft-deleted rows; 42501 for anyone but the owner.
#[pg_extern]
fn unmanage(relation: PgRelation) -> Result<(), ErrorReport> {
    Ok(with_session(|session| {
        hand_back(session, oid_of(relation))
    })?)
}

/// The table's OID, with the relation closed again: a table that is open cannot be altered.
pub fn oid_of(relation: PgRelation) -> pg_sys::Oid {
    relation.oid()
}

fn take_on(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    retention: Option<Interval>,
) -> Outcome<()> {
    let found = describe(session, oid)?;
    found.check_safe()?;
    retention::register(session, oid, retention)?;
    catalog::invalidate(oid);
    if found.state_columns.is_empty() {
        let name = Graph::current(session)?
            .managed(session, oid)?
            .name
            .to_string();
        session.as_caller(
            &format!("ALTER TABLE {name} ADD COLUMN deleted_at pg_catalog.timestamptz, ADD COLUMN deletion_id pg_catalog.uuid"),
            &[],
        )?;
        catalog::invalidate(oid);
    }
    let graph = Graph::current(session)?;
    let table = graph.managed(session, oid)?;
    refuse_foreign_marks(session, table)?;
    add_index(session, table)?;
    add_state_triggers(session, table)?;
    hold::add_key_guard(session, table)?;
    add_reference_guards(session, &graph, table)?;
    for (_, child) in graph.references_to(oid) {
        add_reference_guards(session, &graph, child)?;
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
    session.as_caller(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"), &[])?;
    let held = session.as_caller(
        &format!("SELECT 1 FROM {name} WHERE deleted_at IS NOT NULL LIMIT 1"),
        &[],
    )?;
    if !held.is_empty() {
        return Err(Failure::HoldsDeletedRows { table: found.shown });
    }
    let triggers: Vec<String> = first_column(session.catalog(OWN_TRIGGERS, &[oid.into()])?)?;
    for trigger in triggers {
        session.as_caller(&format!("DROP TRIGGER {} ON {name}", Ident(trigger)), &[])?;
    }
    session.registry(
        "DELETE FROM keepsake.bound_storage WHERE relation = $1",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.declared_reference WHERE $1 IN (child, parent)",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.managed_table WHERE relation = $1",
        &[oid.into()],
    )?;
    // No longer managed before its columns go: the event trigger then guards the references that it
    // may still have to managed tables.
    catalog::invalidate(oid);
    session.as_caller(
        &format!("ALTER TABLE {name} DROP COLUMN deleted_at, DROP COLUMN deletion_id"),
        &[],
    )?;
    Ok(())
}

const OWN_TRIGGERS: &str = "
    SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = $1 AND p.pronamespace = 'keepsake'::regnamespace";

/// What the catalog says of a table, before it is in the graph.
pub struct Description {
    /// The name as the caller would write it.
    pub shown: String,
    /// Whether it is managed already.
    pub managed: bool,
    kind: String,
    persistence: String,
    inherits: bool,
    owned: bool,
    has_key: bool,
    is_system: bool,
    state_columns: Vec<String>,
    cascading_parent: Option<String>,
    partitioned_child: Option<String>,
}

/// Describes `table`.
pub fn describe(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<Description> {
    let mut rows = session.catalog(DESCRIBE, &[table.into()])?;
    let row = rows.next().ok_or_else(|| Failure::RowNotFound {
        table: "pg_class".into(),
    })?;
    let flag = |name: &str| -> Outcome<bool> { Ok(row.get_by_name(name)?.unwrap_or(false)) };
    Ok(Description {
        shown: text(&row, "shown")?.unwrap_or_default(),
        managed: flag("managed")?,
        kind: text(&row, "kind")?.unwrap_or_default(),
        persistence: text(&row, "persistence")?.unwrap_or_default(),
        inherits: flag("inherits")?,
        owned: flag("owned")?,
        has_key: flag("has_key")?,
        is_system: flag("is_system")?,
        state_columns: row.get_by_name("state_columns")?.unwrap_or_default(),
        cascading_parent: text(&row, "cascading_parent")?,
        partitioned_child: text(&row, "partitioned_child")?,
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
        } else if self.kind != "r" || self.inherits {
            Some((
                "Only ordinary tables without partitions or inheritance can be managed: triggers of a parent do not fire for its partitions' rows.".to_owned(),
                "Manage a plain table.".to_owned(),
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
        } else if let Some(parent) = &self.cascading_parent {
            Some((
                format!(
                    "A hard delete in {parent} would cascade into it, and nothing could bring those rows back."
                ),
                format!(
                    "Manage the parent first: SELECT keepsake.manage('{}').",
                    parent.split(' ').next().unwrap_or(parent)
                ),
            ))
        } else {
            self.partitioned_child.as_ref().map(|child| {
                (
                    format!("The partitioned table {child} refers to it, and its partitions cannot be guarded."),
                    "Drop that foreign key, or refer from a plain table.".to_owned(),
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

/// Rows that something else has marked as deleted belong to no deletion, and could never come back.
fn refuse_foreign_marks(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 FROM {} AS t
         WHERE (t.deleted_at IS NULL) OPERATOR(pg_catalog.<>) (t.deletion_id IS NULL) LIMIT 1",
        table.rows()
    );
    if session.as_caller(&sql, &[])?.is_empty() {
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
        session.as_caller(&sql, &[])?;
    }
    Ok(())
}

fn add_state_triggers(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    // The key of a deleted row is how its deletion knows it.
    let key_moved = any_differs(table.key.iter().map(|column| &column.name));
    let marks_moved = any_differs(&["deleted_at", "deletion_id"].map(|name| Ident(name.into())));
    let changed = format!("{marks_moved} OR (OLD.deletion_id IS NOT NULL AND ({key_moved}))");
    add_trigger(
        session,
        table,
        "keepsake_refuse_delete",
        "BEFORE DELETE",
        "FOR EACH ROW",
        "keepsake.refuse_delete",
    )?;
    add_trigger(
        session,
        table,
        "keepsake_refuse_truncate",
        "BEFORE TRUNCATE",
        "FOR EACH STATEMENT",
        "keepsake.refuse_truncate",
    )?;
    add_trigger(
        session,
        table,
        "keepsake_insert_live",
        "BEFORE INSERT",
        "FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL OR NEW.deletion_id IS NOT NULL)",
        "keepsake.protect_state",
    )?;
    add_trigger(
        session,
        table,
        "keepsake_protect_state",
        "BEFORE UPDATE",
        &format!("FOR EACH ROW WHEN ({changed})"),
        "keepsake.protect_state",
    )
}

/// The triggers that keep live rows from referring to deleted ones; on any table that refers to a
/// managed one, managed itself or not. Made anew each time, since its references may have changed.
pub fn add_reference_guards(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: &Table,
) -> Outcome<()> {
    let mut references = graph.references_of(child.oid).peekable();
    if references.peek().is_none() {
        return Ok(());
    }
    let moved = any_differs(references.flat_map(|(reference, _)| reference.child_columns()));
    add_trigger(
        session,
        child,
        "keepsake_guard_insert",
        "AFTER INSERT",
        "REFERENCING NEW TABLE AS keepsake_new FOR EACH STATEMENT",
        "keepsake.guard_insert",
    )?;
    add_trigger(
        session,
        child,
        "keepsake_guard_update",
        "AFTER UPDATE",
        &format!("FOR EACH ROW WHEN ({moved})"),
        "keepsake.guard_update",
    )
}

/// The condition, for a row trigger of an UPDATE, that one of the columns changes.
pub fn any_differs<'a>(columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let terms = columns
        .into_iter()
        .map(|column| format!("OLD.{column} IS DISTINCT FROM NEW.{column}"));
    join(terms, " OR ")
}

/// Creates or replaces one of Keepsake's triggers.
pub fn add_trigger(
    session: &mut Session<'_, '_>,
    table: &Table,
    name: &str,
    event: &str,
    granularity: &str,
    function: &str,
) -> Outcome<()> {
    session.as_caller(
        &format!("CREATE OR REPLACE TRIGGER {name} {event} ON {} {granularity} EXECUTE FUNCTION {function}()", table.name),
        &[],
    )?;
    Ok(())
}
