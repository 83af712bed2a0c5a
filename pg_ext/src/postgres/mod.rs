//! PostgreSQL's own structures and services, behind safe functions. They know nothing of deletions.
//!
//! - `pg_list`, `query_plan` and `table_triggers` read what the planner and the executor hand around.
//! - `jumble` is what hooks of the analysis pass on.
//! - `statement_stack` knows which statements run in this backend and what each writes to.
//! - `utility_hook` lets others look at utility statements.
//! - `settings` holds settings for a while, `one_snapshot` and `ensured_snapshot` a snapshot; `deadline` cancels what runs too long.
//! - `index_scan` begins a scan of an index; `column_type` tells what can be done with a column's type.
//! - `node` makes nodes for the executor; `slot` empties and fixes slots.
//! - `unguarded` declares functions that are called for each row.
//! - `subtransaction` runs work that may fail; `raised_error` is what it failed with.
//! - `panic_hook` keeps backtraces away from clients.
//!
//! It uses `model`, for failures.

pub mod column_type;
pub mod deadline;
pub mod ensured_snapshot;
pub mod index_scan;
pub mod jumble;
pub mod node;
pub mod one_snapshot;
pub mod panic_hook;
pub mod pg_list;
pub mod query_plan;
pub mod raised_error;
pub mod settings;
pub mod slot;
pub mod statement_stack;
pub mod subtransaction;
pub mod table_triggers;
pub mod unguarded;
pub mod utility_hook;
