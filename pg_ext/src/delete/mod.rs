pub mod cascade;
pub mod preview;
pub mod set_null_undo;
pub mod soft_delete;
