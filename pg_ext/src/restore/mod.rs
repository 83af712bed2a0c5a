pub mod conflict;
pub mod handed_over;
pub mod live_constraint;
pub mod restore_deletion;
pub mod skip_conflicts;
