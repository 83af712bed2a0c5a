//! Leaves out of a statement that only marks rows the checks of what it does not change.
//!
//! PostgreSQL checks no row that a DELETE removes: one that violates a constraint which is `NOT VALID`, or whose function has changed, can be
//! deleted. The UPDATE that marks it is checked. What is changed is the executor's copy of the constraints (`ExecRelCheck`), this statement's own.

use pgrx::pg_sys;

use crate::intercept::skip_triggers::no_other_trigger_changes_rows;
use crate::postgres::pg_list::{integers, pointers};
use crate::postgres::query_plan::{modifications, plan, range_table_entry, result_table};
use crate::postgres::statement_stack::{Writes, write};
use crate::run_as::engine_write::EngineWrite;

/// Goes over the tables that the statement marks rows of, which the executor has just started.
pub fn leave_out(query: &pg_sys::QueryDesc) {
    let Some(plan) = plan(query) else {
        return;
    };
    for modify in modifications(plan) {
        let Some((named, writes)) = write(plan, modify) else {
            continue;
        };
        if !only_marks(plan, modify, writes, EngineWrite::is_next(named)) {
            continue;
        }
        // SAFETY: the tables that a plan writes to are a list of numbers; each is one of the query's, whose executor has opened it.
        unsafe {
            for number in integers(modify.resultRelations) {
                if let Some(table) = result_table(query, number) {
                    leave_out_of(&mut *table, query.estate);
                }
            }
        }
    }
}

/// Whether all that it does to rows is to mark them: a converted DELETE, or one of the engine's own UPDATEs.
fn only_marks(
    plan: &pg_sys::PlannedStmt,
    modify: &pg_sys::ModifyTable,
    writes: Writes,
    is_engine: bool,
) -> bool {
    match modify.operation {
        pg_sys::CmdType::CMD_UPDATE => writes.converts || is_engine && is_mark(plan, modify),
        pg_sys::CmdType::CMD_MERGE => writes.converts && !writes.updates && !inserts(modify),
        _ => false,
    }
}

/// Whether a MERGE inserts rows as well, which are checked.
fn inserts(modify: &pg_sys::ModifyTable) -> bool {
    // SAFETY: the actions of a MERGE are a list of lists of them, one for each table.
    unsafe {
        pointers::<pg_sys::List>(modify.mergeActionLists)
            .flat_map(|actions| pointers::<pg_sys::MergeAction>(actions))
            .any(|action| (*action).commandType == pg_sys::CmdType::CMD_INSERT)
    }
}

/// Whether an UPDATE sets both marks and nothing else, and does not make rows live.
fn is_mark(plan: &pg_sys::PlannedStmt, modify: &pg_sys::ModifyTable) -> bool {
    // SAFETY: an UPDATE has a plan beneath it, whose first targets are the new values of the columns that the first list of numbers names, those of
    // the first table; looks into the system's caches.
    unsafe {
        let number = integers(modify.resultRelations).next();
        let table = number
            .and_then(|number| u32::try_from(number).ok())
            .and_then(|number| range_table_entry(plan, number));
        let columns = pointers::<pg_sys::List>(modify.updateColnosLists).next();
        let (Some(table), Some(columns), Some(source)) =
            (table, columns, modify.plan.lefttree.as_ref())
        else {
            return false;
        };
        let marks = [c"deleted_at", c"deletion_id"]
            .map(|name| i32::from(pg_sys::get_attnum(table.relid, name.as_ptr())));
        let targets = pointers::<pg_sys::TargetEntry>(source.targetlist);
        let mut set = 0;
        for (column, target) in integers(columns).zip(targets) {
            if !marks.contains(&column) || is_null((*target).expr) {
                return false;
            }
            set += 1;
        }
        set == marks.len()
    }
}

unsafe fn is_null(value: *mut pg_sys::Expr) -> bool {
    // SAFETY: the caller gives an expression, which says by its tag that it is a constant.
    unsafe {
        pgrx::is_a(value.cast(), pg_sys::NodeTag::T_Const)
            && (*value.cast::<pg_sys::Const>()).constisnull
    }
}

