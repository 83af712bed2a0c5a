//! Lists of PostgreSQL's nodes and triggers, as its planner and executor hand them around.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The pointers in a list of nodes; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of pointers to `T`, and stays so while its pointers are used.
pub unsafe fn pointers<T>(list: *mut pg_sys::List) -> impl DoubleEndedIterator<Item = *mut T> {
    // SAFETY: each cell is a pointer by the caller's promise.
    unsafe { cells(list).iter().map(|cell| cell.ptr_value.cast()) }
}

/// The numbers in a list of integers; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of integers, and stays so while they are used.
pub unsafe fn integers(list: *mut pg_sys::List) -> impl Iterator<Item = i32> {
    // SAFETY: each cell is an integer by the caller's promise.
    unsafe { cells(list).iter().map(|cell| cell.int_value) }
}

/// The OIDs in a list of them; none in an empty one, which is NULL.
///
/// # Safety
/// `list` is NULL or a valid list of OIDs, and stays so while they are used.
pub unsafe fn oids(list: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: each cell is an OID by the caller's promise.
    unsafe { cells(list).iter().map(|cell| cell.oid_value) }
}

unsafe fn cells<'a>(list: *mut pg_sys::List) -> &'a [pg_sys::ListCell] {
    // SAFETY: a list has `length` cells at `elements` (pg_list.h).
    unsafe {
        list.as_ref().map_or(&[], |list| {
            std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0))
        })
    }
}

/// The triggers of an open table.
pub fn triggers(relation: &pg_sys::RelationData) -> &[pg_sys::Trigger] {
    // SAFETY: a trigger description, if there is one, has that many triggers, and stays while the
    // relation is open, as it is while it is borrowed.
    unsafe {
        relation.trigdesc.as_ref().map_or(&[], |description| {
            let count = usize::try_from(description.numtriggers).unwrap_or(0);
            std::slice::from_raw_parts(description.triggers, count)
        })
    }
}

/// The name of a trigger.
pub fn name(trigger: &pg_sys::Trigger) -> &CStr {
    // SAFETY: a trigger in the system's caches has a name, which lives as long as it.
    unsafe { CStr::from_ptr(trigger.tgname) }
}

/// The columns that a trigger is limited to, by `UPDATE OF`; none where it is not.
pub fn limited_to(trigger: &pg_sys::Trigger) -> &[i16] {
    match usize::try_from(trigger.tgnattr) {
        // SAFETY: a trigger in the system's caches has that many columns, which live as long as it.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(trigger.tgattr, count) },
        _ => &[],
    }
}

/// The entry of a plan's range table with this number, counted from 1; 0 is none.
pub fn range_table_entry(
    plan: &pg_sys::PlannedStmt,
    number: u32,
) -> Option<&pg_sys::RangeTblEntry> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    // SAFETY: the range table of a plan is a list of such entries, which live as long as it.
    unsafe {
        pointers::<pg_sys::RangeTblEntry>(plan.rtable)
            .nth(index)?
            .as_ref()
    }
}

/// The rights on a relation that the executor checks.
#[cfg(any(feature = "pg14", feature = "pg15"))]
pub fn required_rights(_plan: &pg_sys::PlannedStmt, entry: &pg_sys::RangeTblEntry) -> u64 {
    u64::from(entry.requiredPerms)
}

/// The rights on a relation that the executor checks.
#[cfg(not(any(feature = "pg14", feature = "pg15")))]
pub fn required_rights(plan: &pg_sys::PlannedStmt, entry: &pg_sys::RangeTblEntry) -> u64 {
    let index = usize::try_from(entry.perminfoindex).ok();
    let Some(index) = index.and_then(|index| index.checked_sub(1)) else {
        return 0;
    };
    // SAFETY: the permissions of a plan are a list of such nodes, which live as long as it.
    let info = unsafe {
        let mut infos = pointers::<pg_sys::RTEPermissionInfo>(plan.permInfos);
        infos.nth(index).and_then(|info| info.as_ref())
    };
    info.map_or(0, |info| info.requiredPerms)
}

/// What writes to tables: at the top of the plan, and of the WITH queries beside it.
pub fn modifications(plan: &pg_sys::PlannedStmt) -> impl Iterator<Item = &pg_sys::ModifyTable> {
    // SAFETY: a plan's subplans are a list of plans, or none of them (NULL); each says by its tag
    // that it is a ModifyTable before it is read as one, and lives as long as the plan.
    unsafe {
        pointers::<pg_sys::Plan>(plan.subplans)
            .chain([plan.planTree])
            .filter(|node| {
                !node.is_null() && pgrx::is_a(node.cast(), pg_sys::NodeTag::T_ModifyTable)
            })
            .map(|node| &*node.cast::<pg_sys::ModifyTable>())
    }
}
