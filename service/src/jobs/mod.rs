//! Work without a caller.
//!
//! - `cron`: the schedule's steps, one after the other.
//! - `store_events`: what the store reports of its objects, through a queue.
//! - `events`: tells what happened to attachments.
//! - `audit`: compares the bucket with the database.
//!
//! May call `clock`, `log`, `db`, `storage`, `receiver`, `outbox` and `upload`; knows no HTTP and no route. A step that fails is
//! logged and recorded, and the next one still runs.

mod audit;
mod cron;
mod events;
mod store_events;

pub use cron::run;
pub use store_events::{Handled, handle};