/// Has the executor find the constraints prepared, without those that the marks do not concern.
unsafe fn leave_out_of(table: &mut pg_sys::ResultRelInfo, state: *mut pg_sys::EState) {
    // SAFETY: the table is open, and its descriptor has that many checks, or none; what is made lives as long as the query, as what
    // `ExecRelCheck` would make.
    unsafe {
        let relation = table.ri_RelationDesc;
        let Some(constraints) = (*(*relation).rd_att).constr.as_ref() else {
            return;
        };
        let count = usize::from(constraints.num_check);
        if count == 0 || !no_other_trigger_changes_rows(&*relation) {
            return;
        }
        let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
        let prepared = pg_sys::palloc0(count * size_of::<*mut pg_sys::ExprState>());
        let prepared = std::slice::from_raw_parts_mut(prepared.cast(), count);
        let checks = std::slice::from_raw_parts(constraints.check, count);
        for (place, check) in prepared.iter_mut().zip(checks) {
            *place = prepare(check, relation, state);
        }
        pg_sys::MemoryContextSwitchTo(before);
        *expressions(table) = prepared.as_mut_ptr();
    }
}

/// The constraint as the executor evaluates it; NULL where it reads only what stays as it is, or is not enforced.
unsafe fn prepare(
    check: &pg_sys::ConstrCheck,
    relation: pg_sys::Relation,
    state: *mut pg_sys::EState,
) -> *mut pg_sys::ExprState {
    // SAFETY: a constraint is a node as PostgreSQL stored it.
    unsafe {
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        if !check.ccenforced {
            return std::ptr::null_mut();
        }
        let expression = pg_sys::stringToNode(check.ccbin);
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        let expression = pg_sys::expand_generated_columns_in_expr(expression.cast(), relation, 1);
        if stays(expression.cast(), relation) {
            return std::ptr::null_mut();
        }
        pg_sys::ExecPrepareExpr(expression.cast(), state)
    }
}

/// Whether all columns that an expression reads stay as they are where a row is marked: neither a mark nor the whole row.
unsafe fn stays(expression: *mut pg_sys::Node, relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open; the columns of an expression over it are its own.
    unsafe {
        let mut columns = std::ptr::null_mut();
        pg_sys::pull_varattnos(expression, 1, &raw mut columns);
        let shape = pgrx::tupdesc::PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        let mut column = pg_sys::bms_next_member(columns, -1);
        while column >= 0 {
            let number = column + pg_sys::FirstLowInvalidHeapAttributeNumber;
            let index = usize::try_from(number - 1).ok();
            let attribute = index.and_then(|index| shape.get(index));
            let fixed = attribute.is_some_and(|one| match one.name() {
                "deleted_at" | "deletion_id" => false,
                _ => one.attgenerated == 0 || computed_stays(one.attnum, relation),
            });
            if !fixed {
                return false;
            }
            column = pg_sys::bms_next_member(columns, column);
        }
        true
    }
}

/// Whether a stored column is computed of columns that stay as they are. None is computed of computed ones.
unsafe fn computed_stays(column: i16, relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open, and its descriptor has that many expressions, as PostgreSQL stored them; the caller has the number from there.
    unsafe {
        let Some(constraints) = (*(*relation).rd_att).constr.as_ref() else {
            return false;
        };
        let count = usize::from(constraints.num_defval);
        let expressions = std::slice::from_raw_parts(constraints.defval, count);
        let expression = expressions.iter().find(|one| one.adnum == column);
        expression.is_some_and(|one| stays(pg_sys::stringToNode(one.adbin).cast(), relation))
    }
}

/// Where the executor keeps the constraints that it has prepared.
#[cfg(not(any(feature = "pg18", feature = "pg19")))]
fn expressions(table: &mut pg_sys::ResultRelInfo) -> &mut *mut *mut pg_sys::ExprState {
    &mut table.ri_ConstraintExprs
}

/// Where the executor keeps the constraints that it has prepared.
#[cfg(any(feature = "pg18", feature = "pg19"))]
fn expressions(table: &mut pg_sys::ResultRelInfo) -> &mut *mut *mut pg_sys::ExprState {
    &mut table.ri_CheckConstraintExprs
}
