//! What happens to plain SQL on managed tables: hooks of planner and executor, and trigger functions.
//!
//! - `planner` turns a DELETE into the UPDATE that marks its rows. `statement_deletion` makes one deletion of the rows
//!   that a statement marked. `shows_deleted` lets that statement see them.
//! - `returning` has a converted DELETE return the rows as they were.
//! - `insert_again` makes a deleted row live again that is inserted anew.
//! - `upsert` and `merge` have ON CONFLICT and MERGE treat deleted rows as rows that are not there. `nodes` builds the parts of
//!   queries.
//! - `guard` has the trigger functions that keep live rows from referring to deleted ones.
//!   `parent_probe` looks a single row's parent up for it, `locked_row` knows where the foreign key's check has found it; `follow_key` has deleted rows follow a key that changes.
//! - `lost_guards` refuses what guards that somebody has dropped or disabled would have looked at.
//! - `executor_hooks` keep the stack of statements; `skip_triggers` leaves out triggers that have nothing to do, `skip_checks` what a DELETE
//!   does not check. `column_rights` has a MERGE that deletes ask for no right to update.
//!
//! It uses `delete`, `hold`, and the rooms before them.

pub mod column_rights;
pub mod executor_hooks;
pub mod follow_key;
pub mod guard;
pub mod insert_again;
pub mod locked_row;
pub mod lost_guards;
pub mod merge;
pub mod nodes;
pub mod parent_probe;
pub mod planner;
pub mod returning;
pub mod shows_deleted;
pub mod skip_checks;
pub mod skip_triggers;
pub mod statement_deletion;
pub mod upsert;
