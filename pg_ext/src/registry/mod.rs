//! The registry's records: tables of the schema `keepsake` that several rooms read or write.
//!
//! - `deletion` reads the record of a deletion, for a caller who may act on it, and postpones or retries its purge.
//! - `stored_key` reads the keys of rows that deletions and holds keep.
//! - `transaction_deletions` knows which deletions this transaction has made.
//! - `description` tells whether a table can be managed, and whether the caller owns it.
//! - `locks` are the extension's own in PostgreSQL's lock manager.
//!
//! It uses `model`, `postgres`, `spi`, `graph` and `access`. A table that one room alone uses is that room's.

pub mod deletion;
pub mod description;
pub mod locks;
pub mod stored_key;
pub mod transaction_deletions;
