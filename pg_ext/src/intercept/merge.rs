//! `MERGE` on a managed table, planned so that it does not meet deleted rows, and marks those that it deletes.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::intercept::nodes::{Target, assignment, now};
use crate::intercept::returning;
use crate::postgres::pg_list::pointers;
use crate::run_as::trigger_policies::HIDING;

/// Hides deleted rows from a MERGE that reads no column of its target, of which PostgreSQL asks no SELECT policy.
///
/// # Safety
/// The query is a MERGE that is about to be planned, under the policies of its target, which `target` is.
pub unsafe fn hide_deleted(query: &pg_sys::Query, target: &Target) {
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

/// Makes of each `THEN DELETE` the UPDATE that marks the row, of which PostgreSQL then counts and returns the row, and finds one that it
/// meets twice. Where the statement updates rows as well and policies of the table's own tell an update from a deletion, its triggers do it; also where a
/// view would check the row that the UPDATE leaves.
///
/// # Safety
/// The query is a MERGE that is about to be planned, `target` its target, and `deletion_id` that column of it.
pub unsafe fn turn_deletes_into_updates(
    query: &mut pg_sys::Query,
    target: &Target,
    deletion_id: i16,
) {
    // SAFETY: the actions of a MERGE are a list of them; nodes are built in the memory that the query lives in.
    unsafe {
        let does = |command| {
            pointers::<pg_sys::MergeAction>(query.mergeActionList)
                .any(|action| (*action).commandType == command)
        };
        if !does(pg_sys::CmdType::CMD_DELETE) {
            return;
        }
        if checks_view(query) {
            return;
        }
        if does(pg_sys::CmdType::CMD_UPDATE) {
            if shows_updates_as_deletes(query, target)
                || has_other_policies(target)
                || sets_deleted_at(query, target)
            {
                return;
            }
        } else {
            check_as_delete(query);
        }
        let mut actions = std::ptr::null_mut();
        for action in pointers::<pg_sys::MergeAction>(query.mergeActionList) {
            if (*action).commandType == pg_sys::CmdType::CMD_DELETE {
                let passed_over = pass_over(action, target);
                mark(action, target);
                actions = pg_sys::lappend(actions, action.cast());
                actions = pg_sys::lappend(actions, passed_over.cast());
            } else {
                actions = pg_sys::lappend(actions, action.cast());
            }
        }
        query.mergeActionList = actions;
        target.changes(query, target.deleted_at);
        returning::show_merged_as_before(query, target.relation, [target.deleted_at, deletion_id]);
    }
}

/// `THEN DELETE` → `AND deleted_at IS NULL THEN UPDATE SET deleted_at = now()`.
unsafe fn mark(action: *mut pg_sys::MergeAction, target: &Target) {
    // SAFETY: an action of the query's, as the caller promises.
    unsafe {
        let live = target.has_mark(pg_sys::NullTestType::IS_NULL);
        let set = assignment((target.deleted_at, c"deleted_at"), now());
        (*action).commandType = pg_sys::CmdType::CMD_UPDATE;
        (*action).qual = pg_sys::make_and_qual((*action).qual, live.cast());
        (*action).targetList = pg_sys::lappend(std::ptr::null_mut(), set.cast());
    }
}

/// The action that leaves a deleted row as it is, which no later one is to meet.
unsafe fn pass_over(action: *mut pg_sys::MergeAction, target: &Target) -> *mut pg_sys::MergeAction {
    // SAFETY: as above; the copy is another node.
    unsafe {
        let copy = pg_sys::copyObjectImpl(action.cast()).cast::<pg_sys::MergeAction>();
        let deleted = target.has_mark(pg_sys::NullTestType::IS_NOT_NULL);
        (*copy).commandType = pg_sys::CmdType::CMD_NOTHING;
        (*copy).qual = pg_sys::make_and_qual((*copy).qual, deleted.cast());
        copy
    }
}

/// Has PostgreSQL ask the policies for DELETE where it would ask those for UPDATE.
unsafe fn check_as_delete(query: &mut pg_sys::Query) {
    use pg_sys::WCOKind::{
        WCO_RLS_MERGE_DELETE_CHECK, WCO_RLS_MERGE_UPDATE_CHECK, WCO_RLS_UPDATE_CHECK,
    };
    let mut checks = std::ptr::null_mut();
    // SAFETY: the checks of a query are a list of them.
    unsafe {
        for check in pointers::<pg_sys::WithCheckOption>(query.withCheckOptions) {
            match (*check).kind {
                WCO_RLS_MERGE_UPDATE_CHECK | WCO_RLS_UPDATE_CHECK => continue,
                WCO_RLS_MERGE_DELETE_CHECK => (*check).kind = WCO_RLS_MERGE_UPDATE_CHECK,
                _ => {}
            }
            checks = pg_sys::lappend(checks, check.cast());
        }
    }
    query.withCheckOptions = checks;
}

/// Whether a view WITH CHECK OPTION looks at the rows that the statement leaves. A DELETE leaves none.
unsafe fn checks_view(query: &pg_sys::Query) -> bool {
    // SAFETY: as above.
    unsafe {
        pointers::<pg_sys::WithCheckOption>(query.withCheckOptions)
            .any(|check| (*check).kind == pg_sys::WCOKind::WCO_VIEW_CHECK)
    }
}

/// Whether RETURNING cannot tell a row that was deleted before, and that the statement updates, from one that it deletes: before PostgreSQL 18 it
/// sees the new row alone.
#[cfg(feature = "pg17")]
unsafe fn shows_updates_as_deletes(query: &pg_sys::Query, target: &Target) -> bool {
    // SAFETY: as `hide_deleted`.
    let is_hidden = unsafe {
        let policies = (*target.relation).rd_rsdesc.as_ref();
        query.hasRowSecurity
            && policies.is_some_and(|policies| {
                pointers::<pg_sys::RowSecurityPolicy>(policies.policies)
                    .any(|policy| CStr::from_ptr((*policy).policy_name) == HIDING)
            })
    };
    !query.returningList.is_null() && !is_hidden
}

/// Before PostgreSQL 17, a MERGE has no RETURNING.
#[cfg(not(feature = "pg17"))]
const unsafe fn shows_updates_as_deletes(_query: &pg_sys::Query, _target: &Target) -> bool {
    false
}

/// Whether the table has policies that are not Keepsake's.
unsafe fn has_other_policies(target: &Target) -> bool {
    // SAFETY: an open relation's policies, if it has any, are a list of them with names.
    unsafe {
        let policies = (*target.relation).rd_rsdesc.as_ref();
        policies.is_some_and(|policies| {
            pointers::<pg_sys::RowSecurityPolicy>(policies.policies).any(|policy| {
                !CStr::from_ptr((*policy).policy_name)
                    .to_bytes()
                    .starts_with(b"keepsake_")
            })
        })
    }
}

/// Whether an UPDATE of it sets `deleted_at` by itself: then its rows cannot be told from those that it deletes.
unsafe fn sets_deleted_at(query: &pg_sys::Query, target: &Target) -> bool {
    // SAFETY: the targets of an action are a list of them.
    unsafe {
        pointers::<pg_sys::MergeAction>(query.mergeActionList)
            .filter(|action| (**action).commandType == pg_sys::CmdType::CMD_UPDATE)
            .any(|action| {
                pointers::<pg_sys::TargetEntry>((*action).targetList)
                    .any(|entry| (*entry).resno == target.deleted_at)
            })
    }
}
