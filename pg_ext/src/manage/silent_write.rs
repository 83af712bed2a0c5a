//! Writes that fire no trigger, and what must not run meanwhile: without triggers no foreign key is checked and nothing is
//! archived, whoever writes.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::spi::session::Session;

const OWNER_CODE: &str = include_str!("owner_code.sql");

/// Refuses if a write to the table, which is locked, would run code of its owner's although its triggers are off.
pub fn refuse_owner_code(session: &Session<'_, '_>, oid: pg_sys::Oid, shown: &str) -> Outcome<()> {
    let rows = session.catalog_now(OWNER_CODE, &[oid.into()])?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let code: Option<String> = row.get(1)?;
    Err(Failure::CannotManage {
        table: shown.to_owned(),
        why: format!(
            "Its rows move without triggers and foreign keys, and this would run meanwhile: {}.",
            code.unwrap_or_default()
        ),
        fix: "Drop it for the move, or let it use only functions of PostgreSQL or of an extension. A trigger or rule may stay once it is enabled neither ALWAYS nor for REPLICA.".into(),
    })
}
