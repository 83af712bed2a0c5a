//! What is asked when the statement has ended whose triggers carried a deletion of archived rows on: whether archived rows still refer to rows in
//! place that went with them. Before that, PostgreSQL may not have come to the foreign keys by which they go as well.

use std::cell::RefCell;

use pgrx::{Uuid, pg_sys};

use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::model::error::{Outcome, raise_unless_ok};
use crate::postgres::statement_stack;
use crate::spi::session::{Session, with_session};

/// Rows in place that a deletion removed.
#[derive(Debug)]
pub struct PutOff {
    /// The table that the deletion began with.
    pub root: pg_sys::Oid,
    /// The tables of the rows.
    pub parents: Vec<pg_sys::Oid>,
    /// The deletion.
    pub deletion: Uuid,
}

struct Waiting {
    what: PutOff,
    /// How many statements were running.
    depth: usize,
    /// When the transaction began: what one leaves behind that fails is not the next one's.
    transaction: pg_sys::TimestampTz,
}

thread_local! {
    static WAITING: RefCell<Vec<Waiting>> = const { RefCell::new(Vec::new()) };
}

fn transaction() -> pg_sys::TimestampTz {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Whether something can wait: the executor's hooks know of the statement that runs.
pub fn is_possible() -> bool {
    statement_stack::depth() > 0
}

/// Lets it wait until the innermost statement has ended.
pub fn until_statement_ends(what: PutOff) {
    let waiting = Waiting {
        what,
        depth: statement_stack::depth(),
        transaction: transaction(),
    };
    WAITING.with_borrow_mut(|all| all.push(waiting));
}

/// To be called when a statement has ended, and its triggers have fired: `ask` is asked what has waited for that.
pub fn statement_ended(ask: impl Fn(&mut Session<'_, '_>, &Graph, &PutOff) -> Outcome<()>) {
    if WAITING.with_borrow(Vec::is_empty) {
        return;
    }
    let (depth, now) = (statement_stack::depth(), transaction());
    let due: Vec<Waiting> = WAITING.with_borrow_mut(|all| {
        let (due, later) = std::mem::take(all)
            .into_iter()
            .partition(|one| one.depth > depth);
        *all = later;
        due
    });
    let due = due.into_iter().filter(|one| one.transaction == now);
    raise_unless_ok(with_session(|session| {
        for one in due {
            let graph = cache::current(session)?;
            ask(session, &graph, &one.what)?;
        }
        Ok(())
    }));
}
