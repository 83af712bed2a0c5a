//! PostgreSQL, by one call of one SQL function at a time.
//!
//! - `call`: the functions, and the trait [`Database`] that calls them.
//! - `schema`: the schema version that this worker needs.
//! - `envelope`, `error`: what an answer says, and why there is none.
//! - `postgres`: the trait by a connection; `conversation` is the protocol, `scram` the login, `address` a
//!   `DATABASE_URL`.
//!
//! May call `clock` and `model`. Errors are [`DbError`]; only a refusal is meant for clients.

mod address;
mod call;
mod conversation;
mod envelope;
mod error;
mod postgres;
mod schema;
mod scram;

pub(crate) use address::{Address, Login};
pub(crate) use call::{Call, CallerFunction, Database, SystemFunction, read};
pub(crate) use error::{DbError, Refusal};
pub(crate) use postgres::Postgres;
pub(crate) use schema::REQUIRED_SCHEMA;
