//! How PostgreSQL calls the extension's functions, and what they read of the call.
//!
//! - `arguments` takes arguments without raising an internal error, whatever is sent.
//! - `trigger_call` checks that a trigger function is called only by the kind of trigger that it serves. The kind is the
//!   type of the function's parameter.
//! - `trigger_row` reads and changes the rows of such a call.
//! - `own_triggers` is the one table of the triggers that Keepsake creates.
//!
//! It uses `model`.

pub mod arguments;
pub mod own_triggers;
pub mod trigger_call;
pub mod trigger_row;
