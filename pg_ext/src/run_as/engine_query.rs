//! Sees to it that a statement of the engine's own reads and writes the tables that it means.
//!
//! The engine's statements name tables. Their owner, or who owns the schema, may rename a table and put a view of his in
//! its place, even in a trigger of the same call: then the view's functions would run with the rights of the table's
//! owner. So each such query is looked at when it is planned, with its names resolved and before anything in it is
//! evaluated.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::postgres::pg_list::{oids, pointers};
use crate::postgres::query_plan::relations_of;
use crate::run_as::archive_reading;
use crate::run_as::role::RunAs;

/// Refuses a query of the engine's that has met a view, a foreign table, another owner's table to write to, or policies. Whether all tables that it
/// comes to belong to the role that runs now.
///
/// # Safety
/// `query` is an analysed and rewritten query.
pub unsafe fn check(query: *mut pg_sys::Query) -> Outcome<bool> {
    let mut is_one_owners = true;
    // SAFETY: as the caller promises; the relations are locked by then.
    unsafe {
        for relation in relations_of(query) {
            if is_ours(relation) || archive_reading::is_archive(relation) {
                continue;
            }
            if !(is_table(relation) && is_open(relation)) {
                return Err(exchanged(relation));
            }
            is_one_owners = is_one_owners && is_callers_with_partitions(relation);
        }
        let with = pointers::<pg_sys::CommonTableExpr>((*query).cteList)
            .map(|with| (*with).ctequery.cast::<pg_sys::Query>())
            .filter(|inner| pgrx::is_a(inner.cast(), pg_sys::NodeTag::T_Query));
        for query in with.chain([query]) {
            // Nobody hangs a trigger on an archive, which belongs to a role that nobody is.
            if let Some(target) = target(&*query)
                && !is_callers(target)
                && !archive_reading::is_archive(target)
            {
                return Err(exchanged(target));
            }
        }
    }
    Ok(is_one_owners)
}

/// Evaluates what is constant in the indexes of the tables as their owners, before a plan is made with nobody's rights: PostgreSQL keeps it until the
/// index changes. Where it does meanwhile, nobody evaluates it again.
///
/// # Safety
/// `query` is an analysed query.
pub unsafe fn evaluate_as_owners(query: *mut pg_sys::Query) {
    // SAFETY: as the caller promises; the relations are locked by then, and their indexes are locked as the planner locks them. All are closed again.
    unsafe {
        let relations = relations_of(query)
            .filter(|relation| !is_ours(*relation) && !archive_reading::is_archive(*relation));
        for relation in relations {
            let Some(owner) = owner_of(relation) else {
                continue;
            };
            let _owner = (owner != pg_sys::GetUserId()).then(|| RunAs::other_owner(owner));
            let open = pg_sys::RelationIdGetRelation(relation);
            if open.is_null() {
                continue;
            }
            for index in oids(pg_sys::RelationGetIndexList(open)) {
                let index = pg_sys::index_open(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
                pg_sys::RelationGetIndexExpressions(index);
                pg_sys::RelationGetIndexPredicate(index);
                pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
            pg_sys::RelationClose(open);
        }
    }
}

fn exchanged(relation: pg_sys::Oid) -> Failure {
    Failure::Exchanged {
        relation: relation.to_u32(),
    }
}

/// What the query writes to.
unsafe fn target(query: &pg_sys::Query) -> Option<pg_sys::Oid> {
    let index = u32::try_from(query.resultRelation)
        .ok()
        .filter(|index| *index > 0)?;
    // SAFETY: the result relation is an entry of the query's range table.
    unsafe { Some((*pg_sys::rt_fetch(index, query.rtable)).relid) }
}

/// Whether it is PostgreSQL's or the registry's.
fn is_ours(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks into the system's caches.
    unsafe {
        let schema = pg_sys::get_rel_namespace(relation);
        schema == pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)
            || schema == pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true)
    }
}

fn is_table(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks into the system's caches.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    [pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE].contains(&kind)
}

/// Whether no policy binds the role that runs now: policies would run with its rights, and hide rows.
fn is_open(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks into the system's caches, for the current role.
    let state = unsafe { pg_sys::check_enable_rls(relation, pg_sys::InvalidOid, true) };
    state != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

/// Whether the role that runs now owns the table and its partitions.
fn is_callers_with_partitions(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks into the system's caches and reads a backend-local variable; without a lock, a partition may be gone by now, which has no owner.
    unsafe {
        if pg_sys::get_rel_relkind(relation) as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
            return is_callers(relation);
        }
        let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
        let all = pg_sys::find_all_inheritors(relation, no_lock, std::ptr::null_mut());
        oids(all).all(|one| owner_of(one).is_none_or(|owner| owner == pg_sys::GetUserId()))
    }
}

/// The owner of a relation.
unsafe fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: looks into the system's caches, within a transaction; an entry begins with the fixed columns of pg_class.
    unsafe {
        let kind = pg_sys::SysCacheIdentifier::RELOID as _;
        let entry = pg_sys::SearchSysCache1(kind, pg_sys::Datum::from(relation));
        let row = entry.as_ref()?.t_data;
        let form = row.cast::<u8>().add(usize::from((*row).t_hoff));
        let owner = (*form.cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(entry);
        Some(owner)
    }
}

/// Whether the role that runs now is the table's owner: its triggers run with this role's rights.
fn is_callers(relation: pg_sys::Oid) -> bool {
    // SAFETY: the analysis of the query has locked the relation; it is closed again at once.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        let Some(class) = open.as_ref().and_then(|open| open.rd_rel.as_ref()) else {
            return false;
        };
        let owner = class.relowner;
        pg_sys::RelationClose(open);
        owner == pg_sys::GetUserId()
    }
}
