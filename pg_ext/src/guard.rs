//! The triggers of managed tables and of tables that refer to them.

use std::collections::HashSet;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{PgTrigger, Uuid, pg_sys};

use crate::engine_write::EngineWrite;
use crate::error::{Failure, Outcome, raise_unless_ok};
use crate::graph::{Graph, Kind, Reference, Table};
use crate::hold;
use crate::session::{Session, with_session};
use crate::sql::{Ident, join};

type Row<'a> = PgHeapTuple<'a, AllocatedByPostgres>;
/// What a trigger function answers; its errors are raised, never returned.
pub type TriggerReturn<'a> = Result<Option<Row<'a>>, std::convert::Infallible>;

/// BEFORE TRUNCATE: refused, whoever asks.
#[pg_trigger]
fn refuse_truncate<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok::<()>(shown(trigger).and_then(|table| Err(Failure::Truncate { table })));
    Ok(None)
}

/// BEFORE INSERT of a row that is marked already.
#[pg_trigger]
fn refuse_marked<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok(only_the_engine(trigger));
    Ok(trigger.new())
}

/// BEFORE UPDATE of a row's key, by which its deletion and its holds know it: refused while it is
/// deleted or held.
#[pg_trigger]
fn keep_key<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok(with_session(|session| {
        let graph = Graph::current(session)?;
        let Some(table) = graph.table_or_root(relation(trigger)?) else {
            return Ok(());
        };
        if is_deleted(trigger) {
            only_the_engine(trigger)?;
        }
        hold::refuse_if_held(session, table, trigger)
    }));
    Ok(trigger.new())
}

/// AFTER INSERT, once a statement: no new row may refer to a deleted one. Runs after the foreign
/// key's own check, which has waited for whoever was deleting the parent.
#[pg_trigger]
fn guard_insert<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok(with_session(|session| {
        let child = relation(trigger)?;
        let graph = Graph::current(session)?;
        // Also called for the rows that an UPDATE of a partitioned table moves, the engine's too.
        if graph
            .table_or_root(child)
            .is_some_and(|table| EngineWrite::is_to(table.oid))
        {
            return Ok(());
        }
        session.register_transition_tables(trigger)?;
        check_references(session, child, "keepsake_new", &[], |_| true)
    }));
    Ok(None)
}

/// AFTER UPDATE of a referring column: the row may not have moved under a deleted parent; and a deleted
/// row not while it is restored, when its parents have been looked at already.
#[pg_trigger]
fn guard_update<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok(with_session(|session| {
        let child = relation(trigger)?;
        let graph = Graph::current(session)?;
        let Some(table) = graph.table_or_root(child) else {
            return Ok(());
        };
        // What the engine itself makes a row refer to, it has looked at; not at what else a column
        // of several references makes it refer to. What it has not changed yet, it may be about to.
        let by_engine = EngineWrite::is_to(table.oid);
        if by_engine && !shares_columns(&graph, table) {
            return Ok(());
        }
        if table.managed
            && !EngineWrite::is_to(table.oid)
            && let Some(deletion) = deletion_of(trigger)
        {
            return keep_from_settling(session, table, deletion);
        }
        let (source, values) = new_row(trigger, table)?;
        check_references(session, child, &source, &values, |reference| {
            !by_engine || is_moved(trigger, reference)
        })
    }));
    Ok(None)
}

/// Keeps a deletion as it is until the transaction ends: a restore or purge of it waits. One that is
/// under way would wait for our row, so it is not waited for.
fn keep_from_settling(session: &mut Session<'_, '_>, table: &Table, deletion: Uuid) -> Outcome<()> {
    let settling: Option<bool> = session
        .registry_kept(
            "SELECT EXISTS (SELECT FROM keepsake.deletion WHERE id = $1) AND NOT EXISTS (
                 SELECT FROM keepsake.deletion WHERE id = $1 FOR KEY SHARE SKIP LOCKED)",
            &[deletion.into()],
        )?
        .first()
        .get_one()?;
    if settling == Some(true) {
        return Err(Failure::Settling {
            table: table.shown.clone(),
        });
    }
    Ok(())
}

/// Whether a column of the table belongs to several references.
fn shares_columns(graph: &Graph, table: &Table) -> bool {
    let mut seen = HashSet::new();
    graph
        .references_of(table.oid)
        .flat_map(|(reference, _)| reference.child_columns())
        .any(|column| !seen.insert(&column.0))
}

