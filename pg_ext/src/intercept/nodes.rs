//! Nodes of a query that is about to be planned, built in the memory that it lives in.

use std::ffi::CStr;

use pgrx::pg_sys;

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

impl Target {
    /// The condition that its row is live, or is not.
    ///
    /// # Safety
    /// The target is that of a query that is being planned.
    pub unsafe fn has_mark(&self, test: pg_sys::NullTestType::Type) -> *mut pg_sys::NullTest {
        // SAFETY: builds a node.
        unsafe {
            let mut condition =
                pgrx::PgBox::<pg_sys::NullTest>::alloc_node(pg_sys::NodeTag::T_NullTest);
            condition.arg = pg_sys::makeVar(
                self.number as _,
                self.deleted_at,
                pg_sys::TIMESTAMPTZOID,
                -1,
                pg_sys::InvalidOid,
                0,
            )
            .cast();
            condition.nulltesttype = test;
            condition.location = -1;
            condition.into_pg()
        }
    }

    /// Has the query know that it changes a column: triggers and computed columns depend on it.
    ///
    /// # Safety
    /// As above.
    pub unsafe fn changes(&self, query: &pg_sys::Query, column: i16) {
        // SAFETY: adds to a set of the query's, in the memory that it lives in.
        unsafe {
            let updated = updated_columns(query, self.entry);
            let member = i32::from(column) - pg_sys::FirstLowInvalidHeapAttributeNumber;
            *updated = pg_sys::bms_add_member(*updated, member);
        }
    }
}

/// The call of a function with that result and those arguments.
///
/// # Safety
/// The function is one.
pub unsafe fn call(
    function: pg_sys::Oid,
    result: pg_sys::Oid,
    arguments: *mut pg_sys::List,
) -> *mut pg_sys::Expr {
    // SAFETY: builds a node; the caller's function has that result and those arguments.
    unsafe {
        let explicit = pg_sys::CoercionForm::COERCE_EXPLICIT_CALL;
        let none = pg_sys::InvalidOid;
        pg_sys::makeFuncExpr(function, result, arguments, none, none, explicit).cast()
    }
}

/// The OID of a table as a constant.
pub fn table_constant(table: pg_sys::Oid) -> *mut pg_sys::Const {
    // SAFETY: builds a node.
    unsafe {
        pg_sys::makeConst(
            pg_sys::OIDOID,
            -1,
            pg_sys::InvalidOid,
            size_of::<pg_sys::Oid>() as i32,
            pg_sys::Datum::from(table),
            false,
            true,
        )
    }
}

/// The time of the transaction.
pub fn now() -> *mut pg_sys::Expr {
    let function = pg_sys::Oid::from(pg_sys::F_NOW);
    // SAFETY: PostgreSQL's own function, without arguments.
    unsafe { call(function, pg_sys::TIMESTAMPTZOID, std::ptr::null_mut()) }
}

/// The assignment of a value to a column.
///
/// # Safety
/// The value is an expression of the column's type.
pub unsafe fn assignment(
    (column, name): (i16, &CStr),
    value: *mut pg_sys::Expr,
) -> *mut pg_sys::TargetEntry {
    // SAFETY: builds a node.
    unsafe { pg_sys::makeTargetEntry(value, column, pg_sys::pstrdup(name.as_ptr()), false) }
}

/// The columns that a query says it changes.
///
/// # Safety
/// The entry is that of the query's target.
#[cfg(feature = "pg15")]
pub unsafe fn updated_columns(
    _query: &pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
) -> *mut *mut pg_sys::Bitmapset {
    // SAFETY: the caller gives an entry of the query's range table.
    unsafe { &raw mut (*entry).updatedCols }
}

/// The columns that a query says it changes.
///
/// # Safety
/// The entry is that of the query's target.
#[cfg(not(feature = "pg15"))]
pub unsafe fn updated_columns(
    query: &pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
) -> *mut *mut pg_sys::Bitmapset {
    // SAFETY: the entry is that of the result relation, which always has a permission entry.
    unsafe { &raw mut (*pg_sys::getRTEPermissionInfo(query.rteperminfos, entry)).updatedCols }
}
