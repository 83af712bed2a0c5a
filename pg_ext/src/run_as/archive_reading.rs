//! Lets the engine's own statements read archives, whoever they run as.
//!
//! A restore compares archived rows with live ones, as the owner of the live table: its types' operators are his code.
//! Archives belong to a role without rights, and the owner needs none on them: the statement's rights to its archives are
//! asked of the archives' owner, as those of a view's tables are of the view's. That is done to the analysed query, and
//! only to the statement whose text was announced, from its analysis to its planning: functions that the planner calls
//! come later. In the same way a statement on one table may be let read another one.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::postgres::jumble::Jumble;
use crate::postgres::pg_list::pointers;

/// The role that owns every archive.
const OWNER: &CStr = c"keepsake_archive";

thread_local! {
    static ANNOUNCED: RefCell<Option<Announced>> = const { RefCell::new(None) };
    static JUDGED: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

static mut NEXT: pg_sys::post_parse_analyze_hook_type = None;

/// Hooks the analysis; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn.
    unsafe {
        NEXT = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(analysed);
    }
}

/// A statement, and the other table that it reads.
struct Announced {
    sql: String,
    beside: Option<pg_sys::Oid>,
}

/// While it lives, the next statement of this text may read archives, and deletions in the registry.
#[derive(Debug)]
pub struct Reading;

impl Reading {
    /// Announces the statement.
    pub fn by(sql: &str) -> Self {
        Self::announce(sql, None)
    }

    /// The same for one that also reads `table`, with its owner's rights to it.
    pub fn beside(sql: &str, table: pg_sys::Oid) -> Self {
        Self::announce(sql, Some(table))
    }

    fn announce(sql: &str, beside: Option<pg_sys::Oid>) -> Self {
        let sql = sql.to_owned();
        ANNOUNCED.set(Some(Announced { sql, beside }));
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        ANNOUNCED.set(None);
    }
}

/// While it lives, the next statement that is planned reads a table with its owner's rights, under the policies that bind whom it runs as: these
/// are in the query by then. It is to tell nothing of the rows but how many there are, and what he may read.
#[derive(Debug)]
pub struct Judging;

impl Judging {
    /// Lets the next statement judge the rows of `table`.
    pub fn rows_of(table: pg_sys::Oid) -> Self {
        JUDGED.set(Some(table));
        Self
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        JUDGED.set(None);
    }
}

/// Ends what was announced: planning begins, and with it code that is not ours.
///
/// # Safety
/// The query is NULL or about to be planned.
pub unsafe fn close(query: *mut pg_sys::Query) {
    ANNOUNCED.set(None);
    // SAFETY: the planner may scribble on the query that it is given, whose range table holds entries.
    unsafe {
        let Some((table, query)) = JUDGED.take().zip(query.as_ref()) else {
            return;
        };
        let judged = pointers::<pg_sys::RangeTblEntry>(query.rtable)
            .find(|entry| (**entry).rtekind == pg_sys::RTEKind::RTE_RELATION);
        if let Some(entry) = judged
            && (*entry).relid == table
        {
            check_as(query, entry, owner_of(table).unwrap_or(pg_sys::InvalidOid));
        }
    }
}

/// Whether a relation is an archive. Only a superuser can give a table to its owner.
pub fn is_archive(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks the role up; `true` answers with none where there is none.
    let owner = unsafe { pg_sys::get_role_oid(OWNER.as_ptr(), true) };
    owner != pg_sys::InvalidOid && owner_of(relation) == Some(owner)
}

/// Whether a relation is the registry's table of deletions.
fn is_deletions(relation: pg_sys::Oid) -> bool {
    // SAFETY: looks names up; `true` answers with none where there is none.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        schema != pg_sys::InvalidOid
            && pg_sys::get_relname_relid(c"deletion".as_ptr(), schema) == relation
    }
}

