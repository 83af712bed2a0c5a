//! Objects in the bucket: when the last row that names one is gone for good, its key goes to a worker.
//!
//! - `bound_storage` binds a table to the bucket, and has the trigger functions and `lease_objects`.
//! - `object_rows` tells whether any row names an object, also one that is not committed yet.
//!
//! It uses `model`, `call`, `spi`, `graph`, `registry` and `manage` (to create triggers).

pub mod bound_storage;
pub mod object_rows;
