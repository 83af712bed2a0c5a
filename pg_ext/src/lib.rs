//! The PostgreSQL extension `keepsake`: undoable deletion that keeps the promises of foreign keys.
//!
//! The engine reads the graph of references from the catalog ([`graph`]) and walks it: parents
//! first to delete ([`soft_delete`]), whole deletions to restore ([`restore`]), children first to
//! purge ([`purge`]). The triggers of [`guard`] keep everybody else from breaking what it keeps.
//! What the functions mean to their callers stands in `docs/sql-reference.md`.

// `ErrorReport` is large, and it is what pgrx lets a function return to keep its SQLSTATE.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod catalog;
mod conflict;
mod deletion;
mod engine_write;
mod error;
mod graph;
mod guard;
mod held;
mod hold;
mod manage;
mod object_rows;
mod presign;
mod purge;
mod purge_plan;
mod purge_rows;
mod reference;
mod restore;
mod retention;
mod rights;
mod root_row;
mod rules;
mod selection;
mod session;
mod soft_delete;
mod sql;
mod storage;
mod subtransaction;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/registry.sql", name = "registry", bootstrap);
extension_sql_file!(
    "../sql/retention.sql",
    name = "retention",
    requires = ["registry"]
);
extension_sql_file!("../sql/hold.sql", name = "hold", requires = ["registry"]);
extension_sql_file!(
    "../sql/purge_run.sql",
    name = "purge_run",
    requires = ["registry"]
);
extension_sql_file!(
    "../sql/outbox.sql",
    name = "outbox",
    requires = ["registry"]
);
extension_sql_file!(
    "../sql/purge.sql",
    name = "purge",
    requires = [purge::purge_step, "purge_run"]
);
extension_sql_file!(
    "../sql/follow_ddl.sql",
    name = "follow_ddl",
    requires = ["registry", reference::guard_references]
);
extension_sql_file!(
    "../sql/metrics.sql",
    name = "metrics",
    requires = ["hold", "purge_run", "outbox"]
);
extension_sql_file!("../sql/privileges.sql", name = "privileges", finalize);
