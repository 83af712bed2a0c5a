//! What a query that the executor runs was planned to do.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::postgres::pg_list::{oids, pointers};

/// The plan of a query.
pub fn plan(query: &pg_sys::QueryDesc) -> Option<&pg_sys::PlannedStmt> {
    // SAFETY: NULL, or a plan that outlives the query.
    unsafe { query.plannedstmt.as_ref() }
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
#[cfg(feature = "pg15")]
pub fn required_rights(_plan: &pg_sys::PlannedStmt, entry: &pg_sys::RangeTblEntry) -> u64 {
    u64::from(entry.requiredPerms)
}

/// The rights on a relation that the executor checks.
#[cfg(not(feature = "pg15"))]
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

/// Where the plan says which columns it changes of the relation with this number in the range table, counted from 1.
pub fn updated_columns(
    plan: &pg_sys::PlannedStmt,
    number: u32,
) -> Option<*mut *mut pg_sys::Bitmapset> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    // SAFETY: the range table of a plan and its permissions are lists of such nodes, which live as long as it.
    unsafe {
        let entry = pointers::<pg_sys::RangeTblEntry>(plan.rtable).nth(index)?;
        #[cfg(feature = "pg15")]
        return Some(&raw mut (*entry).updatedCols);
        #[cfg(not(feature = "pg15"))]
        {
            let index = usize::try_from((*entry).perminfoindex).ok()?;
            let mut infos = pointers::<pg_sys::RTEPermissionInfo>(plan.permInfos);
            let info = infos.nth(index.checked_sub(1)?)?;
            Some(&raw mut (*info).updatedCols)
        }
    }
}

/// Whether the plan says that it changes the column of that name.
pub fn updates_column(plan: &pg_sys::PlannedStmt, number: u32, name: &CStr) -> bool {
    let Some((entry, columns)) = range_table_entry(plan, number).zip(updated_columns(plan, number))
    else {
        return false;
    };
    // SAFETY: looks into the system's caches; the set is the plan's, or NULL, which is empty.
    unsafe {
        let column = i32::from(pg_sys::get_attnum(entry.relid, name.as_ptr()));
        column > 0
            && pg_sys::bms_is_member(
                column - pg_sys::FirstLowInvalidHeapAttributeNumber,
                *columns,
            )
    }
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

/// A table that the query writes to, by its number in the range table.
pub fn result_table(query: &pg_sys::QueryDesc, number: i32) -> Option<*mut pg_sys::ResultRelInfo> {
    // SAFETY: a started query's state has a place for each entry of the range table, where it writes
    // to any; that of one that it does not write to is NULL.
    unsafe {
        let state = query.estate.as_ref()?;
        let index = u32::try_from(number).ok()?.checked_sub(1)?;
        if index >= state.es_range_table_size || state.es_result_relations.is_null() {
            return None;
        }
        let table = *state.es_result_relations.add(index as usize);
        (!table.is_null()).then_some(table)
    }
}

/// The relations that an analysed query reads or writes, those in its subqueries as well.
///
/// # Safety
/// `query` is an analysed query.
pub unsafe fn relations_of(query: *mut pg_sys::Query) -> impl Iterator<Item = pg_sys::Oid> {
    let (mut relations, mut invalid) = (std::ptr::null_mut(), std::ptr::null_mut());
    let mut has_policies = false;
    // SAFETY: as the caller promises; the list that it makes lives as long as the current memory context.
    unsafe {
        pg_sys::extract_query_dependencies(
            query.cast(),
            &raw mut relations,
            &raw mut invalid,
            &raw mut has_policies,
        );
        oids(relations)
    }
}
