//! Which statements are running in this backend, innermost last, and what each writes to.
//!
//! PostgreSQL's executor is hooked for three things that a trigger cannot know by itself: whether
//! an UPDATE is a converted DELETE, whether a row is deleted because an UPDATE moves it to another
//! partition, and whether a write is the engine's own or that of a trigger that the engine's write
//! has fired. And for one that a trigger cannot do: not to be there (see `idle_triggers`).

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::intercept::skip_triggers;
#[cfg(not(feature = "pg14"))]
use crate::postgres::pg_list::pointers;
use crate::postgres::pg_list::{modifications, range_table_entry, required_rights};
use crate::run_as::at_once;

/// What a statement does to the rows of a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    /// Updates them, as a plain UPDATE does, or a MERGE, or ON CONFLICT.
    pub updates: bool,
    /// Updates them in place of a DELETE, whose rights and policies have been checked.
    pub converts: bool,
    /// Deletes them.
    pub deletes: bool,
}

impl Writes {
    fn and(self, other: Self) -> Self {
        Self {
            updates: self.updates || other.updates,
            converts: self.converts || other.converts,
            deletes: self.deletes || other.deletes,
        }
    }
}

struct Statement {
    writes: Vec<(pg_sys::Oid, Writes)>,
    foreign_key_action: bool,
}

impl Statement {
    /// Nothing is known of a query without a plan, as other libraries may make one.
    fn of(query: &pg_sys::QueryDesc) -> Self {
        let Some(plan) = plan(query) else {
            return Self {
                writes: Vec::new(),
                foreign_key_action: false,
            };
        };
        let deletes = plan.commandType == pg_sys::CmdType::CMD_DELETE;
        Self {
            writes: writes(plan),
            foreign_key_action: deletes && text(query).is_some_and(is_foreign_key_action),
        }
    }
}

/// The plan of a query.
pub fn plan(query: &pg_sys::QueryDesc) -> Option<&pg_sys::PlannedStmt> {
    // SAFETY: NULL, or a plan that outlives the query.
    unsafe { query.plannedstmt.as_ref() }
}

/// The text of a query; that of a worker, or one made in C, may be missing.
fn text(query: &pg_sys::QueryDesc) -> Option<&CStr> {
    // SAFETY: NULL, or a string that outlives the query.
    (!query.sourceText.is_null()).then(|| unsafe { CStr::from_ptr(query.sourceText) })
}

thread_local! {
    static RUNNING: RefCell<Vec<Statement>> = const { RefCell::new(Vec::new()) };
}

/// How many statements are running, one within the other.
pub fn depth() -> usize {
    RUNNING.with_borrow(Vec::len)
}

/// All that the innermost statement does to the relations for which `concerned` says yes: its WITH
/// queries may write to the table that it writes to.
pub fn current_writes(concerned: impl Fn(pg_sys::Oid) -> bool) -> Option<Writes> {
    RUNNING.with_borrow(|running| {
        let writes = &running.last()?.writes;
        let found = writes.iter().filter(|(relation, _)| concerned(*relation));
        found.map(|(_, writes)| *writes).reduce(Writes::and)
    })
}

/// Whether the innermost statement reads like one that carries out a foreign key's action.
pub fn reads_like_a_foreign_key_action() -> bool {
    RUNNING.with_borrow(|running| running.last().is_some_and(|last| last.foreign_key_action))
}

/// Whether a statement's text is of the form that `ri_triggers.c` gives a cascaded DELETE: `DELETE
/// FROM … WHERE $1 OPERATOR(…) …`, with a cast of `$1` where the operator is one of another type.
pub fn is_foreign_key_action(text: &CStr) -> bool {
    let text = text.to_bytes();
    let contains = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    text.starts_with(b"DELETE FROM ")
        && (contains(b" WHERE $1 OPERATOR(") || contains(b" WHERE $1::") && contains(b" OPERATOR("))
}

/// The plan's writes: at the top of it, and of the WITH queries beside it.
fn writes(plan: &pg_sys::PlannedStmt) -> Vec<(pg_sys::Oid, Writes)> {
    if plan.commandType == pg_sys::CmdType::CMD_SELECT && !plan.hasModifyingCTE {
        return Vec::new();
    }
    modifications(plan)
        .filter_map(|modify| write(plan, modify))
        .collect()
}

