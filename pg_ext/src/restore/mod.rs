//! Restore: undo of one deletion, exactly or not at all; or, when asked, of all rows that have a place.
//!
//! - `restore_deletion` has the SQL functions and brings the rows back, after `survey` has looked at their parents; `restore_row` has
//!   those for archived rows.
//! - `find_conflicts` judges each row as it would be when live, by the constraints of `live_constraint`.
//! - `handed_over` are rows that another deletion must keep; `skip_conflicts` finds those that stay deleted.
//! - `archived_parents` looks for the parents of rows in place that are kept in an archive; `beneath_archived` finds those that hang on
//!   parents that came back.
//! - `set_null_undo` puts back what SET NULL and SET DEFAULT had released.
//!
//! It uses `model`, `postgres`, `call`, `spi`, `graph`, `access`, `registry` and `restore_archived`.

pub mod archived_parents;
pub mod beneath_archived;
pub mod find_conflicts;
pub mod handed_over;
pub mod live_constraint;
pub mod restore_deletion;
pub mod restore_row;
pub mod set_null_undo;
pub mod skip_conflicts;
pub mod survey;
