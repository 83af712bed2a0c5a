//! The only way to code that a table's owner wrote: with the owner's rights, and restricted when somebody else called.
//!
//! - `role` enters a role and leaves it; `search_path` says where names are found and how values are printed.
//! - `shielded_cursors`, `restricted_utility` and `at_once` take from restricted code what could outlive the call.
//! - `owners_triggers` fires triggers of tables that a statement comes to by foreign keys as their own owners.
//! - `trigger_policies` hides deleted rows from the triggers that the engine's writes fire.
//! - `archive_reading` lets the engine's statements read archives.
//! - `engine_query` makes sure that a statement of the engine's meets the tables that it means.
//! - `engine_write` marks the engine's own writes, so that the triggers of a managed table let them pass.
//!
//! It uses `model` and `postgres`. Only `spi` enters a role.

pub mod archive_reading;
pub mod at_once;
pub mod engine_query;
pub mod engine_write;
pub mod owners_triggers;
pub mod restricted_utility;
pub mod role;
pub mod search_path;
pub mod shielded_cursors;
pub mod trigger_policies;
