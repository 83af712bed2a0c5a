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
use crate::postgres::pg_list::pointers;
use crate::postgres::settings::from_row_to_row;

/// What a plan is for, besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The referring table: a transition table's columns are its own.
    pub table: pg_sys::Oid,
    /// How many rows its transition tables have, roughly: what serves a million of them reads a whole table for one.
    pub magnitude: u32,
    /// Whether the statement starts from few rows, and has one plan, which goes from row to row.
    pub few: bool,
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
    let plan = unsafe {
        let options = if source.few {
            pg_sys::CURSOR_OPT_GENERIC_PLAN
        } else {
            0
        };
        let (sql, count) = (key.1.as_ptr(), types.len() as c_int);
        pg_sys::SPI_prepare_cursor(sql, count, types.as_mut_ptr(), options as c_int)
    };
    if plan.is_null() {
        // SAFETY: reads the status that SPI_prepare has just set.
        Spi::check_status(unsafe { pg_sys::SPI_result })?;
    }
    // SAFETY: the plan was prepared above and is not kept yet; so it cannot fail, and answers 0.
    unsafe { pg_sys::SPI_keepplan(plan) };
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan));
    Ok(plan)
}

/// Plans a statement for few rows where it is to be planned, before it runs: while it runs, others plan theirs.
fn plan_for_few(plan: pg_sys::SPIPlanPtr) {
    // SAFETY: a kept plan of one statement has one source, with the plan that was made last, if there is one. What is got is given back.
    unsafe {
        let Some(source) =
            pointers::<pg_sys::CachedPlanSource>(pg_sys::SPI_plan_get_plan_sources(plan)).next()
        else {
            return;
        };
        let made = (*source).gplan;
        let stands = (*source).is_valid && !made.is_null() && (*made).is_valid;
        if stands && has_same_path((*source).search_path) {
            return;
        }
        let _settings = from_row_to_row();
        let made = pg_sys::SPI_plan_get_cached_plan(plan);
        pg_sys::ReleaseCachedPlan(made, pg_sys::CurrentResourceOwner);
    }
}

/// Whether names are found where they were when a statement was prepared. The session's first temporary table changes that: PostgreSQL then plans
/// anew what it would run.
#[cfg(any(feature = "pg15", feature = "pg16"))]
unsafe fn has_same_path(path: *mut pg_sys::OverrideSearchPath) -> bool {
    // SAFETY: NULL, or the path of a kept statement.
    path.is_null() || unsafe { pg_sys::OverrideSearchPathMatchesCurrent(path) }
}

/// Whether names are found where they were when a statement was prepared. The session's first temporary table changes that: PostgreSQL then plans
/// anew what it would run.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
unsafe fn has_same_path(path: *mut pg_sys::SearchPathMatcher) -> bool {
    // SAFETY: NULL, or the path of a kept statement.
    path.is_null() || unsafe { pg_sys::SearchPathMatchesCurrentEnvironment(path) }
}

/// A plan and its arguments.
struct Prepared {
    plan: pg_sys::SPIPlanPtr,
    values: Vec<pg_sys::Datum>,
    nulls: Vec<c_char>,
}

fn prepare(source: Source, sql: &str, args: &[DatumWithOid<'_>]) -> Outcome<Prepared> {
    let sql = CString::new(sql).map_err(|_| Failure::BadArgument {
        what: "a name contains a NUL character".into(),
        fix: "Rename it.".into(),
    })?;
    let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
    let null = |arg: &DatumWithOid<'_>| if arg.datum().is_some() { b' ' } else { b'n' } as c_char;
    let value = |arg: &DatumWithOid<'_>| {
        arg.datum()
            .map_or(pg_sys::Datum::from(0_usize), |datum| datum.sans_lifetime())
    };
    let plan = kept_plan(source, sql, &mut types)?;
    if source.few {
        plan_for_few(plan);
    }
    Ok(Prepared {
        plan,
        values: args.iter().map(value).collect(),
        nulls: args.iter().map(null).collect(),
    })
}

/// Runs a statement in the snapshot that PostgreSQL gives to any, by a plan that is kept as those of [`execute`], and answers with how many rows
/// it had.
pub fn execute_ordinarily(source: Source, sql: &str, args: &[DatumWithOid<'_>]) -> Outcome<usize> {
    let mut prepared = prepare(source, sql, args)?;
    // SAFETY: we are connected to SPI; the arrays have one element for each argument and outlive the call; the plan is kept for the
    // backend's life.
    let status = unsafe {
        pg_sys::SPI_execute_plan(
            prepared.plan,
            prepared.values.as_mut_ptr(),
            prepared.nulls.as_ptr(),
            false,
            0,
        )
    };
    Spi::check_status(status)?;
    // SAFETY: reads what the statement has just set.
    Ok(usize::try_from(unsafe { pg_sys::SPI_processed }).unwrap_or(usize::MAX))
}

/// Runs a SELECT in the latest snapshot, with the rights and `search_path` that are in force, and answers with how many rows `SPI_tuptable` has now.
pub fn execute(
    source: Source,
    sql: &str,
    args: &[DatumWithOid<'_>],
    limit: c_long,
) -> Outcome<usize> {
    let mut prepared = prepare(source, sql, args)?;
    // SAFETY: we are connected to SPI; the arrays have one element for each argument and
    // outlive the call; the plan is kept for the backend's life. `SPI_execute_snapshot`
    // registers the snapshot itself.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let status = pg_sys::SPI_execute_snapshot(
            prepared.plan,
            prepared.values.as_mut_ptr(),
            prepared.nulls.as_ptr(),
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
