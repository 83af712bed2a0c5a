//! Reads that do not see deleted rows, as the application chooses for each table: through a view of
//! the live ones, or by a row-level policy on the table itself.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::manage::hiding_policies;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, Qualified, join};
use crate::model::table::Table;
use crate::registry::description::describe_managed;
use crate::spi::session::{Session, with_session};

/// Hides deleted rows of `table` from ordinary reads: `how` is 'view' (a view `<table>_live`),
/// 'policy' (row-level security on the table itself), or 'nothing', which undoes either. A second
/// call mends what is missing, and adds columns that the table got since to the view.
///
/// # Errors
/// 0A000 with the fix in the HINT when it cannot be done; 55000 when the table is not managed; 22023
/// for another `how`; 42501 for anyone but the owner.
#[pg_extern]
fn hide_deleted(relation: Regclass, how: &str) -> Result<(), ErrorReport> {
    let oid = relation.oid();
    let how = How::parse(how)?;
    Ok(with_session(|session| hide(session, oid, how))?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    View,
    Policy,
    Nothing,
}

impl How {
    fn parse(name: &str) -> Outcome<Self> {
        match name {
            "view" => Ok(Self::View),
            "policy" => Ok(Self::Policy),
            "nothing" => Ok(Self::Nothing),
            _ => Err(Failure::BadArgument {
                what: format!("unknown way to hide deleted rows: '{name}'"),
                fix: "Pass 'view', 'policy' or 'nothing'.".into(),
            }),
        }
    }
}

fn hide(session: &mut Session<'_, '_>, oid: pg_sys::Oid, how: How) -> Outcome<()> {
    describe_managed(session, oid)?;
    let graph = cache::current(session)?;
    let table = graph.managed(session, oid)?;
    // Two calls at once would each find the table as it was.
    let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", table.name);
    session.ddl(&lock)?;
    if Hiding::of(session, table)?.how != how {
        undo(session, table)?;
    }
    match how {
        How::View => show_view(session, table),
        How::Policy => add_policies(session, table),
        How::Nothing => Ok(()),
    }
}

/// How a table's deleted rows are hidden now.
struct Hiding {
    how: How,
    view: Option<pg_sys::Oid>,
    replaceable: bool,
    enabled_rls: bool,
    name_hash: String,
}

const DESCRIBE: &str = include_str!("describe_hiding.sql");

impl Hiding {
    fn of(session: &Session<'_, '_>, table: &Table) -> Outcome<Self> {
        let row = session.catalog(DESCRIBE, &[table.oid.into()])?.first();
        let flag = |name: &str| -> Outcome<bool> { Ok(row.get_by_name(name)?.unwrap_or(false)) };
        let how: Option<String> = row.get_by_name("how")?;
        Ok(Self {
            how: How::parse(how.as_deref().unwrap_or("nothing"))?,
            view: row.get_by_name("view")?,
            replaceable: flag("replaceable")?,
            enabled_rls: flag("enabled_rls")?,
            name_hash: row.get_by_name("name_hash")?.unwrap_or_default(),
        })
    }
}

/// Takes back what `hide_deleted` did to the table.
pub fn undo(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let now = Hiding::of(session, table)?;
    if let Some(view) = now.view {
        let name = view_name(session, view)?;
        session.ddl(&format!("DROP VIEW {name}"))?;
    }
    if now.how == How::Policy {
        hiding_policies::remove(session, table.oid, now.enabled_rls)?;
    }
    session.registry(
        "DELETE FROM keepsake.hidden_reads WHERE relation = $1",
        &[table.oid.into()],
    )?;
    cache::invalidate(table.oid);
    Ok(())
}

fn view_name(session: &Session<'_, '_>, view: pg_sys::Oid) -> Outcome<Qualified> {
    let found = session.catalog(
        "SELECT n.nspname::text AS schema, c.relname::text AS name
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
        &[view.into()],
    )?;
    let row = found.first();
    Ok(Qualified {
        schema: Ident(row.get_by_name("schema")?.unwrap_or_default()),
        name: Ident(row.get_by_name("name")?.unwrap_or_default()),
    })
}

fn show_view(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let now = Hiding::of(session, table)?;
    let name = match now.view {
        Some(view) => view_name(session, view)?,
        None => free_name(session, table, &now)?,
    };
    if now.view.is_some() && !now.replaceable {
        session.ddl(&format!("DROP VIEW {name}"))?;
    }
    let live = table
        .columns
        .iter()
        .filter(|column| !matches!(column.0.as_str(), "deleted_at" | "deletion_id"));
    let create = format!(
        "CREATE OR REPLACE VIEW {name} WITH (security_invoker = true) AS SELECT {} FROM {} WHERE deleted_at IS NULL",
        join(live, ", "),
        table.rows(),
    );
    session.as_owner(table, &create, &[])?;
    session.registry(
        "INSERT INTO keepsake.hidden_reads (relation, how, view)
         SELECT $1, 'view', c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $2 AND c.relname = $3
         ON CONFLICT (relation) DO UPDATE SET view = excluded.view",
        &[
            table.oid.into(),
            name.schema.0.as_str().into(),
            name.name.0.as_str().into(),
        ],
    )?;
    Ok(())
}

/// `<table>_live`, of at most 63 bytes; a longer one is cut, and told from others that begin alike.
fn free_name(session: &Session<'_, '_>, table: &Table, now: &Hiding) -> Outcome<Qualified> {
    const LONGEST: usize = 63;
    const SUFFIX: &str = "_live";
    let plain = &table.name.name.0;
    let name = if plain.len() + SUFFIX.len() <= LONGEST {
        format!("{plain}{SUFFIX}")
    } else {
        let mut end = LONGEST - SUFFIX.len() - 1 - now.name_hash.len();
        while !plain.is_char_boundary(end) {
            end -= 1;
        }
        let beginning = plain.get(..end).unwrap_or_default();
        format!("{beginning}_{}{SUFFIX}", now.name_hash)
    };
    let schema = table.name.schema.clone();
    // A relation has a type of its name; those of arrays step aside.
    let taken = session.catalog(
        "SELECT 1 FROM pg_namespace n WHERE n.nspname = $1 AND (
             EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = $2)
             OR EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = n.oid AND t.typname = $2
                        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)))",
        &[schema.0.as_str().into(), name.as_str().into()],
    )?;
    let name = Qualified {
        schema,
        name: Ident(name),
    };
    if taken.is_empty() {
        return Ok(name);
    }
    Err(cannot(
        table,
        &format!("A relation named {name} exists already."),
        "Rename that relation, or hide deleted rows by 'policy'.",
    ))
}

fn add_policies(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let now = Hiding::of(session, table)?;
    let enables = hiding_policies::add(session, table.oid, now.enabled_rls)?;
    session.registry(
        "INSERT INTO keepsake.hidden_reads (relation, how, enabled_rls) VALUES ($1, 'policy', $2)
         ON CONFLICT (relation) DO UPDATE SET enabled_rls = excluded.enabled_rls",
        &[table.oid.into(), enables.into()],
    )?;
    cache::invalidate(table.oid);
    let graph = cache::current(session)?;
    for (reference, parent) in graph.references_of(table.oid) {
        reference.check_readable(table, parent)?;
    }
    for (reference, child) in graph.references_to(table.oid) {
        reference.check_readable(child, table)?;
    }
    Ok(())
}

fn cannot(table: &Table, why: &str, fix: &str) -> Failure {
    Failure::CannotHide {
        table: table.shown.clone(),
        why: why.into(),
        fix: fix.into(),
    }
}
