pub mod error;
pub mod on_plain_delete;
pub mod row_id;
pub mod row_set;
pub mod sql;
