//! Restore of archived rows: undo of a deletion that PostgreSQL itself carried out.
//!
//! - `restore_archive` carries one out. `work` is what is asked for: which rows of which deletions, by whose right.
//! - `row_choice` decides that on the archive alone; `archived_rows` shows archived rows in the shape that their table has now.
//! - `plan` decides what becomes of each row, by what stands in its way: `conflicts` with `unique_keys` (whose `index_entry` says what clashes), `orphans` without a
//!   parent, `unreadable` rows. It is left out as long as nothing does: the indexes and the check of `foreign_keys` say so.
//! - `write` carries it out: `insert` writes as COPY does, each `written_table` by `row_batch`, `rights` asks for the caller's, `undo` puts back what SET NULL had
//!   released. `restoring` is what triggers can read meanwhile.
//! - `deleted_rows` shows SQL what is in an archive, and `change_deleted` corrects it.
//!
//! It uses `model`, `postgres`, `call`, `run_as`, `spi`, `graph`, `access` and `registry`.

pub mod archived_rows;
pub mod change_deleted;
pub mod conflicts;
pub mod deleted_rows;
pub mod foreign_keys;
pub mod index_entry;
pub mod insert;
pub mod orphans;
pub mod plan;
pub mod restore_archive;
pub mod restoring;
pub mod rights;
pub mod row_batch;
pub mod row_choice;
pub mod undo;
pub mod unique_keys;
pub mod unreadable;
pub mod work;
pub mod write;
pub mod written_table;
