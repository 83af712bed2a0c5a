//! Declared references: polymorphic `(type, id)` columns held to the promises of a foreign key.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::manage::archived_table::{self, Keep};
use crate::manage::{manage_table, triggers};
use crate::model::error::{Failure, Outcome, required};
use crate::registry::description::{describe, describe_managed};
use crate::spi::session::{Session, with_session};
use crate::spi::shown_names;

/// Declares that rows of `child` whose `type_column` is `type_value` refer, by `id_column`, to the
/// primary key of `parent`. From then on such a row needs a live parent, goes with it when it is
/// soft-deleted, and comes back with it. Both tables must be managed; if the deleted rows of `child` are kept in an
/// archive, so must be those of `parent`. The id column is of the
/// key's type, or text in the form that the key's type prints.
///
/// # Errors
/// 22023 when the columns do not fit; 23503 when rows without a live parent exist already.
#[pg_extern]
fn declare_reference(
    child: Option<Regclass>,
    type_column: Option<&str>,
    id_column: Option<&str>,
    type_value: Option<&str>,
    parent: Option<Regclass>,
) -> Result<(), ErrorReport> {
    let child = required(child, "child")?.oid();
    let type_column = required(type_column, "type_column")?;
    let id_column = required(id_column, "id_column")?;
    let type_value = required(type_value, "type_value")?;
    let parent = required(parent, "parent")?.oid();
    Ok(with_session(|session| {
        declare(session, child, type_column, id_column, type_value, parent)
    })?)
}

/// Guards a table anew, after its foreign keys or partitions may have changed. Called by the event
/// trigger `keepsake_follow_ddl`; only the table's owner may.
///
/// # Errors
/// 23503 when a row of the table refers to a deleted one; 0A000 when it can no longer be kept safe;
/// 42501 for anyone but the owner.
#[pg_extern]
fn guard_references(child: Regclass) -> Result<(), ErrorReport> {
    let oid = child.oid();
    if manage_table::has_begun(oid) {
        return Ok(());
    }
    Ok(with_session(|session| {
        let found = describe(session, oid)?;
        found.check_owned()?;
        found.check_references()?;
        let graph = cache::near(session, oid)?;
        let Some(table) = graph.table(oid) else {
            return Ok(());
        };
        if let Some(on_delete) = table.on_plain_delete.filter(|_| table.partitioned) {
            triggers::guard_state(session, table, on_delete)?;
        }
        triggers::guard_references(session, &graph, table)?;
        crate::intercept::guard::check_existing(session, &graph, oid)
    })?)
}

const FITS: &str = "
    SELECT t.atttypid = 'text'::regtype AS type_is_text,
           id.atttypid = k.atttypid
           OR id.atttypid = 'text'::regtype
              AND k.atttypid = ANY ('{smallint,integer,bigint,uuid,text,varchar}'::regtype[]) AS id_fits,
           i.indnkeyatts = 1 AS single_key
    FROM pg_index i
    JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = i.indkey[0]
    LEFT JOIN pg_attribute t ON t.attrelid = $1 AND t.attname = $2 AND NOT t.attisdropped
    LEFT JOIN pg_attribute id ON id.attrelid = $1 AND id.attname = $3 AND NOT id.attisdropped
    WHERE i.indrelid = $4 AND i.indisprimary";

fn declare(
    session: &mut Session<'_, '_>,
    child: pg_sys::Oid,
    type_column: &str,
    id_column: &str,
    type_value: &str,
    parent: pg_sys::Oid,
) -> Outcome<()> {
    let from_archive = Keep::of(session, child)? == Some(Keep::Archive);
    let into_archive = Keep::of(session, parent)? == Some(Keep::Archive);
    if from_archive {
        describe(session, child)?.check_owned()?;
        if !into_archive {
            return refuse_in_place_parent(session, child, parent);
        }
    } else {
        describe_managed(session, child)?;
    }
    if into_archive {
        archived_table::let_refer(session, parent)?;
    } else {
        describe_managed(session, parent)?;
        // As for a new foreign key: a DELETE that is under way does not know of the reference, and one of
        // a table that nobody refers to locks its rows less (see `planner`).
        session.ddl(&format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            cache::current(session)?.managed(session, parent)?.name
        ))?;
    }
    let fits = session
        .catalog(
            FITS,
            &[
                child.into(),
                type_column.into(),
                id_column.into(),
                parent.into(),
            ],
        )?
        .first();
    let flag =
        |name: &str| -> Outcome<bool> { Ok(fits.get_by_name::<bool, _>(name)?.unwrap_or(false)) };
    if !(flag("type_is_text")? && flag("id_fits")? && flag("single_key")?) {
        return Err(Failure::BadArgument {
            what: format!("columns {type_column} and {id_column} cannot refer to the parent table"),
            fix: "The type column must be text. The primary key of the parent table must be one column, and the id column must have its type, or text if that is an integer type, uuid or text.".into(),
        });
    }
    session.registry(
        "INSERT INTO keepsake.declared_reference (child, type_column, id_column, type_value, parent)
         VALUES ($1, $2::text::name, $3::text::name, $4, $5)
         ON CONFLICT (child, type_column, id_column, type_value) DO UPDATE SET parent = excluded.parent",
        &[child.into(), type_column.into(), id_column.into(), type_value.into(), parent.into()],
    )?;
    cache::invalidate(child);
    cache::invalidate(parent);
    let graph = cache::current(session)?;
    if let Some(table) = graph.table(child) {
        triggers::guard_references(session, &graph, table)?;
    }
    crate::intercept::guard::check_existing(session, &graph, child)
}

/// A deletion of rows in place removes nothing that a deletion of archived rows could hang on.
fn refuse_in_place_parent(
    session: &Session<'_, '_>,
    child: pg_sys::Oid,
    parent: pg_sys::Oid,
) -> Outcome<()> {
    let (child, parent) = (
        shown_names::table(session, child)?,
        shown_names::table(session, parent)?,
    );
    Err(Failure::BadArgument {
        what: format!(
            "rows of table {child}, which has an archive, cannot refer by a declared reference to table {parent}, which has none"
        ),
        fix: format!(
            "Keep both in archives: SELECT keepsake.manage('{parent}', keep => 'archive'); or both in place."
        ),
    })
}
