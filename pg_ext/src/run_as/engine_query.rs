//! Sees to it that a statement of the engine's own reads and writes the tables that it means.
//!
//! The engine's statements name tables. Their owner, or who owns the schema, may rename a table and put a view of his in
//! its place, even in a trigger of the same call: then the view's functions would run with the rights of the table's
//! owner. So each such query is looked at when it is planned, with its names resolved and before anything in it is
//! evaluated.

use pgrx::pg_sys;

use crate::model::error::{Failure, Outcome};
use crate::postgres::pg_list::pointers;
use crate::postgres::query_plan::relations_of;
use crate::run_as::archive_reading;

/// Refuses a query of the engine's that has met a view, a foreign table, another owner's table to write to, or policies.
///
/// # Safety
/// `query` is an analysed and rewritten query.
pub unsafe fn check(query: *mut pg_sys::Query) -> Outcome<()> {
    // SAFETY: as the caller promises; the relations are locked by then.
    unsafe {
        for relation in relations_of(query) {
            if !is_ours(relation)
                && !archive_reading::is_archive(relation)
                && !(is_table(relation) && is_open(relation))
            {
                return Err(exchanged(relation));
            }
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
    Ok(())
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