/// Whether a column of the reference is another in the new row of an AFTER UPDATE trigger.
fn is_moved(trigger: &PgTrigger<'_>, reference: &Reference) -> bool {
    let data = trigger.trigger_data();
    let differs = |column: &Ident| {
        let Ok(name) = std::ffi::CString::new(column.0.as_str()) else {
            return true;
        };
        // SAFETY: in an AFTER UPDATE row trigger both tuples are valid and described by the
        // relation's descriptor, whose types tell how their values are stored.
        unsafe {
            let descriptor = (*data.tg_relation).rd_att;
            let number = pg_sys::SPI_fnumber(descriptor, name.as_ptr());
            let read = |tuple| {
                let mut is_null = false;
                let datum = pg_sys::SPI_getbinval(tuple, descriptor, number, &raw mut is_null);
                (!is_null).then_some(datum)
            };
            match (read(data.tg_trigtuple), read(data.tg_newtuple)) {
                (Some(old), Some(new)) => {
                    let (mut length, mut by_value) = (0, false);
                    let type_oid = pg_sys::SPI_gettypeid(descriptor, number);
                    pg_sys::get_typlenbyval(type_oid, &raw mut length, &raw mut by_value);
                    !pg_sys::datumIsEqual(old, new, by_value, i32::from(length))
                }
                (old, new) => old.is_some() != new.is_some(),
            }
        }
    };
    reference.child_columns().into_iter().any(differs)
}

/// Refuses when rows already in `child` would have failed the guard.
pub fn check_existing(session: &mut Session<'_, '_>, child: pg_sys::Oid) -> Outcome<()> {
    let source = Graph::current(session)?.table(child).map(Table::rows);
    source.map_or(Ok(()), |source| {
        check_references(session, child, &source, &[], |_| true)
    })
}

/// Refuses to let the row of a BEFORE DELETE trigger go for good while another row, live or deleted,
/// refers to it by a declared reference, as a foreign key that restricts would. Whoever makes a row
/// refer to it locks it first, as the DELETE did before it fired the trigger.
pub fn refuse_if_declared(
    session: &mut Session<'_, '_>,
    table: &Table,
    trigger: &PgTrigger<'_>,
) -> Outcome<()> {
    let graph = Graph::current(session)?;
    let declared = graph
        .references_to(table.oid)
        .filter(|(reference, _)| reference.is_declared());
    for (reference, child) in declared {
        reference.check_readable(child, table)?;
        let mut values = Vec::with_capacity(table.key.len());
        let (mut columns, mut same) = (Vec::new(), Vec::new());
        for key in &table.key {
            let (name, equals) = (&key.name, &key.equals);
            values.push(hold::old_value(trigger, &name.0, key.type_oid)?);
            columns.push(format!("${} AS {name}", values.len()));
            same.push(format!("c.{name} {equals} p.{name}"));
        }
        let another = if child.oid == table.oid {
            format!(" AND NOT ({})", join(same, " AND "))
        } else {
            String::new()
        };
        let sql = format!(
            "SELECT 1 FROM (SELECT {columns}) AS p JOIN {children} AS c ON {joins}{another} LIMIT 1",
            columns = join(columns, ", "),
            children = child.rows(),
            joins = reference.joins("c", "p"),
        );
        if session.exists_now((child.oid, child.owner), &sql, &values)? {
            return Err(Failure::DeclaredReferrer {
                table: table.shown.clone(),
                child: child.shown.clone(),
                reference: reference.name.clone(),
            });
        }
    }
    Ok(())
}

/// Whether the row of a trigger is deleted before it fires.
pub fn is_deleted(trigger: &PgTrigger<'_>) -> bool {
    deletion_of(trigger).is_some()
}

/// The deletion that the row of a trigger belongs to before it fires.
fn deletion_of(trigger: &PgTrigger<'_>) -> Option<Uuid> {
    let data = trigger.trigger_data();
    // SAFETY: in a row trigger of an UPDATE or DELETE the old tuple is valid and described by the
    // relation's descriptor; a column of that name has the type that it is read as.
    unsafe {
        let descriptor = (*data.tg_relation).rd_att;
        let column = pg_sys::SPI_fnumber(descriptor, c"deletion_id".as_ptr());
        if pg_sys::SPI_gettypeid(descriptor, column) != pg_sys::UUIDOID {
            return None;
        }
        let mut is_null = true;
        let datum = pg_sys::SPI_getbinval(data.tg_trigtuple, descriptor, column, &raw mut is_null);
        Uuid::from_datum(datum, is_null)
    }
}

fn only_the_engine(trigger: &PgTrigger<'_>) -> Outcome<()> {
    let graph = Graph::known()?;
    let table = graph.table_or_root(relation(trigger)?);
    match table.filter(|table| !EngineWrite::is_to(table.oid)) {
        None => Ok(()),
        Some(table) => Err(Failure::StateWrittenByHand {
            table: table.shown.clone(),
        }),
    }
}

/// The table whose row or statement fired the trigger; a partition, where it is one.
pub fn relation(trigger: &PgTrigger<'_>) -> Outcome<pg_sys::Oid> {
    trigger.relid().map_err(protocol)
}

fn shown(trigger: &PgTrigger<'_>) -> Outcome<String> {
    let schema = trigger.table_schema().map_err(protocol)?;
    let table = trigger.table_name().map_err(protocol)?;
    Ok(spi::quote_qualified_identifier(schema, table))
}

