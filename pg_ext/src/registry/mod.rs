//! The registry's records: tables of the schema `keepsake` that several rooms read or write.
//!
//! - `archived` tells which tables have an archive.
//! - `deletion` reads the record of a deletion, for a caller who may act on it, and postpones or retries its purge.
//! - `deletion_group` makes the ids of deletions, and knows those that this transaction has made; `expiry` says when one expires.
//! - `stored_key` reads the keys of rows that deletions and holds keep.
//! - `description` tells whether a table can be managed, and whether the caller owns it.
//! - `locks` are the extension's own in PostgreSQL's lock manager.
//! - `unregistered` names tables that are not registered and have the triggers.
//! - `outbox` takes the keys of objects that rows gave up, and gives back those that a row names again.
//!
//! It uses `model`, `postgres`, `spi`, `graph` and `access`. A table that one room alone uses is that room's.

pub mod archived;
pub mod deletion;
pub mod deletion_group;
pub mod description;
pub mod expiry;
pub mod locks;
pub mod outbox;
pub mod stored_key;
pub mod unregistered;
