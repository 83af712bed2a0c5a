pub mod bound_storage;
pub mod object_rows;
