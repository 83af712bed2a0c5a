//! `INSERT … ON CONFLICT` on a managed table, planned so that it treats deleted rows as rows that are not there, as far as that can be.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::graph::cache;
use crate::intercept::nodes::{Target, table_constant};
use crate::model::error::{Failure, Outcome};
use crate::spi::including_deleted;
use crate::spi::session::with_reading_session;
use crate::spi::shown_names;

const IS_NULL: pg_sys::NullTestType::Type = pg_sys::NullTestType::IS_NULL;

/// Lets an INSERT infer indexes over live rows, whatever predicate it names, and refuse to update or to answer with a deleted row.
///
/// # Safety
/// The query is an INSERT that is about to be planned, and `target` its target.
pub unsafe fn mind_conflicts(
    query: &mut pg_sys::Query,
    target: &Target,
    refuse: Option<pg_sys::Oid>,
) {
    // SAFETY: the clause is NULL or the query's; nodes are built in the memory that the query lives in.
    unsafe {
        let Some(clause) = query.onConflict.as_mut() else {
            return;
        };
        // An index over all rows is found with a predicate as well as without, and one over fewer rows with a predicate that says more.
        if !clause.arbiterElems.is_null() {
            let live = target.has_mark(IS_NULL).cast();
            clause.arbiterWhere = pg_sys::make_and_qual(clause.arbiterWhere, live);
        }
        // PostgreSQL 19 has DO SELECT beside DO UPDATE: both would take a deleted row for a live one.
        if clause.action != pg_sys::OnConflictAction::ONCONFLICT_NOTHING {
            let mut check =
                PgBox::<pg_sys::WithCheckOption>::alloc_node(pg_sys::NodeTag::T_WithCheckOption);
            check.kind = pg_sys::WCOKind::WCO_RLS_CONFLICT_CHECK;
            check.relname = pg_sys::get_rel_name((*target.relation).rd_id);
            check.qual = match refuse {
                Some(function) => {
                    let live =
                        pg_sys::lappend(std::ptr::null_mut(), target.has_mark(IS_NULL).cast());
                    let either = pg_sys::lappend(live, refusal(target, function).cast());
                    pg_sys::makeBoolExpr(pg_sys::BoolExprType::OR_EXPR, either, -1).cast()
                }
                None => target.has_mark(IS_NULL).cast(),
            };
            query.withCheckOptions = pg_sys::lcons(check.into_pg().cast(), query.withCheckOptions);
        }
    }
}

/// The call that refuses.
unsafe fn refusal(target: &Target, function: pg_sys::Oid) -> *mut pg_sys::FuncExpr {
    // SAFETY: builds a node; the function takes an OID and answers with a boolean.
    unsafe {
        let table = table_constant((*target.relation).rd_id);
        let arguments = pg_sys::lappend(std::ptr::null_mut(), table.cast());
        let none = pg_sys::InvalidOid;
        let explicit = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        pg_sys::makeFuncExpr(function, pg_sys::BOOLOID, arguments, none, none, explicit)
    }
}

/// What an `INSERT … ON CONFLICT DO UPDATE` or `DO SELECT` that meets a deleted row answers with, unless `keepsake.include_deleted` is on.
///
/// # Errors
/// 23505, always else.
#[pg_extern(volatile, parallel_unsafe, strict)]
fn refuse_deleted_conflict(relation: pg_sys::Oid) -> Result<bool, ErrorReport> {
    if including_deleted::is_on() {
        return Ok(true);
    }
    Err(refused(relation)?.into())
}

fn refused(relation: pg_sys::Oid) -> Outcome<Failure> {
    let graph = cache::known()?;
    let table = match graph.table_or_root(relation) {
        Some(table) => table.shown.clone(),
        None => with_reading_session(|session| shown_names::table(session, relation))?,
    };
    Ok(Failure::DeletedHolder { table })
}
