//! `INSERT … ON CONFLICT` and `MERGE` on a managed table, planned so that they treat deleted rows as rows that are not there, as far as that
//! can be.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::graph::cache;
use crate::model::error::{Failure, Outcome};
use crate::postgres::pg_list::pointers;
use crate::run_as::trigger_policies::HIDING;
use crate::spi::including_deleted;
use crate::spi::session::with_reading_session;
use crate::spi::shown_names;

/// The target of a statement.
pub struct Target {
    /// Its number in the range table.
    pub number: i32,
    /// Its entry there.
    pub entry: *mut pg_sys::RangeTblEntry,
    /// The table, which is open.
    pub relation: pg_sys::Relation,
    /// The number of its column `deleted_at`.
    pub deleted_at: i16,
}

/// Lets an INSERT infer indexes over live rows where it names no predicate, and refuse to update a deleted row.
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
        // An index over all rows is found with a predicate as well as without.
        if !clause.arbiterElems.is_null() && clause.arbiterWhere.is_null() {
            clause.arbiterWhere = is_live(target).cast();
        }
        if clause.action == pg_sys::OnConflictAction::ONCONFLICT_UPDATE {
            let mut check =
                PgBox::<pg_sys::WithCheckOption>::alloc_node(pg_sys::NodeTag::T_WithCheckOption);
            check.kind = pg_sys::WCOKind::WCO_RLS_CONFLICT_CHECK;
            check.relname = pg_sys::get_rel_name((*target.relation).rd_id);
            check.qual = match refuse {
                Some(function) => {
                    let live = pg_sys::lappend(std::ptr::null_mut(), is_live(target).cast());
                    let either = pg_sys::lappend(live, refusal(target, function).cast());
                    pg_sys::makeBoolExpr(pg_sys::BoolExprType::OR_EXPR, either, -1).cast()
                }
                None => is_live(target).cast(),
            };
            query.withCheckOptions = pg_sys::lcons(check.into_pg().cast(), query.withCheckOptions);
        }
    }
}

/// Hides deleted rows from a MERGE that reads no column of its target, of which PostgreSQL asks no SELECT policy.
///
/// # Safety
/// The query is a MERGE that is about to be planned, under the policies of its target, which `target` is.
pub unsafe fn hide_from_merge(query: &pg_sys::Query, target: &Target) {
    // SAFETY: an open relation's policies, if it has any, are a list of them, with conditions over the first entry of a range table.
    unsafe {
        let Some(policies) = (*target.relation)
            .rd_rsdesc
            .as_ref()
            .filter(|_| query.hasRowSecurity)
        else {
            return;
        };
        for policy in pointers::<pg_sys::RowSecurityPolicy>(policies.policies) {
            if CStr::from_ptr((*policy).policy_name) == HIDING {
                let condition = pg_sys::copyObjectImpl((*policy).qual.cast());
                pg_sys::ChangeVarNodes(condition.cast(), 1, target.number, 0);
                let conditions = &mut (*target.entry).securityQuals;
                *conditions = pg_sys::lappend(*conditions, condition);
            }
        }
    }
}

unsafe fn is_live(target: &Target) -> *mut pg_sys::NullTest {
    // SAFETY: builds a node.
    unsafe {
        let mut live = PgBox::<pg_sys::NullTest>::alloc_node(pg_sys::NodeTag::T_NullTest);
        live.arg = pg_sys::makeVar(
            target.number as _,
            target.deleted_at,
            pg_sys::TIMESTAMPTZOID,
            -1,
            pg_sys::InvalidOid,
            0,
        )
        .cast();
        live.nulltesttype = pg_sys::NullTestType::IS_NULL;
        live.location = -1;
        live.into_pg()
    }
}

unsafe fn refusal(target: &Target, function: pg_sys::Oid) -> *mut pg_sys::FuncExpr {
    // SAFETY: builds a node; the function takes an OID and answers with a boolean.
    unsafe {
        let table = pg_sys::makeConst(
            pg_sys::OIDOID,
            -1,
            pg_sys::InvalidOid,
            size_of::<pg_sys::Oid>() as i32,
            pg_sys::Datum::from((*target.relation).rd_id),
            false,
            true,
        );
        let arguments = pg_sys::lappend(std::ptr::null_mut(), table.cast());
        let none = pg_sys::InvalidOid;
        let explicit = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        pg_sys::makeFuncExpr(function, pg_sys::BOOLOID, arguments, none, none, explicit)
    }
}

/// What an `INSERT … ON CONFLICT DO UPDATE` that meets a deleted row answers with, unless `keepsake.include_deleted` is on.
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
