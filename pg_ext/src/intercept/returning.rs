//! What the RETURNING clause of a converted DELETE shows: the rows as they were, as that of a DELETE does.
//!
//! The UPDATE that it became has given them marks. Before PostgreSQL 18 a RETURNING clause sees the new row alone, so the marks in it are NULL,
//! as they were; so they are from then on, where no trigger of the application's changes rows.

use std::ffi::c_void;

use pgrx::pg_sys;

#[cfg(any(feature = "pg18", feature = "pg19"))]
use crate::intercept::skip_triggers::only_ours_change_rows;

/// What is to be replaced.
struct Marks {
    /// The target's number in the range table.
    target: i32,
    /// Its columns `deleted_at` and `deletion_id`.
    columns: [i16; 2],
    /// Whether the statement is a MERGE, which deletes some of the rows.
    #[cfg_attr(
        any(feature = "pg15", feature = "pg16"),
        expect(dead_code, reason = "a MERGE has no such clause before PostgreSQL 17")
    )]
    merges: bool,
    /// Whether nothing but the marks differs between the old row and the new one. PostgreSQL 18 may show an old row as it was before another
    /// session's change that the statement has waited for, where a trigger fires before the update; the new one never.
    #[cfg(any(feature = "pg18", feature = "pg19"))]
    only_marks_change: bool,
    relation: pg_sys::Relation,
    /// How many queries within the clause the walk is in.
    depth: u32,
}

/// Whether an UPDATE that marks a row changes no other column of it, not even one that is computed when it is read.
#[cfg(any(feature = "pg18", feature = "pg19"))]
fn only_marks_change(relation: &pg_sys::RelationData) -> bool {
    // SAFETY: an open relation has a descriptor, which has constraints or NULL.
    let constraints = unsafe { (*relation.rd_att).constr.as_ref() };
    let computes = constraints.is_some_and(|constraints| constraints.has_generated_virtual);
    !computes && only_ours_change_rows(relation)
}

/// Has the clause show the rows as they were.
///
/// # Safety
/// The query is about to be planned, and `relation` its target, which is open.
pub unsafe fn show_as_before(
    query: &mut pg_sys::Query,
    relation: pg_sys::Relation,
    columns: [i16; 2],
) {
    let mut marks = Marks {
        target: query.resultRelation,
        columns,
        merges: false,
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        // SAFETY: the caller gives an open relation.
        only_marks_change: only_marks_change(unsafe { &*relation }),
        relation,
        depth: 0,
    };
    // SAFETY: the clause is NULL or a list of expressions.
    unsafe {
        query.returningList = replace(query.returningList.cast(), (&raw mut marks).cast()).cast();
    }
}

