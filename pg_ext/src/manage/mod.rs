//! What a table gets when it is given to Keepsake, and loses when it is taken back.
//!
//! - `manage_table` has `manage` and `unmanage`; `triggers` creates and drops triggers, `drop_guards` those of other tables.
//! - `archived_table` does the same for tables with an archive; `managed_schema` registers schemas whose tables all get one.
//! - `declared_reference` and `reference_override` add to the references that the catalog knows.
//! - `follow_renames` keeps the registry's names true, `attach_partition` lets a table with triggers become a partition;
//!   `ddl_command` is what both are called for.
//! - `hide` hides deleted rows from ordinary reads.
//!
//! It uses `intercept` (to check existing rows), `purge` (to register a retention), and the rooms before them.

pub mod archived_table;
pub mod attach_partition;
pub mod ddl_command;
pub mod declared_reference;
pub mod drop_guards;
pub mod follow_renames;
pub mod hide;
pub mod manage_table;
pub mod managed_schema;
pub mod reference_override;
pub mod triggers;