/// The table that the statement names there, and what it does to its rows; `None` where it names none.
pub fn write(
    plan: &pg_sys::PlannedStmt,
    modify: &pg_sys::ModifyTable,
) -> Option<(pg_sys::Oid, Writes)> {
    let entry = range_table_entry(plan, modify.nominalRelation)?;
    let rights = required_rights(plan, entry);
    let may = |right: u32| rights & u64::from(right) != 0;
    let converts = may(pg_sys::ACL_DELETE) && !may(pg_sys::ACL_UPDATE);
    let mut writes = match modify.operation {
        pg_sys::CmdType::CMD_UPDATE => Writes {
            updates: !converts,
            converts,
            deletes: false,
        },
        pg_sys::CmdType::CMD_DELETE => Writes {
            deletes: true,
            ..Writes::default()
        },
        _ => merged(modify),
    };
    writes.updates |= modify.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_UPDATE;
    Some((entry.relid, writes))
}

/// What the actions of a MERGE do.
#[cfg(feature = "pg14")]
fn merged(_modify: &pg_sys::ModifyTable) -> Writes {
    Writes::default()
}

/// What the actions of a MERGE do.
#[cfg(not(feature = "pg14"))]
fn merged(modify: &pg_sys::ModifyTable) -> Writes {
    // SAFETY: a ModifyTable has a list of actions for each table that it writes to, or none (NULL).
    let actions = unsafe {
        pointers::<pg_sys::List>(modify.mergeActionLists)
            .flat_map(|actions| pointers::<pg_sys::MergeAction>(actions))
            .map(|action| (*action).commandType)
    };
    actions.fold(Writes::default(), |writes, action| {
        writes.and(Writes {
            updates: action == pg_sys::CmdType::CMD_UPDATE,
            converts: false,
            deletes: action == pg_sys::CmdType::CMD_DELETE,
        })
    })
}

/// Runs `work` with the statement on the stack, however it ends.
fn while_running<R>(query: *mut pg_sys::QueryDesc, work: impl FnOnce() -> R) -> R {
    struct Pop(usize);
    impl Drop for Pop {
        fn drop(&mut self) {
            RUNNING.with_borrow_mut(|running| running.truncate(self.0));
        }
    }
    // SAFETY: the executor calls its hooks with a query, which outlives the call.
    let statement = Statement::of(unsafe { &*query });
    let _pop = RUNNING.with_borrow_mut(|running| {
        running.push(statement);
        Pop(running.len() - 1)
    });
    work()
}

static mut NEXT_START: pg_sys::ExecutorStart_hook_type = None;
static mut NEXT_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut NEXT_FINISH: pg_sys::ExecutorFinish_hook_type = None;

/// Hooks the executor; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, before any other code of this library, in a process of one
    // thread; whatever was hooked before is called in turn.
    unsafe {
        NEXT_START = pg_sys::ExecutorStart_hook;
        NEXT_RUN = pg_sys::ExecutorRun_hook;
        NEXT_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorStart_hook = Some(start);
        pg_sys::ExecutorRun_hook = Some(run);
        pg_sys::ExecutorFinish_hook = Some(finish);
    }
}

/// A converted DELETE is a DELETE to whoever sent it: what the executor reports when it has run is
/// this operation (`ProcessQuery` in pquery.c).
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: passes on what the executor gave; the query and its plan outlive the call.
    unsafe {
        match NEXT_START {
            Some(next) => pg_guard_ffi_boundary(|| next(query, flags)),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
        if plan(&*query).is_some_and(is_converted) {
            (*query).operation = pg_sys::CmdType::CMD_DELETE;
        }
        skip_triggers::leave_out(&*query);
        at_once::defer_nothing(&*query);
    }
}

/// Whether the statement itself, not one of its WITH queries, is a converted DELETE.
fn is_converted(plan: &pg_sys::PlannedStmt) -> bool {
    let top = plan.planTree.cast_const().cast();
    plan.commandType == pg_sys::CmdType::CMD_UPDATE
        && modifications(plan)
            .filter(|modify| std::ptr::eq(*modify, top))
            .filter_map(|modify| write(plan, modify))
            .any(|(_, writes)| writes.converts)
}

#[cfg(not(feature = "pg18"))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: passes on what the executor gave.
    while_running(query, || unsafe {
        match NEXT_RUN {
            Some(next) => pg_guard_ffi_boundary(|| next(query, direction, count, once)),
            None => pg_sys::standard_ExecutorRun(query, direction, count, once),
        }
    });
}

#[cfg(feature = "pg18")]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: passes on what the executor gave.
    while_running(query, || unsafe {
        match NEXT_RUN {
            Some(next) => pg_guard_ffi_boundary(|| next(query, direction, count)),
            None => pg_sys::standard_ExecutorRun(query, direction, count),
        }
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: passes on what the executor gave.
    while_running(query, || unsafe {
        match NEXT_FINISH {
            Some(next) => pg_guard_ffi_boundary(|| next(query)),
            None => pg_sys::standard_ExecutorFinish(query),
        }
    });
}
