//! The stack: a PostgreSQL with the extension, the migrations and an example application,
//! and the worker under `wrangler dev` with a local bucket.
//!
//! One source for everyone who needs Keepsake running: `make dev` (the program `keepsake-dev`
//! beside this library), the end-to-end tests, and benchmarks. Everything listens on loopback
//! alone, on free ports, with passwords and keys made for the occasion, and ends with the
//! process that started it, however that ends.

pub mod api;
pub mod applies;
pub mod contract;
pub mod cors;
pub mod fixtures;
pub mod leash;
pub mod migrate;
mod owner;
pub mod pgbench;
pub mod places;
pub mod pool;
pub mod postgres;
pub mod process;
pub mod processor;
pub mod random;
pub mod secrets;
pub mod seeds;
pub mod shrink;
pub mod stack;
pub mod token;
pub mod verifier;
pub mod worker;
