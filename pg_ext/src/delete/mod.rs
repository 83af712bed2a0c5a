//! Soft deletion: one deletion, from its root down the graph.
//!
//! - `soft_delete` has the SQL function; `record` enters the deletion in the registry and finds its roots.
//! - `marked_rows` reads the key of the only row that a statement marked.
//! - `chain` takes rows that hang on rows of their own table, at any depth.
//! - `cascade` marks what cascades.
//! - `restrict` refuses a deletion while live rows refer to what it removed.
//! - `declared` has the trigger that carries a deletion of archived rows on to what is kept in place.
//! - `put_off` asks at the end of a statement what cannot be told before.
//! - `absorb` gives up deletions whose rows went over to that of their parents, in the same transaction.
//! - `set_null` releases what SET NULL and SET DEFAULT release, and remembers what it was.
//! - `preview` says what a soft delete would do.
//!
//! It uses `model`, `postgres`, `call`, `spi`, `graph`, `access`, `registry` and `archive`. Deletions by a plain DELETE begin in
//! `intercept`.

pub mod absorb;
pub mod cascade;
pub mod chain;
pub mod declared;
pub mod marked_rows;
pub mod preview;
pub mod put_off;
pub mod record;
pub mod restrict;
pub mod set_null;
pub mod soft_delete;
