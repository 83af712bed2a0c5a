//! The trigger that sees every row on its way out.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::{removal, setting, source};
use crate::call::trigger_call::{AfterDelete, Answer, Call};
use crate::model::error::{Failure, Outcome};
use crate::postgres::table_triggers::{name, triggers};
use crate::registry::unregistered;

/// Follows what concerns archived tables. Once in a backend's life.
pub fn install() {
    setting::define();
    source::install();
    removal::install();
}

/// AFTER DELETE of a row of an archived table.
#[pg_extern]
fn archive_row(call: Call<'_, AfterDelete>) -> Result<Answer<'_>, ErrorReport> {
    capture(&call)?;
    Ok(Answer::nothing())
}

fn capture(call: &Call<'_, AfterDelete>) -> Outcome<()> {
    let row = call.rows.old;
    if !setting::is_on() || row.moved_on() {
        return Ok(());
    }
    match source::of(call.opened())? {
        Some(source) => removal::add(&source, row),
        None => refuse_unregistered(call.opened()),
    }
}

/// Refuses to remove rows of a table that has the trigger and is not in the registry. What was a partition has lost its row triggers, and is a table
/// like any other; so is one where somebody has put the function under another name.
pub fn refuse_unregistered(relation: &pg_sys::RelationData) -> Outcome<()> {
    let captures = |trigger: &pg_sys::Trigger| name(trigger) == c"keepsake_archive_row";
    if triggers(relation).iter().any(captures) {
        return Err(Failure::ArchiveUnregistered {
            table: unregistered::shown(relation.rd_id)?,
        });
    }
    Ok(())
}
