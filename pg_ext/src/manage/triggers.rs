//! The triggers that a table gets when it is given to Keepsake, or when it refers to one that was.
//!
//! Row triggers of a partitioned table are PostgreSQL's to carry to its partitions; a statement's
//! fire only for the table that the statement names, so each partition gets them as well.

use pgrx::pg_sys;

use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::error::Outcome;
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::reference::Reference;
use crate::model::sql::{Ident, Qualified, join};
use crate::model::table::Table;
use crate::spi::session::{Session, first_column};

/// The triggers of one table that are Keepsake's and not a copy of the partitioned table's.
const OWN_TRIGGERS: &str = "
    SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = $1 AND t.tgparentid = 0 AND p.pronamespace = 'keepsake'::regnamespace";

/// One of Keepsake's triggers.
#[derive(Clone, Copy, Debug)]
pub struct Trigger<'a> {
    /// Its name: `keepsake_…`.
    pub name: &'a str,
    /// When it fires.
    pub event: &'a str,
    /// The rest of its definition, up to the function.
    pub clause: &'a str,
    /// The function, in the schema `keepsake`.
    pub function: &'a str,
}

const EACH_STATEMENT: &str = "FOR EACH STATEMENT";
const EACH_ROW: &str = "FOR EACH ROW";

/// The triggers that keep `deleted_at` and `deletion_id`, and turn a plain DELETE into what the
/// table's policy says.
pub fn guard_state(
    session: &mut Session<'_, '_>,
    table: &Table,
    policy: OnPlainDelete,
) -> Outcome<()> {
    let marks_moved = any_differs(&["deleted_at", "deletion_id"].map(|name| Ident(name.into())));
    for other in OnPlainDelete::ALL.iter().filter(|other| **other != policy) {
        drop_trigger(session, table, other.trigger())?;
    }
    let on_each_row = [
        Trigger {
            name: policy.trigger(),
            event: "BEFORE DELETE",
            clause: EACH_ROW,
            function: policy.function(),
        },
        Trigger {
            name: "keepsake_insert_live",
            event: "BEFORE INSERT",
            clause: "FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL OR NEW.deletion_id IS NOT NULL)",
            function: "refuse_marked",
        },
        Trigger {
            name: "keepsake_insert_again",
            event: "BEFORE INSERT",
            clause: EACH_ROW,
            function: "insert_again",
        },
        Trigger {
            name: "keepsake_protect_state",
            event: "BEFORE UPDATE",
            clause: &format!("FOR EACH ROW WHEN ({marks_moved})"),
            function: "protect_state",
        },
        Trigger {
            // By its key a row is known to its deletion and to holds. A condition would name the key's columns, which
            // then could not be dropped or change their type.
            name: "keepsake_keep_row_key",
            event: "BEFORE UPDATE",
            clause: EACH_ROW,
            function: "keep_key",
        },
    ];
    for trigger in on_each_row {
        add(session, &table.name, trigger)?;
    }
    let on_each_statement = [
        Trigger {
            name: "keepsake_refuse_truncate",
            event: "BEFORE TRUNCATE",
            clause: EACH_STATEMENT,
            function: "refuse_truncate",
        },
        Trigger {
            name: "keepsake_finish_delete",
            event: "AFTER DELETE",
            clause: EACH_STATEMENT,
            function: "finish_statement",
        },
        Trigger {
            name: "keepsake_finish_update",
            event: "AFTER UPDATE",
            clause: EACH_STATEMENT,
            function: "finish_statement",
        },
    ];
    for trigger in on_each_statement {
        add_everywhere(session, table, trigger)?;
    }
    if table.partitioned {
        let begin = Trigger {
            name: "keepsake_begin_update",
            event: "BEFORE UPDATE OR DELETE",
            clause: EACH_STATEMENT,
            function: "begin_update",
        };
        add_everywhere(session, table, begin)?;
    }
    Ok(())
}

