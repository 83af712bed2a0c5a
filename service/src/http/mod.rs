//! HTTP, whatever the route: what is read of a request, and what every answer carries.
//!
//! - `problem`: [`ApiError`], and the problem document it becomes.
//! - `intake`: bodies that are kept in memory until they are stored, and `form`, which takes `multipart/form-data` apart.
//! - `body`, `query`, `idempotency`, `etag`, `conditions`, `range`, `headers`: parts of a request, parsed and checked.
//! - `cors`, `request_id`, `rate_limit`: what stands before every route.
//! - `cursor`: signed places in a listing.
//!
//! May call `runtime`, `clock` and `log`; knows no caller, no database and no store.

pub mod body;
pub(crate) mod conditions;
pub(crate) mod cors;
pub(crate) mod cursor;
pub mod etag;
pub(crate) mod form;
pub mod headers;
pub(crate) mod idempotency;
pub(crate) mod intake;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod range;
pub mod rate_limit;
pub(crate) mod request_id;

pub(crate) use problem::ApiError;
