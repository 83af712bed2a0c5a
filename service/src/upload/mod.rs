//! What an upload set goes through once it is declared. Nothing here knows HTTP: the routes, the schedule and the queue
//! call it.
//!
//! - `set`: an upload set as the database has it.
//! - `recent_uploads`: the sets that this process declared.
//! - `parts`: completes multipart uploads, and aborts those of closed sets.
//! - `inspection`: compares stored objects with what was declared.
//! - `completion`: makes a whole set available, or rejects it.
//! - `at_once`: declares, stores and completes a set whose bytes came with one request.
//! - `open_uploads`: completes the sets whose client does not.
//!
//! May call `clock`, `log`, `model`, `db`, `storage` and `outbox`. Errors are [`UploadError`].

mod at_once;
mod completion;
mod error;
mod inspection;
mod open_uploads;
mod parts;
mod recent_uploads;
mod set;

pub(crate) use at_once::{AtOnce, Received, Undone, expiry as expiry_at_once};
pub(crate) use completion::{Completion, delete_closed};
pub(crate) use error::UploadError;
pub(crate) use inspection::{FileProblem, FileReport, Inspected, examine, inspect, recorded};
pub(crate) use open_uploads::{OpenUpload, Outcome, complete_ending};
pub(crate) use parts::{abort_closed, is_whole};
pub(crate) use recent_uploads::{RecentSet, remember};
pub(crate) use set::{Purpose, State, UploadSet, look_up};
