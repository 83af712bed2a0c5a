pub mod caller;
pub mod target_row;
pub mod visible_keys;
