//! Tables managed with `keep => 'archive'`: PostgreSQL deletes their rows itself, and each is kept in an archive on
//! its way out.
//!
//! - `capture` is the row trigger, `truncate` that of TRUNCATE: a managed table has these two and nothing else.
//! - `removal` collects what one client's statement removes, and makes a deletion of it when it has ended; `key` is the key of
//!   its root, `record` what the registry learns.
//! - `row` makes the archived row of a removed one, in a `row_memory`.
//! - `let_go` remembers references that were set to NULL or to a default.
//! - `write` writes rows and index entries past SQL, `erase` deletes rows so; `memory` is a memory context of our own.
//! - `setting` switches all of it off.
//! - `find_rows` finds archived rows by their keys; `objects` are those in the bucket that archived rows name.
//! - `table` makes archives, with `columns` like those of their sources; `names` are what they are called, `shown_to` is who may read them.
//! - `months` divides an archive by month; `heaps` are the tables that its rows are in.
//! - `layouts` follow the columns of a source; `layout` compares two of them. `source` is what a backend knows of a table and its archive.
//! - `using` notes how a change of a column's type converts its values.
//! - `follow_table` brings an archive up to date with its table; `follow_ddl` does so when the schema has changed, `follow_reassign` after
//!   `REASSIGN OWNED`; `let_roles_go` lets roles be dropped that could read an archive.
//!
//! It uses `model`, `postgres`, `call`, `spi`, `graph` and `registry`.

pub mod capture;
pub mod columns;
pub mod erase;
pub mod find_rows;
pub mod follow_ddl;
pub mod follow_reassign;
pub mod follow_table;
pub mod heaps;
pub mod key;
pub mod layout;
pub mod layouts;
pub mod let_go;
pub mod let_roles_go;
pub mod memory;
pub mod months;
pub mod names;
pub mod objects;
pub mod record;
pub mod removal;
pub mod row;
pub mod row_memory;
pub mod setting;
pub mod shown_to;
pub mod source;
pub mod table;
pub mod truncate;
pub mod using;
pub mod write;
