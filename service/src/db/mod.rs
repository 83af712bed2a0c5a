//! PostgreSQL, by one call of one SQL function at a time.
//!
//! - `call`: the functions, and the trait [`Database`] that calls them.
//! - `schema`: the schema version that the service needs.
//! - `envelope`, `error`: what an answer says, and why there is none.
//! - `address`: a `DATABASE_URL`.
//!
//! The connection itself is the host's. May call `runtime`, `clock` and `model`. Errors are [`DbError`]; only a refusal is
//! meant for clients.

mod address;
mod call;
mod envelope;
mod error;
mod schema;

pub use address::{Address, Login};
pub(crate) use call::read;
pub use call::{AnyDatabase, Call, CallerFunction, Database, SystemFunction};
pub use error::{DbError, Failure, Refusal, Trouble, lost, trouble, unavailable};
pub(crate) use schema::REQUIRED_SCHEMA;
