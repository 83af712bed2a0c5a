//! What a table gets when it is given to Keepsake, and loses when it is taken back.
//!
//! - `manage_table` has `manage` and `unmanage`; `triggers` creates and drops triggers, `drop_guards` those of other tables.
//! - `bound_table` gives a table what it has because it is bound to the bucket.
//! - `archived_table` does the same for tables with an archive, `equip_partitions` for partitions that come later; `managed_schema` registers schemas whose tables all get one.
//! - `adopt` says which rows are soft-deleted already; `adopt_in_place` and `adopt_archived` make deletions of them.
//! - `move_to_archive` and `move_in_place` take a table from the one way of keeping its deleted rows to the other, `moving_tables` those that go along;
//!   `silent_write` says when their writes fire no trigger in safety.
//! - `old_snapshot` refuses transactions that would miss rows, `encoding` databases whose texts could not be read.
//! - `declared_reference` and `reference_override` add to the references that the catalog knows.
//! - `follow_renames` keeps the registry's names true, `attach_partition` lets a table with triggers become a partition;
//!   `make_room` lets a dump bring what Keepsake has made already, `follow_using` reads how values are converted to another type; `ddl_command` is what these are called for.
//! - `hide` hides deleted rows from ordinary reads, through a view or by `hiding_policies`.
//!
//! It uses `intercept` (to check existing rows), `purge` (to register a retention), and the rooms before them.

pub mod adopt;
pub mod adopt_archived;
pub mod adopt_in_place;
pub mod archived_table;
pub mod attach_partition;
pub mod bound_table;
pub mod ddl_command;
pub mod declared_reference;
pub mod drop_guards;
pub mod encoding;
pub mod equip_partitions;
pub mod follow_renames;
pub mod follow_using;
pub mod hide;
pub mod hiding_policies;
pub mod make_room;
pub mod manage_table;
pub mod managed_schema;
pub mod move_in_place;
pub mod move_to_archive;
pub mod moving_tables;
pub mod old_snapshot;
pub mod own_transaction;
pub mod reference_override;
pub mod reserved_columns;
pub mod silent_write;
pub mod triggers;
