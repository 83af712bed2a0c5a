//! The terms of the domain as types, and the SQL text made of them. Nothing here runs a statement or keeps state.
//!
//! - `error` has every failure: SQLSTATE, message, DETAIL and HINT in one table. `conflict` is what a failed restore lists,
//!   `found_conflict` knows the rows as well.
//! - `table` and `reference` describe the reference graph's parts and write the conditions over them.
//! - `row_id` is the address of a row version, `row_set` remembers rows of several tables.
//! - `on_plain_delete` says what a plain DELETE does to a managed table.
//! - `stored_value` reads values that the registry keeps as text.
//! - `on_conflict` says what a restore does with rows that cannot come back, `on_plain_delete` what a plain DELETE does to a managed table.
//! - `oid_map` has maps whose keys are OIDs.
//! - `sql` quotes identifiers and literals. All SQL text gets its names through it.
//!
//! It uses no other room. Every other room uses it.

pub mod conflict;
pub mod error;
pub mod found_conflict;
pub mod oid_map;
pub mod on_conflict;
pub mod on_plain_delete;
pub mod reference;
pub mod row_id;
pub mod row_set;
pub mod sql;
pub mod stored_value;
pub mod table;
