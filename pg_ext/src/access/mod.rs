//! What the caller may do and see: privileges and row-level policies, which count although the engine runs as the owner.
//!
//! - `caller` names the roles that the registry records; `privileges` are those to one table.
//! - `trust` says whose policies and triggers run as the caller.
//! - `target_row` finds the row that a function was called for, as far as the caller may see and delete it.
//! - `visible_keys` names the rows in an error that the caller may read.
//!
//! It uses `model`, `postgres`, `spi`.

pub mod caller;
pub mod privileges;
pub mod target_row;
pub mod trust;
pub mod visible_keys;
