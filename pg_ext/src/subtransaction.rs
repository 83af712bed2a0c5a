//! Work that may fail without ending the transaction.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgSqlErrorCode, PgTryBuilder};

use crate::error::Outcome;

/// Does `work` in a subtransaction. When it fails, all that it did is undone and the outcome is the
/// message of the failure. What concerns the whole transaction is not caught: a cancelled query, a
/// server that stops or lacks resources, a conflict that wants the transaction retried.
pub fn attempt<R>(work: impl FnOnce() -> Outcome<R>) -> Result<R, String> {
    let savepoint = Savepoint::set();
    let done = PgTryBuilder::new(AssertUnwindSafe(|| {
        work().map_err(|failure| Caught::Message(ErrorReport::from(failure).message().to_owned()))
    }))
    .catch_others(|error| match &error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
            if !concerns_the_transaction(report.sql_error_code()) =>
        {
            Err(Caught::Message(report.message().to_owned()))
        }
        _ => Err(Caught::Whole(Box::new(error))),
    })
    .execute();
    match done {
        Ok(result) => {
            savepoint.release();
            Ok(result)
        }
        Err(caught) => {
            // Also before an error goes on: it would leave the session in a failed subtransaction,
            // which only a ROLLBACK ends, though nobody has said BEGIN.
            savepoint.roll_back();
            match caught {
                Caught::Message(message) => Err(message),
                // PostgreSQL's own record of it went with the subtransaction: it is raised anew.
                Caught::Whole(error) => match *error {
                    CaughtError::PostgresError(report) => {
                        CaughtError::ErrorReport(report).rethrow()
                    }
                    other => other.rethrow(),
                },
            }
        }
    }
}

/// What ended the work.
enum Caught {
    /// A failure that the caller deals with.
    Message(String),
    /// One that concerns the whole transaction.
    Whole(Box<CaughtError>),
}

/// Classes 40 (transaction rollback), 53 (insufficient resources) and 57 (operator intervention).
/// <https://www.postgresql.org/docs/15/errcodes-appendix.html>
fn concerns_the_transaction(code: PgSqlErrorCode) -> bool {
    // A SQLSTATE is packed six bits a character, the first lowest (MAKE_SQLSTATE in elog.h).
    const fn class(first: isize, second: isize) -> isize {
        first | second << 6
    }
    const CLASS: isize = 0xFFF;
    [class(4, 0), class(5, 3), class(5, 7)].contains(&(code as isize & CLASS))
}

/// An open subtransaction, and where the transaction stood before it.
struct Savepoint {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Savepoint {
    fn set() -> Self {
        // SAFETY: as PL/pgSQL does for a block with EXCEPTION (exec_stmt_block in pl_exec.c): the
        // caller's memory context and resource owner are kept and put back.
        unsafe {
            let before = Self {
                memory: pg_sys::CurrentMemoryContext,
                owner: pg_sys::CurrentResourceOwner,
            };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(before.memory);
            before
        }
    }

    fn release(self) {
        // SAFETY: the subtransaction that `set` began is the current one: whatever was begun within
        // has ended.
        unsafe {
            pg_sys::ReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }

    fn roll_back(self) {
        // SAFETY: as `release`; the error has been caught and copied out of the error state.
        unsafe {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