/// The triggers that keep live rows from referring to deleted ones; on any table that refers to a
/// managed one, managed itself or not. Made anew each time, since its references may have changed.
pub fn guard_references(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: &Table,
) -> Outcome<()> {
    let there = |(reference, _): &(&Reference, &Table)| !reference.lost;
    let mut references = graph.references_of(child.oid).filter(there).peekable();
    if references.peek().is_none() {
        return Ok(());
    }
    let new_rows = Trigger {
        name: "keepsake_guard_insert",
        event: "AFTER INSERT",
        clause: "REFERENCING NEW TABLE AS keepsake_new FOR EACH STATEMENT",
        function: "guard_insert",
    };
    add_everywhere(session, child, new_rows)?;
    defer_no_action(session, graph, child)?;
    let moved_rows = Trigger {
        name: "keepsake_guard_update",
        event: "AFTER UPDATE",
        clause: EACH_ROW,
        function: "guard_update",
    };
    add(session, &child.name, moved_rows)?;
    if child.partitioned {
        // A row that an UPDATE moves to another partition fires no UPDATE trigger of its own.
        let across_partitions = Trigger {
            name: "keepsake_guard_moved",
            event: "AFTER UPDATE",
            ..new_rows
        };
        add_everywhere(session, child, across_partitions)?;
    }
    Ok(())
}

const DEFERRED_PARENTS: &str = "
    SELECT DISTINCT con.confrelid FROM pg_constraint con
    WHERE con.contype = 'f' AND con.conrelid = $1 AND con.conparentid = 0 AND con.condeferrable AND con.condeferred AND con.confdeltype = 'a'
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = con.confrelid AND t.tgname = 'keepsake_check_deferred')";

/// Lets a deferred NO ACTION of the table's be checked at the commit, by a trigger on the parent.
fn defer_no_action(session: &mut Session<'_, '_>, graph: &Graph, child: &Table) -> Outcome<()> {
    let parents: Vec<pg_sys::Oid> =
        first_column(session.catalog(DEFERRED_PARENTS, &[child.oid.into()])?)?;
    for parent in parents.into_iter().filter_map(|oid| graph.table(oid)) {
        if parent.managed {
            let create = format!(
                "CREATE CONSTRAINT TRIGGER keepsake_check_deferred AFTER UPDATE ON {} DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION keepsake.check_deferred()",
                parent.name
            );
            session.as_owner(parent, &create, &[])?;
            cache::invalidate(parent.oid);
        }
    }
    Ok(())
}

/// The condition, for a row trigger of an UPDATE, that one of the columns changes, by so much as a bit: rows are
/// compared as they are stored, by a function of PostgreSQL's own, so that no operator of a type, which may be anybody's, is
/// stored with the trigger.
pub fn any_differs<'a>(columns: impl IntoIterator<Item = &'a Ident>) -> String {
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

/// Creates or replaces a statement's trigger on a table and all its partitions.
pub fn add_everywhere(
    session: &mut Session<'_, '_>,
    table: &Table,
    trigger: Trigger<'_>,
) -> Outcome<()> {
    add(session, &table.name, trigger)?;
    table
        .partitions
        .iter()
        .try_for_each(|partition| add(session, &partition.name, trigger))
}

/// Creates or replaces a trigger on one table.
pub fn add(session: &mut Session<'_, '_>, table: &Qualified, trigger: Trigger<'_>) -> Outcome<()> {
    let Trigger {
        name,
        event,
        clause,
        function,
    } = trigger;
    session.ddl(
        &format!("CREATE OR REPLACE TRIGGER {name} {event} ON {table} {clause} EXECUTE FUNCTION keepsake.{function}()"),
    )?;
    Ok(())
}

fn drop_trigger(session: &mut Session<'_, '_>, table: &Table, name: &str) -> Outcome<()> {
    let of_that_name = "SELECT 1 FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2";
    let found = session.catalog(of_that_name, &[table.oid.into(), name.into()])?;
    if !found.is_empty() {
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
