//! A plain `DELETE` on a managed table, planned as the UPDATE that marks its rows.
//!
//! It is done to the rewritten query, when views, rules and row-level policies have been worked
//! into it as those of a DELETE, and again whenever a prepared statement or a function's statement
//! is planned. The rights that the executor checks stay those of a DELETE. The triggers that fire
//! are those of an UPDATE, and the one on `deleted_at` makes a deletion of it (see `marking`).

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::engine_write::EngineWrite;
use crate::executor;
use crate::nodes::pointers;
use crate::policy::OnPlainDelete;
use crate::rights;

static mut NEXT: pg_sys::planner_hook_type = None;

/// Hooks the planner; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is
    // called in turn.
    unsafe {
        NEXT = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner may scribble on the query that it is given, and so may its hooks
    // (`pg_plan_query` in postgres.c); everything else is passed on.
    unsafe {
        if !query.is_null() && applies(text) {
            convert(&mut *query);
            for with in pointers::<pg_sys::CommonTableExpr>((*query).cteList) {
                let inner = (*with).ctequery;
                if !inner.is_null() && pgrx::is_a(inner, pg_sys::NodeTag::T_Query) {
                    convert(&mut *inner.cast());
                }
            }
        }
        match NEXT {
            Some(next) => pg_guard_ffi_boundary(|| next(query, text, options, parameters)),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    }
}

/// Not where triggers do not fire either, and not for what a foreign key carries out: that DELETE
/// must never be swallowed.
unsafe fn applies(text: *const c_char) -> bool {
    // SAFETY: a backend-local variable; the text, if any, is a string that outlives the call.
    unsafe {
        let replica = pg_sys::SessionReplicationRole
            == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as std::ffi::c_int;
        let action = !text.is_null() && executor::is_foreign_key_action(CStr::from_ptr(text));
        !replica && !rights::in_foreign_key_action(action)
    }
}

/// Turns the query, if it deletes from a table whose policy is to convert, into the UPDATE.
unsafe fn convert(query: &mut pg_sys::Query) {
    if query.commandType != pg_sys::CmdType::CMD_DELETE {
        return;
    }
    // SAFETY: the result relation of a DELETE is an entry of the query's range table, and the
    // parser or the plan cache has locked its table.
    unsafe {
        let Ok(index) = u32::try_from(query.resultRelation) else {
            return;
        };
        let entry = pg_sys::rt_fetch(index, query.rtable);
        if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION || EngineWrite::is_next((*entry).relid)
        {
            return;
        }
        let relation = pg_sys::RelationIdGetRelation((*entry).relid);
        if relation.is_null() {
            return;
        }
        // Tables that inherit from it have neither its triggers nor its keys.
        let inherited = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_RELATION
            && (*entry).inh
            && pg_sys::has_subclass((*entry).relid);
        if !inherited
            && converts(relation)
            && let Some(deleted_at) = deleted_at(relation)
        {
            let key = pg_sys::RelationGetIndexAttrBitmap(
                relation,
                pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY,
            );
            let key = if is_watched(relation, key) {
                std::ptr::null_mut()
            } else {
                key
            };
            mark(query, entry, deleted_at, key);
        }
        pg_sys::RelationClose(relation);
    }
}

/// The triggers of a table.
unsafe fn triggers<'a>(relation: pg_sys::Relation) -> &'a [pg_sys::Trigger] {
    // SAFETY: the relation is open; its trigger description, if any, has that many triggers, and
    // stays while the relation is open.
    unsafe {
        let description = (*relation).trigdesc;
        if description.is_null() {
            return &[];
        }
        let count = usize::try_from((*description).numtriggers).unwrap_or(0);
        std::slice::from_raw_parts((*description).triggers, count)
    }
}

/// Whether a trigger fires on updates of a key column: it must not for a key that stays as it is.
unsafe fn is_watched(relation: pg_sys::Relation, key: *mut pg_sys::Bitmapset) -> bool {
    // SAFETY: the relation is open; a trigger has that many columns.
    unsafe {
        triggers(relation).iter().any(|trigger| {
            let count = usize::try_from(trigger.tgnattr).unwrap_or(0);
            (0..count).any(|n| {
                let column = i32::from(*trigger.tgattr.add(n));
                pg_sys::bms_is_member(column - pg_sys::FirstLowInvalidHeapAttributeNumber, key)
            })
        })
    }
}

/// Whether the table has the trigger of that policy, and it fires.
unsafe fn converts(relation: pg_sys::Relation) -> bool {
    let fires = |trigger: &pg_sys::Trigger| {
        let enabled = trigger.tgenabled as u8;
        // SAFETY: a trigger's name is a string in the relation's cache entry, which is open.
        let name = unsafe { CStr::from_ptr(trigger.tgname) };
        name.to_bytes() == OnPlainDelete::Convert.trigger().as_bytes()
            && matches!(enabled, b'O' | b'A')
    };
    // SAFETY: the relation is open.
    unsafe { triggers(relation).iter().any(fires) }
}

/// The number of the column `deleted_at`.
unsafe fn deleted_at(relation: pg_sys::Relation) -> Option<i16> {
    // SAFETY: the relation is open, and its descriptor valid while it is.
    unsafe {
        let descriptor = (*relation).rd_att;
        let number = pg_sys::SPI_fnumber(descriptor, c"deleted_at".as_ptr());
        let is_time =
            number > 0 && pg_sys::SPI_gettypeid(descriptor, number) == pg_sys::TIMESTAMPTZOID;
        is_time.then(|| i16::try_from(number).ok()).flatten()
    }
}

/// `DELETE … WHERE …` → `UPDATE … SET deleted_at = now() WHERE … AND deleted_at IS NULL`.
unsafe fn mark(
    query: &mut pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
    deleted_at: i16,
    key: *mut pg_sys::Bitmapset,
) {
    // SAFETY: builds nodes in the memory that the query lives in, with the node constructors of
    // PostgreSQL itself.
    unsafe {
        let now = pg_sys::makeFuncExpr(
            pg_sys::Oid::from(pg_sys::F_NOW),
            pg_sys::TIMESTAMPTZOID,
            std::ptr::null_mut(),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        );
        let name = pg_sys::pstrdup(c"deleted_at".as_ptr());
        let target = pg_sys::makeTargetEntry(now.cast(), deleted_at, name, false);
        query.commandType = pg_sys::CmdType::CMD_UPDATE;
        query.targetList = pg_sys::lappend(std::ptr::null_mut(), target.cast());

        let mut live = pgrx::PgBox::<pg_sys::NullTest>::alloc_node(pg_sys::NodeTag::T_NullTest);
        live.arg = pg_sys::makeVar(
            query.resultRelation as _,
            deleted_at,
            pg_sys::TIMESTAMPTZOID,
            -1,
            pg_sys::InvalidOid,
            0,
        )
        .cast();
        live.nulltesttype = pg_sys::NullTestType::IS_NULL;
        live.location = -1;
        let from = query.jointree;
        (*from).quals = pg_sys::make_and_qual((*from).quals, live.into_pg().cast());

        // With a key column among what it changes, the UPDATE locks its rows as a DELETE would
        // (`ExecUpdateLockMode`): against whoever is about to refer to them. Where a trigger watches
        // the key, the rows are locked so when the statement ends.
        let updated = updated_columns(query, entry);
        let column = i32::from(deleted_at) - pg_sys::FirstLowInvalidHeapAttributeNumber;
        *updated = pg_sys::bms_add_member(*updated, column);
        *updated = pg_sys::bms_add_members(*updated, key);
    }
}

#[cfg(any(feature = "pg14", feature = "pg15"))]
unsafe fn updated_columns(
    _query: &pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
) -> *mut *mut pg_sys::Bitmapset {
    // SAFETY: the caller gives an entry of the query's range table.
    unsafe { &raw mut (*entry).updatedCols }
}

#[cfg(not(any(feature = "pg14", feature = "pg15")))]
unsafe fn updated_columns(
    query: &pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
) -> *mut *mut pg_sys::Bitmapset {
    // SAFETY: the entry is that of the result relation, which always has a permission entry.
    unsafe { &raw mut (*pg_sys::getRTEPermissionInfo(query.rteperminfos, entry)).updatedCols }
}
