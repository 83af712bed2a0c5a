//! TRUNCATE of an archived table: refused, or archived.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::capture;
use crate::archive::removal;
use crate::archive::setting;
use crate::archive::source;
use crate::call::trigger_call::{Answer, BeforeTruncate, Call};
use crate::call::trigger_row::Row;
use crate::model::error::{Failure, Outcome};

/// BEFORE TRUNCATE of an archived table or of one of its partitions.
#[pg_extern]
fn archive_truncate(call: Call<'_, BeforeTruncate>) -> Result<Answer<'_>, ErrorReport> {
    truncate(&call)?;
    Ok(Answer::nothing())
}

fn truncate(call: &Call<'_, BeforeTruncate>) -> Outcome<()> {
    if !setting::is_on() {
        return Ok(());
    }
    let Some(source) = source::of(call.opened())? else {
        return capture::refuse_unregistered(call.opened());
    };
    if !source.archives_truncate {
        return Err(Failure::TruncateArchived {
            table: call.table(),
        });
    }
    removal::begin_truncate()?;
    each_row(call.opened(), |row| removal::add(&source, row))
}

/// Goes over the rows of a table that nobody else can change: TRUNCATE has locked it. A partitioned one has none of its own.
fn each_row(
    relation: &pg_sys::RelationData,
    mut each: impl FnMut(Row<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let opened = std::ptr::from_ref(relation).cast_mut();
    // SAFETY: the relation is open and locked; the snapshot is registered as long as the scan; each tuple is good until the next
    // is fetched. An error closes all of it with the transaction's resources.
    unsafe {
        if (*relation.rd_rel).relkind as u8 != pg_sys::RELKIND_RELATION {
            return Ok(());
        }
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(
            opened,
            pg_sys::InvalidOid,
            false,
            snapshot,
            0,
            std::ptr::null_mut(),
        );
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(row) = Row::of_relation(relation, pg_sys::systable_getnext(scan))
        {
            outcome = each(row);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        outcome
    }
}
