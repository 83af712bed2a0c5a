pub mod arguments;
pub mod trigger_call;
pub mod trigger_row;
