//! Work that may fail without ending the transaction.

use std::ffi::{CStr, c_char};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgSqlErrorCode, PgTryBuilder};

use crate::error::{Failure, Outcome};

/// Why work in a subtransaction was undone.
#[derive(Debug)]
pub enum Caught {
    /// It failed in the words of the domain.
    Failure(Failure),
    /// PostgreSQL, or a trigger of the user's, raised an error.
    Error {
        /// Its SQLSTATE.
        code: PgSqlErrorCode,
        /// Its message.
        message: String,
        /// The table that it names, qualified where the schema is known.
        table: Option<String>,
        /// The constraint that it names.
        constraint: Option<String>,
    },
}

impl Caught {
    /// The message of the failure.
    pub fn into_message(self) -> String {
        match self {
            Self::Failure(failure) => ErrorReport::from(failure).message().to_owned(),
            Self::Error { message, .. } => message,
        }
    }
}

/// Does `work` in a subtransaction. When it fails, all that it did is undone and the outcome says
/// why. What concerns the whole transaction is not caught: a cancelled query, a server that stops
/// or lacks resources, a conflict that wants the transaction retried.
pub fn attempt<R>(work: impl FnOnce() -> Outcome<R>) -> Result<R, Caught> {
    attempt_unless(concerns_the_transaction, work)
}

/// The same, but errors whose SQLSTATE `passes` go on to the caller as they are.
pub fn attempt_unless<R>(
    passes: impl Fn(PgSqlErrorCode) -> bool,
    work: impl FnOnce() -> Outcome<R>,
) -> Result<R, Caught> {
    let savepoint = Savepoint::set();
    let handling = AssertUnwindSafe((&savepoint, &passes));
    let done = PgTryBuilder::new(AssertUnwindSafe(|| work().map_err(Caught::Failure)))
        .catch_others(move |error| {
            let (savepoint, passes) = *handling;
            Err(caught(error, savepoint, passes))
        })
        .execute();
    match done {
        Ok(_) => savepoint.release(),
        Err(_) => savepoint.roll_back(),
    }
    done
}

/// What is to be known of an error; one that passes goes on from here.
fn caught(
    error: CaughtError,
    savepoint: &Savepoint,
    passes: &impl Fn(PgSqlErrorCode) -> bool,
) -> Caught {
    match &error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
            if !passes(report.sql_error_code()) =>
        {
            let (table, constraint) = match error {
                // SAFETY: pgrx leaves PostgreSQL's error on the error stack until it is handled.
                CaughtError::PostgresError(_) => unsafe { names_in_error() },
                _ => (None, None),
            };
            Caught::Error {
                code: report.sql_error_code(),
                message: report.message().to_owned(),
                table,
                constraint,
            }
        }
        _ => {
            // Left open, it would be what an EXCEPTION block further out rolls back in place of its own.
            savepoint.roll_back();
            match error {
                // PostgreSQL's own record of it went with the subtransaction: it is raised anew.
                CaughtError::PostgresError(report) => CaughtError::ErrorReport(report).rethrow(),
                other => other.rethrow(),
            }
        }
    }
}

/// The table and the constraint that the error now being handled names.
///
/// # Safety
/// There must be one on PostgreSQL's error stack.
unsafe fn names_in_error() -> (Option<String>, Option<String>) {
    // SAFETY: the copy is made in the current memory context, which is not ErrorContext here; its
    // strings are NUL-terminated or null, and copied before it is freed.
    unsafe {
        let copy = pg_sys::CopyErrorData();
        let schema = text((*copy).schema_name);
        let table = text((*copy).table_name).map(|table| match schema {
            Some(schema) => pgrx::spi::quote_qualified_identifier(schema, table),
            None => table,
        });
        let constraint = text((*copy).constraint_name);
        pg_sys::FreeErrorData(copy);
        (table, constraint)
    }
}

/// # Safety
/// `chars` is null or NUL-terminated.
unsafe fn text(chars: *const c_char) -> Option<String> {
    if chars.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(chars) };
    Some(text.to_string_lossy().into_owned())
}

/// Classes 40 (transaction rollback), 53 (insufficient resources) and 57 (operator intervention), and
/// a lock that was not to be had in time.
/// <https://www.postgresql.org/docs/15/errcodes-appendix.html>
fn concerns_the_transaction(code: PgSqlErrorCode) -> bool {
    // A SQLSTATE is packed six bits a character, the first lowest (MAKE_SQLSTATE in elog.h).
    const fn class(first: isize, second: isize) -> isize {
        first | second << 6
    }
    const CLASS: isize = 0xFFF;
    code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
        || [class(4, 0), class(5, 3), class(5, 7)].contains(&(code as isize & CLASS))
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

    fn release(&self) {
        // SAFETY: the subtransaction that `set` began is the current one: whatever was begun within
        // has ended.
        unsafe {
            pg_sys::ReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }

    fn roll_back(&self) {
        // SAFETY: as `release`; the error has been caught and copied out of the error state.
        unsafe {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
