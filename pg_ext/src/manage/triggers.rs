//! Creates and drops the triggers of [`crate::call::own_triggers`] on tables.
//!
//! Row triggers of a partitioned table are PostgreSQL's to carry to its partitions; a statement's
//! fire only for the table that the statement names, so each partition gets them as well.

use pgrx::prelude::*;

use crate::call::own_triggers::{self, Carrier, Condition, OwnTrigger};
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::reference::Reference;
use crate::model::sql::{Ident, Qualified, join};
use crate::model::table::Table;
use crate::spi::session::{Session, first_column};

/// The triggers that Keepsake has on tables: `carried_by` says on which, `definition` when they fire.
#[pg_extern(immutable, parallel_safe)]
fn own_triggers() -> TableIterator<
    'static,
    (
        name!(name, String),
        name!(timing, String),
        name!(events, String),
        name!(level, String),
        name!(function, String),
        name!(carried_by, String),
        name!(purpose, String),
    ),
> {
    TableIterator::new(own_triggers::ALL.iter().map(|trigger| {
        (
            trigger.name().to_owned(),
            trigger.firing.timing().to_owned(),
            trigger.firing.events(),
            trigger.firing.level().to_owned(),
            trigger.function.to_owned(),
            trigger.carrier.name().to_owned(),
            trigger.purpose.to_owned(),
        )
    }))
}

/// The triggers of one table that are Keepsake's and not a copy of the partitioned table's.
pub const OWN_TRIGGERS: &str = "
    SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = $1 AND t.tgparentid = 0 AND p.pronamespace = 'keepsake'::regnamespace";

/// Creates or replaces the triggers that keep `deleted_at` and `deletion_id`, and answer a plain DELETE so.
pub fn guard_state(
    session: &mut Session<'_, '_>,
    table: &Table,
    on_delete: OnPlainDelete,
) -> Outcome<()> {
    for other in OnPlainDelete::ALL
        .iter()
        .filter(|other| **other != on_delete)
    {
        for trigger in own_triggers::on(Carrier::OnPlainDelete(*other)) {
            drop_trigger(session, table, trigger)?;
        }
    }
    create(session, table, Carrier::OnPlainDelete(on_delete), &[])?;
    create(session, table, Carrier::Managed, &[])?;
    if table.partitioned {
        create(session, table, Carrier::ManagedPartitioned, &[])?;
    }
    Ok(())
}

/// Creates or replaces the triggers that keep live rows from referring to deleted ones; on any table that refers to a
/// managed one, managed itself or not.
pub fn guard_references(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: &Table,
) -> Outcome<()> {
    let there = |(reference, _): &(&Reference, &Table)| !reference.lost;
    let mut references = graph
        .guarded_references_of(child.oid)
        .filter(there)
        .peekable();
    let Some((_, parent)) = references.peek() else {
        return Ok(());
    };
    refuse_partition(session, child, parent)?;
    create(session, child, Carrier::Referring, &[])?;
    defer_no_action(session, graph, child)?;
    if child.partitioned {
        create(session, child, Carrier::ReferringPartitioned, &[])?;
    }
    Ok(())
}

/// A partition whose reference is its own: rows that come by way of the partitioned table fire the statement's triggers of that table, which has
/// no such reference.
fn refuse_partition(session: &Session<'_, '_>, child: &Table, parent: &Table) -> Outcome<()> {
    let is_partition = "SELECT 1 FROM pg_class WHERE oid = $1 AND relispartition";
    if session
        .catalog_now(is_partition, &[child.oid.into()])?
        .is_empty()
    {
        return Ok(());
    }
    Err(Failure::CannotManage {
        table: parent.shown.clone(),
        why: format!(
            "{}, which is a partition, refers to it by a foreign key of its own.",
            child.shown
        ),
        fix: "Create the foreign key on the partitioned table, and drop that of the partition."
            .into(),
    })
}

const DEFERRED_PARENTS: &str = "
    SELECT DISTINCT con.confrelid FROM pg_constraint con
    WHERE con.contype = 'f' AND con.conrelid = $1 AND con.conparentid = 0 AND con.condeferrable AND con.condeferred AND con.confdeltype = 'a'
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = con.confrelid AND t.tgname = $2)";

