//! Statements that look at what is committed *now*, not at what the transaction's snapshot shows: the
//! latest snapshot, which `ri_triggers.c` gives to foreign-key checks under REPEATABLE READ and
//! SERIALIZABLE.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_long};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::Spi;

use crate::model::error::{Failure, Outcome};

/// What a plan is for, besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The referring table: a transition table's columns are its own.
    pub table: pg_sys::Oid,
    /// How many rows its transition tables have, roughly: what serves a million of them reads a whole table for one.
    pub magnitude: u32,
}

/// The source, the text, the arguments' types.
type PlanKey = (Source, CString, Vec<pg_sys::Oid>);

thread_local! {
    static PLANS: RefCell<HashMap<PlanKey, pg_sys::SPIPlanPtr>> = RefCell::default();
}

/// The plan of a statement, prepared once in a backend: parsing and planning would cost a one-row
/// INSERT more than the check itself. PostgreSQL plans anew when a table it reads has changed.
fn kept_plan(
    source: Source,
    sql: CString,
    types: &mut [pg_sys::Oid],
) -> Outcome<pg_sys::SPIPlanPtr> {
    let key = (source, sql, types.to_vec());
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).copied()) {
        return Ok(plan);
    }
    // SAFETY: we are connected to SPI; text and types outlive the call, which copies them.
    let plan =
        unsafe { pg_sys::SPI_prepare(key.1.as_ptr(), types.len() as c_int, types.as_mut_ptr()) };
    if plan.is_null() {
        // SAFETY: reads the status that SPI_prepare has just set.
        Spi::check_status(unsafe { pg_sys::SPI_result })?;
    }
    // SAFETY: the plan was prepared above and is not kept yet; so it cannot fail, and answers 0.
    unsafe { pg_sys::SPI_keepplan(plan) };
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan));
    Ok(plan)
}

/// Runs a SELECT in the latest snapshot, with the rights and `search_path` that are in force, and answers with how many rows `SPI_tuptable` has now.
pub fn execute(
    source: Source,
    sql: &str,
    args: &[DatumWithOid<'_>],
    limit: c_long,
) -> Outcome<usize> {
    let sql = CString::new(sql).map_err(|_| Failure::BadArgument {
        what: "a name contains a NUL character".into(),
        fix: "Rename it.".into(),
    })?;
    let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
    let mut values: Vec<pg_sys::Datum> = Vec::with_capacity(args.len());
    let mut nulls: Vec<c_char> = Vec::with_capacity(args.len());
    for arg in args {
        nulls.push(if arg.datum().is_some() { b' ' } else { b'n' } as c_char);
        values.push(
            arg.datum()
                .map_or(pg_sys::Datum::from(0_usize), |datum| datum.sans_lifetime()),
        );
    }
    let plan = kept_plan(source, sql, &mut types)?;
    // SAFETY: we are connected to SPI; the arrays have one element for each argument and
    // outlive the call; the plan is kept for the backend's life. `SPI_execute_snapshot`
    // registers the snapshot itself.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let status = pg_sys::SPI_execute_snapshot(
            plan,
            values.as_mut_ptr(),
            nulls.as_ptr(),
            pg_sys::GetLatestSnapshot(),
            std::ptr::null_mut(),
            false,
            false,
            limit,
        );
        Spi::check_status(status)?;
        Ok(usize::try_from(pg_sys::SPI_processed).unwrap_or(usize::MAX))
    }
}