/// The role that owns every archive, where it is there.
pub fn owner() -> pg_sys::Oid {
    // SAFETY: as in `is_archive`.
    unsafe { pg_sys::get_role_oid(OWNER.as_ptr(), true) }
}

fn owner_of(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the analysis of the query has locked the relation; it is closed again at once.
    unsafe {
        let open = pg_sys::RelationIdGetRelation(relation);
        let owner = open.as_ref()?.rd_rel.as_ref().map(|class| class.relowner);
        pg_sys::RelationClose(open);
        owner
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn analysed(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: Jumble,
) {
    // SAFETY: passes on what the parser gave; the query has just been made, and nothing else uses it yet.
    unsafe {
        if let Some(beside) = announced(state) {
            open(query, beside);
        }
        if let Some(next) = NEXT {
            pg_guard_ffi_boundary(|| next(state, query, jumble));
        }
    }
}

/// The other table of the statement, if it is the announced one.
unsafe fn announced(state: *mut pg_sys::ParseState) -> Option<Option<pg_sys::Oid>> {
    ANNOUNCED.with_borrow(|announced| {
        let announced = announced.as_ref()?;
        // SAFETY: the parser's state names the text that it parses, if there is one.
        let text = unsafe { state.as_ref() }.map(|state| state.p_sourcetext);
        text.filter(|text| !text.is_null())
            // SAFETY: it is a string that outlives the parsing.
            .filter(|text| unsafe { CStr::from_ptr(*text) }.to_bytes() == announced.sql.as_bytes())
            .map(|_| announced.beside)
    })
}

/// Has the rights to the archives that a query reads or writes checked as their owner's, and those to the table beside as
/// its owner's. Our statements name them in FROM and WITH alone, or write to them.
unsafe fn open(query: *mut pg_sys::Query, beside: Option<pg_sys::Oid>) {
    // SAFETY: a query's range table and WITH list hold nodes of these types; a node says by its tag what it is.
    unsafe {
        for entry in pointers::<pg_sys::RangeTblEntry>((*query).rtable) {
            match (*entry).rtekind {
                pg_sys::RTEKind::RTE_RELATION if is_archive((*entry).relid) => {
                    check_as(&*query, entry, owner());
                }
                pg_sys::RTEKind::RTE_RELATION if is_deletions((*entry).relid) => {
                    let owner = owner_of((*entry).relid).unwrap_or(pg_sys::InvalidOid);
                    check_as(&*query, entry, owner);
                }
                pg_sys::RTEKind::RTE_RELATION if beside == Some((*entry).relid) => {
                    let owner = owner_of((*entry).relid).unwrap_or(pg_sys::InvalidOid);
                    check_as(&*query, entry, owner);
                }
                pg_sys::RTEKind::RTE_SUBQUERY => open((*entry).subquery, beside),
                _ => {}
            }
        }
        for with in pointers::<pg_sys::CommonTableExpr>((*query).cteList) {
            let inner = (*with).ctequery;
            if !inner.is_null() && pgrx::is_a(inner, pg_sys::NodeTag::T_Query) {
                open(inner.cast(), beside);
            }
        }
    }
}

#[cfg(feature = "pg15")]
unsafe fn check_as(_query: &pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, role: pg_sys::Oid) {
    // SAFETY: an entry of the query's range table.
    unsafe { (*entry).checkAsUser = role };
}

#[cfg(not(feature = "pg15"))]
unsafe fn check_as(query: &pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, role: pg_sys::Oid) {
    // SAFETY: an entry of the query's range table names its permissions by their place among the query's, from 1.
    unsafe {
        let place = usize::try_from((*entry).perminfoindex).ok();
        let Some(place) = place.and_then(|place| place.checked_sub(1)) else {
            return;
        };
        let mut infos = pointers::<pg_sys::RTEPermissionInfo>(query.rteperminfos);
        if let Some(info) = infos.nth(place) {
            (*info).checkAsUser = role;
        }
    }
}
