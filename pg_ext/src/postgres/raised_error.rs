//! An error that PostgreSQL has raised, taken off its stack of errors with every field that it has.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;

thread_local! {
    /// Places in the code that errors have come from, and the forms of their messages: as many as the code has.
    static CONSTANTS: RefCell<HashSet<&'static CStr>> = RefCell::default();
}

/// The same text in memory that stays. PostgreSQL takes the place of an error, the domain of its translation and the form of its message to be
/// constants, and does not copy them when it raises the error again. Those of an error raised from Rust are none, and go with the stack of
/// errors; those in a copy go with the memory that it is in.
fn constant(text: &CStr) -> *const c_char {
    CONSTANTS.with_borrow_mut(|known| {
        let kept = known.get(text).copied().unwrap_or_else(|| {
            let kept: &'static CStr = Box::leak(text.into());
            known.insert(kept);
            kept
        });
        kept.as_ptr()
    })
}

/// A copy of the error, in memory that outlives the subtransaction it is raised in.
#[derive(Debug)]
pub struct RaisedError(*mut pg_sys::ErrorData);

impl RaisedError {
    /// Takes the error that is now being handled off the stack, and copies it into `memory`.
    pub fn take(memory: pg_sys::MemoryContext) -> Self {
        // SAFETY: as PL/pgSQL does (exec_stmt_block in pl_exec.c). Were no error on the stack, the
        // copy would be refused by an error (`errdata_stack_depth was not valid`), not be garbage.
        unsafe {
            pg_sys::MemoryContextSwitchTo(memory);
            let copy = pg_sys::CopyErrorData();
            for text in [
                &raw mut (*copy).filename,
                &raw mut (*copy).funcname,
                &raw mut (*copy).domain,
                &raw mut (*copy).context_domain,
                &raw mut (*copy).message_id,
            ] {
                if !(*text).is_null() {
                    *text = constant(CStr::from_ptr(*text));
                }
            }
            pg_sys::FlushErrorState();
            Self(copy)
        }
    }

    fn data(&self) -> &pg_sys::ErrorData {
        // SAFETY: made by `take`, freed by `drop` alone.
        unsafe { &*self.0 }
    }

    /// Its SQLSTATE.
    pub fn code(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::from(self.data().sqlerrcode)
    }

    /// Whether it was raised where PostgreSQL looks for interrupts (`ProcessInterrupts` in postgres.c): for a cancel
    /// or a timeout, and not by code that raises the same SQLSTATE.
    pub fn is_interrupt(&self) -> bool {
        self.text(self.data().funcname).as_deref() == Some("ProcessInterrupts")
    }

    /// Its message.
    pub fn message(&self) -> String {
        self.text(self.data().message).unwrap_or_default()
    }

    /// The table that it names, qualified where the schema is known.
    pub fn table(&self) -> Option<String> {
        let table = self.text(self.data().table_name)?;
        Some(match self.text(self.data().schema_name) {
            Some(schema) => pgrx::spi::quote_qualified_identifier(schema, table),
            None => table,
        })
    }

    /// Whether it names a table or a type.
    pub fn names_what(&self) -> bool {
        let data = self.data();
        !data.table_name.is_null() || !data.datatype_name.is_null()
    }

    /// The constraint that it names.
    pub fn constraint(&self) -> Option<String> {
        self.text(self.data().constraint_name)
    }

    fn text(&self, field: *const c_char) -> Option<String> {
        if field.is_null() {
            return None;
        }
        // SAFETY: the fields of a copy that are not null are strings of its own.
        let text = unsafe { CStr::from_ptr(field) };
        Some(text.to_string_lossy().into_owned())
    }

    /// Raises it again, as it was: PostgreSQL copies every field anew.
    #[allow(
        unreachable_code,
        reason = "the bindings of some releases know that the call never returns"
    )]
    pub fn raise_again(self) -> ! {
        // SAFETY: the copy is a whole error and outlives the call.
        unsafe { pg_sys::ReThrowError(self.0) };
        unreachable!("PostgreSQL has raised the error")
    }
}

impl Drop for RaisedError {
    fn drop(&mut self) {
        // SAFETY: made by `take`, and freed here alone.
        unsafe { pg_sys::FreeErrorData(self.0) }
    }
}
