//! The only way to run SQL: each method of `session` says as whom a statement runs, and under which settings.
//!
//! - `session` runs statements; `cursor` reads many rows; `latest_snapshot` looks at what is committed now.
//! - `owners_rows` computes rows as the owner of their table for statements that run as the caller.
//! - `including_deleted` shows rows that a policy of Keepsake's hides.
//! - `shown_names` prints names of tables and types for messages.
//!
//! It uses `model`, `postgres`, `call` (the rows of a trigger's statement) and `run_as`.

pub mod cursor;
pub mod including_deleted;
pub mod latest_snapshot;
pub mod owners_rows;
pub mod session;
pub mod shown_names;