/// Has the clause of a MERGE show rows that it marks as rows that it deletes. Only from PostgreSQL 17 on it may have one.
///
/// # Safety
/// As above.
pub unsafe fn show_merged_as_before(
    query: &mut pg_sys::Query,
    relation: pg_sys::Relation,
    columns: [i16; 2],
) {
    if query.returningList.is_null() {
        return;
    }
    let mut marks = Marks {
        target: query.resultRelation,
        columns,
        merges: true,
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        only_marks_change: false,
        relation,
        depth: 0,
    };
    // SAFETY: as above.
    unsafe {
        query.returningList = replace(query.returningList.cast(), (&raw mut marks).cast()).cast();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn replace(
    node: *mut pg_sys::Node,
    marks: *mut c_void,
) -> *mut pg_sys::Node {
    // SAFETY: nodes are read as what their tags say they are; the context is what `show_as_before` gives, and outlives the walk.
    unsafe {
        if node.is_null() {
            return node;
        }
        if pgrx::is_a(node, pg_sys::NodeTag::T_Query) {
            // A query in the clause refers to the target from as far within.
            let within = marks.cast::<Marks>();
            (*within).depth += 1;
            let query = mutate_query(node.cast(), marks);
            (*within).depth -= 1;
            return query;
        }
        if pgrx::is_a(node, pg_sys::NodeTag::T_Var) {
            return before(node.cast(), &*marks.cast::<Marks>());
        }
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        if pgrx::is_a(node, pg_sys::NodeTag::T_ReturningExpr)
            && let Some(none) = of_new_row(node.cast(), &*marks.cast::<Marks>())
        {
            return none;
        }
        #[cfg(any(feature = "pg17", feature = "pg18", feature = "pg19"))]
        if (*marks.cast::<Marks>()).merges && pgrx::is_a(node, pg_sys::NodeTag::T_MergeSupportFunc)
        {
            return merge_action(node.cast(), &*marks.cast::<Marks>());
        }
        mutate(node, marks)
    }
}

/// `merge_action()`, which is DELETE for a row that is marked.
#[cfg(any(feature = "pg17", feature = "pg18", feature = "pg19"))]
unsafe fn merge_action(action: *mut pg_sys::MergeSupportFunc, marks: &Marks) -> *mut pg_sys::Node {
    // SAFETY: builds nodes; the text is one that outlives the query, which is copied.
    unsafe {
        let text = pgrx::IntoDatum::into_datum("DELETE").unwrap_or(pg_sys::Datum::null());
        let collation = (*action).msfcollid;
        let deleted = pg_sys::makeConst((*action).msftype, -1, collation, -1, text, false, false);
        choice(
            marks,
            deleted.cast(),
            pg_sys::copyObjectImpl(action.cast()).cast(),
        )
    }
}

/// `CASE WHEN` the row was deleted `THEN … ELSE … END`.
#[cfg(any(feature = "pg17", feature = "pg18", feature = "pg19"))]
unsafe fn choice(
    marks: &Marks,
    deleted: *mut pg_sys::Node,
    other: *mut pg_sys::Node,
) -> *mut pg_sys::Node {
    // SAFETY: builds nodes of expressions.
    unsafe {
        let mut when = pgrx::PgBox::<pg_sys::CaseWhen>::alloc_node(pg_sys::NodeTag::T_CaseWhen);
        when.expr = was_deleted(marks);
        when.result = deleted.cast();
        when.location = -1;
        let mut case = pgrx::PgBox::<pg_sys::CaseExpr>::alloc_node(pg_sys::NodeTag::T_CaseExpr);
        case.casetype = pg_sys::exprType(other);
        case.casecollid = pg_sys::exprCollation(other);
        case.args = pg_sys::lappend(std::ptr::null_mut(), when.into_pg().cast());
        case.defresult = other.cast();
        case.location = -1;
        case.into_pg().cast()
    }
}

/// The condition that the statement has deleted the row: it is marked, and was not before.
#[cfg(any(feature = "pg18", feature = "pg19"))]
unsafe fn was_deleted(marks: &Marks) -> *mut pg_sys::Expr {
    use pg_sys::NullTestType::{IS_NOT_NULL, IS_NULL};
    use pg_sys::VarReturningType::{VAR_RETURNING_NEW, VAR_RETURNING_OLD};
    // SAFETY: builds nodes of expressions.
    unsafe {
        let (is, was) = (mark(marks), mark(marks));
        (*is).varreturningtype = VAR_RETURNING_NEW;
        (*was).varreturningtype = VAR_RETURNING_OLD;
        let is_marked = null_test(is, IS_NOT_NULL).cast();
        pg_sys::make_and_qual(is_marked, null_test(was, IS_NULL).cast()).cast()
    }
}

/// The same. A statement that could update a row that was marked before is not converted (`merge`).
#[cfg(feature = "pg17")]
unsafe fn was_deleted(marks: &Marks) -> *mut pg_sys::Expr {
    // SAFETY: builds nodes of expressions.
    unsafe { null_test(mark(marks), pg_sys::NullTestType::IS_NOT_NULL).cast() }
}

/// The target's column `deleted_at`.
#[cfg(any(feature = "pg17", feature = "pg18", feature = "pg19"))]
unsafe fn mark(marks: &Marks) -> *mut pg_sys::Var {
    let (target, number) = (marks.target as _, marks.columns[0]);
    let none = pg_sys::InvalidOid;
    // SAFETY: builds a node.
    unsafe {
        pg_sys::makeVar(
            target,
            number,
            pg_sys::TIMESTAMPTZOID,
            -1,
            none,
            marks.depth,
        )
    }
}

#[cfg(any(feature = "pg17", feature = "pg18", feature = "pg19"))]
unsafe fn null_test(
    column: *mut pg_sys::Var,
    test: pg_sys::NullTestType::Type,
) -> *mut pg_sys::NullTest {
    // SAFETY: builds a node.
    unsafe {
        let mut condition =
            pgrx::PgBox::<pg_sys::NullTest>::alloc_node(pg_sys::NodeTag::T_NullTest);
        condition.arg = column.cast();
        condition.nulltesttype = test;
        condition.location = -1;
        condition.into_pg()
    }
}

#[cfg(feature = "pg15")]
unsafe fn mutate(node: *mut pg_sys::Node, marks: *mut c_void) -> *mut pg_sys::Node {
    type Declared = unsafe extern "C-unwind" fn() -> *mut pg_sys::Node;
    type Called = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;
    // SAFETY: C declares it without its parameters, and calls it with both.
    unsafe {
        let mutator = std::mem::transmute::<Called, Declared>(replace);
        pg_sys::expression_tree_mutator(node, Some(mutator), marks)
    }
}

#[cfg(feature = "pg15")]
unsafe fn mutate_query(query: *mut pg_sys::Query, marks: *mut c_void) -> *mut pg_sys::Node {
    type Declared = unsafe extern "C-unwind" fn() -> *mut pg_sys::Node;
    type Called = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> *mut pg_sys::Node;
    // SAFETY: C declares it without its parameters, and calls it with both.
    unsafe {
        let mutator = std::mem::transmute::<Called, Declared>(replace);
        pg_sys::query_tree_mutator(query, Some(mutator), marks, 0).cast()
    }
}

#[cfg(not(feature = "pg15"))]
unsafe fn mutate_query(query: *mut pg_sys::Query, marks: *mut c_void) -> *mut pg_sys::Node {
    // SAFETY: walks a query, and makes a copy of it.
    unsafe { pg_sys::query_tree_mutator_impl(query, Some(replace), marks, 0).cast() }
}

#[cfg(not(feature = "pg15"))]
unsafe fn mutate(node: *mut pg_sys::Node, marks: *mut c_void) -> *mut pg_sys::Node {
    // SAFETY: walks an expression.
    unsafe { pg_sys::expression_tree_mutator_impl(node, Some(replace), marks) }
}

/// What a view shows of the new row, of which there is none after a DELETE; `None` for what it shows of the old one.
#[cfg(any(feature = "pg18", feature = "pg19"))]
unsafe fn of_new_row(
    shown: *mut pg_sys::ReturningExpr,
    marks: &Marks,
) -> Option<*mut pg_sys::Node> {
    // SAFETY: an expression, which is copied and not written to.
    unsafe {
        if (*shown).retold || u32::try_from((*shown).retlevelsup) != Ok(marks.depth) {
            return None;
        }
        let value = (*shown).retexpr.cast();
        let (of_type, modifier) = (pg_sys::exprType(value), pg_sys::exprTypmod(value));
        let none = pg_sys::makeNullConst(of_type, modifier, pg_sys::exprCollation(value));
        if marks.merges {
            let after = pg_sys::copyObjectImpl(shown.cast()).cast();
            return Some(choice(marks, none.cast(), after));
        }
        Some(none.cast())
    }
}

/// A column of the target as it was.
#[cfg(any(feature = "pg18", feature = "pg19"))]
unsafe fn before(var: *mut pg_sys::Var, marks: &Marks) -> *mut pg_sys::Node {
    // SAFETY: a column, which is copied and not written to.
    unsafe {
        let copy = pg_sys::copyObjectImpl(var.cast()).cast::<pg_sys::Var>();
        if (*copy).varno != marks.target || (*copy).varlevelsup != marks.depth {
            return copy.cast();
        }
        let kind = (*copy).varreturningtype;
        // After a DELETE there is no new row.
        if kind == pg_sys::VarReturningType::VAR_RETURNING_NEW {
            let none = pg_sys::makeNullConst((*var).vartype, (*var).vartypmod, (*var).varcollid);
            return if marks.merges {
                choice(marks, none.cast(), copy.cast())
            } else {
                none.cast()
            };
        }
        if marks.only_marks_change && (*var).varattno >= 0 {
            return without_marks(copy, marks);
        }
        if kind == pg_sys::VarReturningType::VAR_RETURNING_OLD {
            return copy.cast();
        }
        (*copy).varreturningtype = pg_sys::VarReturningType::VAR_RETURNING_OLD;
        if marks.merges {
            choice(
                marks,
                copy.cast(),
                pg_sys::copyObjectImpl(var.cast()).cast(),
            )
        } else {
            copy.cast()
        }
    }
}

/// A column of the target as it was.
#[cfg(not(any(feature = "pg18", feature = "pg19")))]
unsafe fn before(var: *mut pg_sys::Var, marks: &Marks) -> *mut pg_sys::Node {
    // SAFETY: a column, which is copied and not written to.
    unsafe {
        let of_target =
            i64::from((*var).varno) == i64::from(marks.target) && (*var).varlevelsup == marks.depth;
        let copy = pg_sys::copyObjectImpl(var.cast()).cast();
        if of_target {
            without_marks(copy, marks)
        } else {
            copy.cast()
        }
    }
}

/// A column of the new row, or the whole of it, but for the marks.
unsafe fn without_marks(var: *mut pg_sys::Var, marks: &Marks) -> *mut pg_sys::Node {
    // SAFETY: a copy of a column of the target.
    unsafe {
        #[cfg(any(feature = "pg18", feature = "pg19"))]
        {
            (*var).varreturningtype = pg_sys::VarReturningType::VAR_RETURNING_DEFAULT;
        }
        if marks.columns.contains(&(*var).varattno) {
            return pg_sys::makeNullConst((*var).vartype, (*var).vartypmod, (*var).varcollid)
                .cast();
        }
        if (*var).varattno == 0 {
            return whole_row(&*var, marks).cast();
        }
        var.cast()
    }
}

/// The whole row as it was.
unsafe fn whole_row(var: &pg_sys::Var, marks: &Marks) -> *mut pg_sys::RowExpr {
    // SAFETY: the relation is open, and its descriptor valid while it is; nodes are built in the memory that the query lives in.
    unsafe {
        let shape = pgrx::tupdesc::PgTupleDesc::from_pg_unchecked((*marks.relation).rd_att);
        let mut row = pgrx::PgBox::<pg_sys::RowExpr>::alloc_node(pg_sys::NodeTag::T_RowExpr);
        for (column, number) in shape.iter().zip(1_i16..) {
            let value: *mut pg_sys::Node = if column.attisdropped {
                // Any value: nobody sees it (`expandRTE`).
                pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid).cast()
            } else if marks.columns.contains(&number) {
                pg_sys::makeNullConst(column.atttypid, column.atttypmod, column.attcollation).cast()
            } else {
                pg_sys::makeVar(
                    marks.target as _,
                    number,
                    column.atttypid,
                    column.atttypmod,
                    column.attcollation,
                    marks.depth,
                )
                .cast()
            };
            row.args = pg_sys::lappend(row.args, value.cast());
        }
        row.row_typeid = var.vartype;
        row.row_format = pg_sys::CoercionForm::COERCE_IMPLICIT_CAST;
        row.location = -1;
        row.into_pg()
    }
}
