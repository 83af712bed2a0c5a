//! The only way to run SQL: each method of `session` says as whom a statement runs, and under which settings.
//!
//! - `session` runs statements; `kept_statements` those whose plans are kept, in `kept_plans`; `committed_now` and `latest_snapshot` look at what is
//!   committed now; `cursor` reads many rows.
//! - `owners_rows` computes rows as the owner of their table for statements that run as the caller.
//! - `including_deleted` shows rows that a policy of Keepsake's hides.
//! - `shown_names` prints names of tables and types for messages.
//!
//! It uses `model`, `postgres`, `call` (the rows of a trigger's statement) and `run_as`.

pub mod committed_now;
pub mod cursor;
pub mod including_deleted;
pub mod kept_plans;
pub mod kept_statements;
pub mod latest_snapshot;
pub mod owners_rows;
pub mod session;
pub mod shown_names;