/// Lets a deferred NO ACTION of the table's be checked at the commit, by a trigger on the parent.
fn defer_no_action(session: &mut Session<'_, '_>, graph: &Graph, child: &Table) -> Outcome<()> {
    for trigger in own_triggers::on(Carrier::Deferring) {
        let args = [child.oid.into(), trigger.name().into()];
        let parents: Vec<pg_sys::Oid> = first_column(session.catalog(DEFERRED_PARENTS, &args)?)?;
        for parent in parents.into_iter().filter_map(|oid| graph.table(oid)) {
            if parent.managed {
                let create = definition(&parent.name, trigger, &[]);
                session.as_owner(parent, &create, &[])?;
                cache::invalidate(parent.oid);
            }
        }
    }
    Ok(())
}

/// Creates or replaces the triggers that such a table has. `columns` are those of their conditions.
pub fn create(
    session: &mut Session<'_, '_>,
    table: &Table,
    carrier: Carrier,
    columns: &[&Ident],
) -> Outcome<()> {
    for trigger in own_triggers::on(carrier) {
        create_on(session, &table.name, trigger, columns)?;
        if !trigger.firing.is_for_each_row() {
            for partition in &table.partitions {
                create_on(session, &partition.name, trigger, columns)?;
            }
        }
    }
    Ok(())
}

/// Creates or replaces one of them on a table.
pub fn create_on(
    session: &mut Session<'_, '_>,
    table: &Qualified,
    trigger: &OwnTrigger,
    columns: &[&Ident],
) -> Outcome<()> {
    session.ddl(&definition(table, trigger, columns))
}

/// The statement that creates one of them. A deferred one is a constraint's, which no statement replaces.
fn definition(table: &Qualified, trigger: &OwnTrigger, columns: &[&Ident]) -> String {
    let firing = trigger.firing;
    let (create, deferred) = if trigger.carrier == Carrier::Deferring {
        (
            "CREATE CONSTRAINT TRIGGER",
            "DEFERRABLE INITIALLY DEFERRED ",
        )
    } else {
        ("CREATE OR REPLACE TRIGGER", "")
    };
    format!(
        "{create} {name} {timing} {events} ON {table} {deferred}{transition}{level}{condition}
         EXECUTE FUNCTION keepsake.{function}()",
        name = Ident(trigger.name().to_owned()),
        timing = firing.timing(),
        events = firing.events(),
        transition = firing.transition(),
        level = firing.level(),
        condition = when(trigger.condition, columns),
        function = trigger.function,
    )
}

/// The condition of a trigger in SQL.
fn when(condition: Condition, columns: &[&Ident]) -> String {
    let condition = match condition {
        Condition::Always => return String::new(),
        Condition::HasMarks => "NEW.deleted_at IS NOT NULL OR NEW.deletion_id IS NOT NULL".into(),
        Condition::MarksChange => {
            let marks = ["deleted_at", "deletion_id"].map(|name| Ident(name.into()));
            any_differs(&marks)
        }
        Condition::IsDeleted => "OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL".into(),
        Condition::ColumnsChange => any_differs(columns.iter().copied()),
        Condition::ColumnsOfDeletedChange => {
            let changes = any_differs(columns.iter().copied());
            format!("OLD.deleted_at IS NOT NULL AND ({changes})")
        }
    };
    format!(" WHEN ({condition})")
}

/// The condition, for a row trigger of an UPDATE, that one of the columns changes, by so much as a bit: rows are
/// compared as they are stored, by a function of PostgreSQL's own, so that no operator of a type, which may be anybody's, is
/// stored with the trigger.
fn any_differs<'a>(columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let columns: Vec<_> = columns.into_iter().collect();
    let row = |name| {
        join(
            columns.iter().map(|column| format!("{name}.{column}")),
            ", ",
        )
    };
    format!(
        "pg_catalog.record_image_ne(ROW({}), ROW({}))",
        row("OLD"),
        row("NEW")
    )
}

fn drop_trigger(session: &mut Session<'_, '_>, table: &Table, trigger: &OwnTrigger) -> Outcome<()> {
    let name = trigger.name();
    let of_that_name = "SELECT 1 FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2";
    let found = session.catalog(of_that_name, &[table.oid.into(), name.into()])?;
    if !found.is_empty() {
        let name = Ident(name.to_owned());
        session.ddl(&format!("DROP TRIGGER {name} ON {}", table.name))?;
    }
    Ok(())
}

/// Drops every trigger of Keepsake's from a table and its partitions.
pub fn drop_all(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let parts = table.partitions.iter().map(|part| (part.oid, &part.name));
    for (oid, name) in std::iter::once((table.oid, &table.name)).chain(parts) {
        let triggers: Vec<String> = first_column(session.catalog(OWN_TRIGGERS, &[oid.into()])?)?;
        for trigger in triggers {
            session.ddl(&format!("DROP TRIGGER {} ON {name}", Ident(trigger)))?;
        }
    }
    Ok(())
}
