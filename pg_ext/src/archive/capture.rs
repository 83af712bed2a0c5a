//! The trigger that sees every row on its way out.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::{removal, source};
use crate::call::trigger_call::{AfterDelete, Answer, Call};
use crate::model::error::Outcome;

static CAPTURE: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Defines `keepsake.capture`, and follows what concerns archived tables. Once in a backend's life.
pub fn install() {
    GucRegistry::define_bool_guc(
        c"keepsake.capture",
        c"Archives the rows that are deleted from tables managed with keep => 'archive'.",
        c"Off, they are deleted for good: for databases in which tests run. Only a superuser may set it.",
        &CAPTURE,
        GucContext::Suset,
        GucFlags::default(),
    );
    source::install();
    removal::install();
}

/// Whether rows are archived at all.
pub fn is_on() -> bool {
    CAPTURE.get()
}

/// AFTER DELETE of a row of an archived table.
#[pg_extern]
fn archive_row(call: Call<'_, AfterDelete>) -> Result<Answer<'_>, ErrorReport> {
    capture(&call)?;
    Ok(Answer::nothing())
}

fn capture(call: &Call<'_, AfterDelete>) -> Outcome<()> {
    let row = call.rows.old;
    if !is_on() || row.moved_on() {
        return Ok(());
    }
    match source::of(call.opened())? {
        Some(source) => removal::add(&source, row),
        None => Ok(()),
    }
}