fn protocol(error: impl std::fmt::Display) -> Failure {
    Failure::BadArgument {
        what: format!("not called as a trigger: {error}"),
        fix: "These functions serve the triggers that keepsake.manage() makes.".into(),
    }
}

/// The new row as a one-row source for a query: its columns as arguments, typed as they are, so
/// that only the parent's table is read.
fn new_row(
    trigger: &PgTrigger<'_>,
    table: &Table,
) -> Outcome<(String, Vec<DatumWithOid<'static>>)> {
    let data = trigger.trigger_data();
    let mut values = Vec::with_capacity(table.columns.len());
    let mut columns = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        let name = std::ffi::CString::new(column.0.as_str()).map_err(protocol)?;
        // SAFETY: in an AFTER UPDATE row trigger tg_newtuple is a valid tuple of tg_relation,
        // whose descriptor describes it; the datum points into that tuple, which outlives the
        // trigger's call, and the argument list ends within it.
        let (datum, type_oid) = unsafe {
            let descriptor = (*data.tg_relation).rd_att;
            let number = pg_sys::SPI_fnumber(descriptor, name.as_ptr());
            let mut is_null = false;
            let datum =
                pg_sys::SPI_getbinval(data.tg_newtuple, descriptor, number, &raw mut is_null);
            (
                if is_null { None } else { Some(datum) },
                pg_sys::SPI_gettypeid(descriptor, number),
            )
        };
        values.push(match datum {
            // SAFETY: value and type come from the same attribute of the same descriptor.
            Some(datum) => unsafe { DatumWithOid::new(datum, type_oid) },
            None => DatumWithOid::null_oid(type_oid),
        });
        columns.push(format!("${} AS {column}", values.len()));
    }
    Ok((format!("(SELECT {})", join(columns, ", ")), values))
}

/// Refuses when a live row of `source` refers to a deleted row of a managed table by a reference that
/// is `concerned`; a declared reference must also find its row at all.
fn check_references(
    session: &mut Session<'_, '_>,
    child: pg_sys::Oid,
    source: &str,
    values: &[DatumWithOid<'_>],
    concerned: impl Fn(&Reference) -> bool,
) -> Outcome<()> {
    let graph = Graph::current(session)?;
    let relation = child;
    let Some(child) = graph.table_or_root(relation) else {
        return Ok(());
    };
    let references = graph.references_of(child.oid);
    for (reference, parent) in references.filter(|(reference, _)| concerned(reference)) {
        // A table of attachments has a reference for each type of thing; most statements mean one of them.
        let at = (relation, parent.owner);
        let declared = reference.is_declared();
        if declared && !session.exists_now(at, &meant(source, reference), values)? {
            continue;
        }
        if reference.deferrable || declared {
            lock_parents(session, child, source, reference, parent, values)?;
        }
        let orphans = orphans(child, source, reference, parent);
        if session.exists_now(at, &orphans, values)? {
            return Err(Failure::DeadParent {
                child: child.shown.clone(),
                parent: parent.shown.clone(),
                reference: reference.name.clone(),
            });
        }
    }
    Ok(())
}

/// Rows of `source` that mean a row of the parent's table.
fn meant(source: &str, reference: &Reference) -> String {
    let set = reference.is_set("c");
    format!("SELECT 1 FROM {source} AS c WHERE {set} LIMIT 1")
}

/// Live rows of `source` whose parent is deleted or, for a declared reference, not there.
fn orphans(child: &Table, source: &str, reference: &Reference, parent: &Table) -> String {
    let live = live(child);
    let joins = reference.joins_by_parent_key("c", "p");
    let parent_name = parent.rows();
    match reference.kind {
        Kind::ForeignKey => format!(
            "SELECT 1 FROM {source} AS c JOIN {parent_name} AS p ON {joins} WHERE {live} AND p.deleted_at IS NOT NULL LIMIT 1"
        ),
        Kind::Declared { .. } => format!(
            "SELECT 1 FROM {source} AS c WHERE {live} AND {set}
             AND NOT EXISTS (SELECT FROM {parent_name} AS p WHERE {joins} AND p.deleted_at IS NULL) LIMIT 1",
            set = reference.is_set("c"),
        ),
    }
}

fn live(child: &Table) -> &'static str {
    if child.managed {
        "c.deleted_at IS NULL"
    } else {
        "true"
    }
}

/// Takes the lock that a foreign key's check would take, or has not taken yet, so that a deletion of the parent waits
/// for this transaction, or this one for it.
fn lock_parents(
    session: &mut Session<'_, '_>,
    child: &Table,
    source: &str,
    reference: &Reference,
    parent: &Table,
    values: &[DatumWithOid<'_>],
) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 FROM {parent_name} AS p WHERE EXISTS (SELECT FROM {source} AS c WHERE {live} AND {joins}) ORDER BY {key} FOR KEY SHARE OF p",
        parent_name = parent.rows(),
        live = live(child),
        joins = reference.joins_by_parent_key("c", "p"),
        key = parent.key_columns("p"),
    );
    session.as_owner(parent, &sql, values)?;
    Ok(())
}
