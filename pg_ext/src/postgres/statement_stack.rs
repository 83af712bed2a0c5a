//! Which statements are running in this backend, innermost last, and what each writes to.
//!
//! A trigger cannot know by itself whether an UPDATE is a converted DELETE, whether a row is deleted
//! because an UPDATE moves it to another partition, and whether a write is the engine's own or that
//! of a trigger that the engine's write has fired. The executor's hooks keep the stack.

use std::cell::RefCell;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::postgres::pg_list::pointers;
use crate::postgres::query_plan::{
    modifications, plan, range_table_entry, required_rights, updates_column,
};

/// What a statement does to the rows of a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    /// Updates them, as a plain UPDATE does, or a MERGE, or ON CONFLICT.
    pub updates: bool,
    /// Updates them in place of a DELETE, whose rights and policies have been checked, maybe beside other updates.
    pub converts: bool,
    /// Deletes them.
    pub deletes: bool,
    /// Sets the mark of a deletion in other updates, for which the right to delete the rows has not been checked.
    pub unchecked: bool,
    /// Is a MERGE.
    pub merges: bool,
    /// Inserts rows, and passes over those whose key another has.
    pub ignores_conflicts: bool,
}

impl Writes {
    fn and(self, other: Self) -> Self {
        Self {
            updates: self.updates || other.updates,
            converts: self.converts || other.converts,
            deletes: self.deletes || other.deletes,
            unchecked: self.unchecked || other.unchecked,
            merges: self.merges || other.merges,
            ignores_conflicts: self.ignores_conflicts || other.ignores_conflicts,
        }
    }
}

struct Statement {
    query: *mut pg_sys::QueryDesc,
    writes: Vec<(pg_sys::Oid, Writes)>,
    foreign_key_action: bool,
}

impl Statement {
    /// Nothing is known of a query without a plan, as other libraries may make one.
    fn of(query: &pg_sys::QueryDesc) -> Self {
        let address = std::ptr::from_ref(query).cast_mut();
        let Some(plan) = plan(query) else {
            return Self {
                query: address,
                writes: Vec::new(),
                foreign_key_action: false,
            };
        };
        let writes = writes(plan);
        let deletes = writes.iter().any(|(_, writes)| writes.deletes);
        Self {
            query: address,
            writes,
            foreign_key_action: deletes && text(query).is_some_and(is_foreign_key_action),
        }
    }
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

/// The innermost statement, which runs as long as the caller does; NULL while triggers are fired that no statement's rows fire.
pub fn innermost() -> Option<*mut pg_sys::QueryDesc> {
    RUNNING.with_borrow(|running| running.last().map(|last| last.query))
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
    let sets_mark = || updates_column(plan, modify.nominalRelation, c"deleted_at");
    let mut writes = match modify.operation {
        pg_sys::CmdType::CMD_UPDATE => {
            let converts = may(pg_sys::ACL_DELETE) && !may(pg_sys::ACL_UPDATE);
            Writes {
                updates: !converts,
                unchecked: !converts && sets_mark(),
                converts,
                ..Writes::default()
            }
        }
        pg_sys::CmdType::CMD_DELETE => Writes {
            deletes: true,
            ..Writes::default()
        },
        _ => {
            let merged = merged(modify);
            // One that deletes and has no DELETE left is converted as a whole, and then none of its updates sets a mark.
            let converts = may(pg_sys::ACL_DELETE) && !merged.deletes;
            Writes {
                updates: merged.updates && may(pg_sys::ACL_UPDATE),
                unchecked: merged.updates && !converts && sets_mark(),
                converts,
                ..merged
            }
        }
    };
    let updates = modify.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_UPDATE;
    writes.updates |= updates;
    writes.unchecked |= updates && sets_mark();
    writes.ignores_conflicts =
        modify.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_NOTHING;
    writes.merges = modify.operation == pg_sys::CmdType::CMD_MERGE;
    Some((entry.relid, writes))
}

/// What the actions of a MERGE do.
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
            deletes: action == pg_sys::CmdType::CMD_DELETE,
            ..Writes::default()
        })
    })
}

/// Runs `work` with the statement on the stack, however it ends.
pub fn while_running<R>(query: *mut pg_sys::QueryDesc, work: impl FnOnce() -> R) -> R {
    // SAFETY: the executor calls its hooks with a query, which outlives the call.
    within(Statement::of(unsafe { &*query }), work)
}

/// Runs `work`, which fires triggers of rows that no statement wrote: what these run is theirs, and not of who wrote the rows.
pub fn while_firing<R>(work: impl FnOnce() -> R) -> R {
    let statement = Statement {
        query: std::ptr::null_mut(),
        writes: Vec::new(),
        foreign_key_action: false,
    };
    within(statement, work)
}

fn within<R>(statement: Statement, work: impl FnOnce() -> R) -> R {
    struct Pop(usize);
    impl Drop for Pop {
        fn drop(&mut self) {
            RUNNING.with_borrow_mut(|running| running.truncate(self.0));
        }
    }
    let _pop = RUNNING.with_borrow_mut(|running| {
        running.push(statement);
        Pop(running.len() - 1)
    });
    work()
}
