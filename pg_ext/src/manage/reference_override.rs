//! Another action for a soft delete than a foreign key's own `ON DELETE`.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::arguments::Regclass;
use crate::graph::cache;
use crate::model::error::{Failure, Outcome, required};
use crate::model::reference::OnDelete;
use crate::registry::description::describe;
use crate::spi::session::{Session, with_session};

/// Says what a soft delete does along the foreign key `reference` of `child`, instead of what its
/// ON DELETE says: `cascade`, `restrict`, `set null` or `set default`; NULL: what the key says
/// again. For applications that delete children themselves, and so have keys without an action.
/// Deletions made before stay as they are. Only the child's owner may call it.
///
/// # Errors
/// 22023 when there is no such key into a managed table, or the action cannot be carried out and
/// undone; 42501 for anyone but the owner.
#[pg_extern]
fn override_reference(
    child: Option<Regclass>,
    reference: Option<&str>,
    on_delete: Option<&str>,
) -> Result<(), ErrorReport> {
    let child = required(child, "child")?.oid();
    let reference = required(reference, "reference")?;
    Ok(with_session(|session| {
        set(session, child, reference, on_delete)
    })?)
}

fn set(
    session: &mut Session<'_, '_>,
    child: pg_sys::Oid,
    reference: &str,
    on_delete: Option<&str>,
) -> Outcome<()> {
    let shown = {
        let found = describe(session, child)?;
        found.check_owned()?;
        found.shown
    };
    let action = on_delete.map(parse).transpose()?;
    session.registry(
        "DELETE FROM keepsake.reference_override WHERE child = $1 AND reference = $2::text::name",
        &[child.into(), reference.into()],
    )?;
    if on_delete.is_some() {
        session.registry(
            "INSERT INTO keepsake.reference_override (child, reference, on_delete) VALUES ($1, $2::text::name, $3)",
            &[child.into(), reference.into(), on_delete.into()],
        )?;
    }
    cache::invalidate(child);
    let graph = cache::current(session)?;
    let table = graph.table(child);
    let known = graph
        .references_of(child)
        .find(|(known, _)| known.name == reference && !known.is_declared());
    let Some((known, _)) = known else {
        return Err(Failure::BadArgument {
            what: format!("table {shown} has no foreign key \"{reference}\" to a managed table"),
            fix: "Pass the name of a foreign key constraint of the table, as in pg_constraint."
                .into(),
        });
    };
    let follows = match action {
        Some(OnDelete::Cascade) => table.is_some_and(|table| table.managed),
        Some(OnDelete::SetNull) => {
            known.on_delete == OnDelete::SetNull && nullable(session, child, reference)?
        }
        _ => action.is_none_or(|action| known.on_delete == action),
    };
    if follows {
        return Ok(());
    }
    Err(Failure::BadArgument {
        what: format!(
            "foreign key \"{reference}\" of table {shown} cannot {}",
            on_delete.unwrap_or_default()
        ),
        fix: "To cascade, the referring table must be managed. To set NULL or the default, it needs a primary key that does not contain the referring columns, and to set NULL these columns must accept NULL.".into(),
    })
}

fn parse(on_delete: &str) -> Outcome<OnDelete> {
    match on_delete {
        "cascade" => Ok(OnDelete::Cascade),
        "restrict" => Ok(OnDelete::Restrict),
        "set null" => Ok(OnDelete::SetNull),
        "set default" => Ok(OnDelete::SetDefault),
        other => Err(Failure::BadArgument {
            what: format!("unknown action '{other}'"),
            fix: "Pass 'cascade', 'restrict', 'set null' or 'set default', or NULL to use the foreign key's own ON DELETE.".into(),
        }),
    }
}

fn nullable(session: &Session<'_, '_>, child: pg_sys::Oid, reference: &str) -> Outcome<bool> {
    let not_null = session.catalog(
        "SELECT 1 FROM pg_constraint con JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = ANY (con.conkey)
         WHERE con.conrelid = $1 AND con.conname = $2::text::name AND a.attnotnull",
        &[child.into(), reference.into()],
    )?;
    Ok(not_null.is_empty())
}
