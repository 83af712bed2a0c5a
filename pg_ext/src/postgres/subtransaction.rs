//! Work that may fail without ending the transaction.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};

use crate::model::error::{Failure, Outcome};
use crate::postgres::raised_error::RaisedError;

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
            Self::Failure(failure) => failure.into_report().message().to_owned(),
            Self::Error { message, .. } => message,
        }
    }
}

/// What decides whether an error is caught.
#[derive(Clone, Copy, Debug)]
pub struct Raised {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// Whether PostgreSQL raised it because the statement was to be interrupted, and not some code that says so.
    pub by_interrupt: bool,
    /// Whether it names a table or a type, as the errors of constraints do, and those that a trigger raises mostly do not.
    pub names_what: bool,
}

/// Does `work` in a subtransaction. When it fails, all that it did is undone and the outcome says
/// why. Errors that `passes` says go on to the caller as they are, with every field.
pub fn attempt_unless<R>(
    passes: impl Fn(Raised) -> bool,
    work: impl FnOnce() -> Outcome<R>,
) -> Result<R, Caught> {
    let savepoint = Savepoint::set();
    // What fails as the subtransaction is released has failed in it.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let done = work();
        if done.is_ok() {
            savepoint.release();
        }
        done
    }));
    match ended {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(failure)) => {
            savepoint.roll_back();
            Err(Caught::Failure(failure))
        }
        Err(payload) => Err(caught(payload, &savepoint, passes)),
    }
}

/// What is to be known of an error; one that passes goes on from here. In this order: the error is
/// taken off PostgreSQL's stack of errors, which is short, and whose overflow is a PANIC of the whole
/// server; then the subtransaction is undone, for left open it would be what an EXCEPTION block
/// further out rolls back in place of its own; then the error is raised again.
fn caught(
    payload: Box<dyn Any + Send>,
    savepoint: &Savepoint,
    passes: impl Fn(Raised) -> bool,
) -> Caught {
    if is_on_the_stack(&*payload) {
        let error = RaisedError::take(savepoint.memory);
        savepoint.roll_back();
        let code = error.code();
        let raised = Raised {
            code,
            by_interrupt: error.is_interrupt(),
            names_what: error.names_what(),
        };
        if passes(raised) {
            error.raise_again();
        }
        return Caught::Error {
            code,
            message: error.message(),
            table: error.table(),
            constraint: error.constraint(),
        };
    }
    savepoint.roll_back();
    match report(&*payload) {
        Some(report) if !passes(raised(report)) => Caught::Error {
            code: report.sql_error_code(),
            message: report.message().to_owned(),
            table: None,
            constraint: None,
        },
        _ => resume_unwind(payload),
    }
}

/// Whether the error is one of PostgreSQL's: pgrx leaves it on the stack until somebody handles it.
fn is_on_the_stack(payload: &(dyn Any + Send)) -> bool {
    matches!(payload.downcast_ref(), Some(CaughtError::PostgresError(_)))
}

/// An error that Rust code raised and PostgreSQL has not seen; `None` of a panic.
fn report(payload: &(dyn Any + Send)) -> Option<&ErrorReportWithLevel> {
    match payload.downcast_ref() {
        Some(CaughtError::ErrorReport(report)) => Some(report),
        Some(_) => None,
        None => payload.downcast_ref(),
    }
}

fn raised(report: &ErrorReportWithLevel) -> Raised {
    Raised {
        code: report.sql_error_code(),
        by_interrupt: false,
        names_what: true,
    }
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
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        self.put_back();
    }

    fn roll_back(&self) {
        // SAFETY: as `release`; no error is on PostgreSQL's stack any more.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        self.put_back();
    }

    fn put_back(&self) {
        // SAFETY: both were current when `set` was called, and outlive the subtransaction.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}
