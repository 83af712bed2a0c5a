pub mod executor;
pub mod guard;
pub mod planner;
pub mod skip_triggers;
pub mod statement_deletion;
