//! Work without a caller.
//!
//! - `cron`: the schedule's steps, one after the other.
//! - `bucket_events`: what the bucket reports of its objects, through a queue.
//! - `events`: tells what happened to attachments.
//! - `audit`: compares the bucket with the database.
//!
//! May call `clock`, `log`, `db`, `storage`, `receiver`, `outbox` and `upload`; knows no HTTP and no route. A step that fails is
//! logged and recorded, and the next one still runs.

mod audit;
mod bucket_events;
mod cron;
mod events;

pub(crate) use bucket_events::take;
pub(crate) use cron::run;
