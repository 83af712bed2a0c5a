//! Restore: undo of one deletion, exactly or not at all; or, when asked, of all rows that have a place.
//!
//! - `restore_deletion` restores a deletion: rows `in_place`, rows in archives, or both. `restore_row` has the SQL functions for
//!   archived rows, `restore_conflicts` tells what a restore would meet.
//! - `in_place` looks first, then writes: `survey` looks at the parents of the rows, `revive` makes them live. `report` is its answer.
//! - `find_conflicts` judges each row as it would be when live, by the constraints of `live_constraint`.
//! - `handed_over` are rows that another deletion must keep, `hand_over` gives them to it; `skip_conflicts` finds those that stay deleted.
//! - `archived_children` tells which archived rows refer to rows in place, and so wait for them.
//! - `archived_parents` looks for the parents of rows in place that are kept in an archive; `beneath_archived` finds those that hang on
//!   parents that came back.
//! - `parents` come back before the rows that refer to them, where a restore is asked for them.
//! - `set_null_undo` puts back what SET NULL and SET DEFAULT had released.
//!
//! It uses `model`, `postgres`, `call`, `spi`, `graph`, `access`, `registry` and `restore_archived`.

pub mod archived_children;
pub mod archived_parents;
pub mod beneath_archived;
pub mod find_conflicts;
pub mod hand_over;
pub mod handed_over;
pub mod in_place;
pub mod live_constraint;
pub mod parents;
pub mod report;
pub mod restore_conflicts;
pub mod restore_deletion;
pub mod restore_row;
pub mod revive;
pub mod set_null_undo;
pub mod skip_conflicts;
pub mod survey;
