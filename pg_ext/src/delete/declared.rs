//! What hangs by a declared reference on archived rows: attachments of an entity, which are kept in place, and rows that are archived as well.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::removal;
use crate::call::trigger_call::{AfterOldRows, Answer, Call};
use crate::delete::cascade;
use crate::graph::cache;
use crate::model::error::Outcome;
use crate::spi::session::with_session;

/// AFTER DELETE on a table with an archive that declared references refer to, once a statement: what refers to its rows goes with
/// them, in their deletion, as if by ON DELETE CASCADE.
#[pg_extern]
fn delete_declared(call: Call<'_, AfterOldRows>) -> Result<Answer<'_>, ErrorReport> {
    carry_on(&call)?;
    Ok(Answer::nothing())
}

fn carry_on(call: &Call<'_, AfterOldRows>) -> Outcome<()> {
    // None where nothing is archived, as while `keepsake.capture` is off.
    let Some(deletion) = removal::current() else {
        return Ok(());
    };
    with_session(|session| {
        session.register_transition_table(&call.rows)?;
        let graph = cache::current(session)?;
        cascade::delete_beneath(session, &graph, call.relation)?;
        cascade::carry_beneath(session, graph, call.relation, deletion)
    })
}
