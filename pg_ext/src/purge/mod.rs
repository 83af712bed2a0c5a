//! Purge: the hard delete of expired deletions, in bounded batches.
//!
//! - `batch` has the SQL functions; `selection` says which deletions are due, `retention` when they are.
//! - `rows` deletes children first, never a referenced row; `cycles` deletes rows that refer to each other.
//! - `whole_months` empties tables that have a whole month's archived rows.
//! - `chosen` deletes rows by their keys, out of deletions that stay otherwise.
//! - `archived` deletes archived rows, which need no order; `gone` and `report` count what was done.
//! - `isolation` keeps one owner's tables from stopping the purge of the others'.
//! - `preview` says what a purge would do.
//!
//! It uses `model`, `postgres`, `call`, `spi`, `graph`, `access`, `registry`, `archive` and `hold`.

pub mod archived;
pub mod batch;
pub mod chosen;
pub mod cycles;
pub mod gone;
pub mod isolation;
pub mod preview;
pub mod report;
pub mod retention;
pub mod rows;
pub mod selection;
pub mod whole_months;
