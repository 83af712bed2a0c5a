pub mod at_once;
pub mod engine_query;
pub mod engine_write;
pub mod restricted_utility;
pub mod role;
pub mod shielded_cursors;
