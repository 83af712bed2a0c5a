//! PostgreSQL, over a socket of the worker.
//!
//! - `postgres`: the service's `Database` by a connection, to a Hyperdrive or to the server itself.
//! - `conversation`: the protocol. `scram`: the login.

mod conversation;
mod postgres;
mod scram;

pub(crate) use postgres::Postgres;
