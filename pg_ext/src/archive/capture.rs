//! The trigger that sees every row on its way out.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::{removal, setting, source};
use crate::call::trigger_call::{AfterDelete, Answer, Call};
use crate::model::error::{Failure, Outcome};
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
        None => Err(Failure::ArchiveUnregistered {
            table: unregistered::shown(call.relation)?,
        }),
    }
}
