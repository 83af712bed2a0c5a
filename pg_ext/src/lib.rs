//! The PostgreSQL extension `keepsake`: undoable deletion that keeps the promises of foreign keys.
//!
//! The engine reads the graph of references from the catalog ([`graph`]) and walks it: parents
//! first to delete ([`soft_delete`]), whole deletions to restore ([`restore`]), children first to
//! purge ([`purge`]). The triggers of [`guard`] keep everybody else from breaking what it keeps.
//! What the functions mean to their callers stands in `docs/sql-reference.md`.

// `ErrorReport` is large, and it is what pgrx lets a function return to keep its SQLSTATE.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

mod access;
mod archive;
mod arguments;
mod at_once;
mod cascade;
mod catalog;
mod conflict;
mod cursor;
mod deadline;
mod deletion;
mod detached;
mod engine_query;
mod engine_write;
mod error;
mod executor;
mod graph;
mod guard;
mod held;
mod hide;
mod hold;
mod idle_triggers;
mod isolation;
mod latest_snapshot;
mod live_constraint;
mod locks;
mod manage;
mod marking;
mod nodes;
mod object_rows;
mod panic_hook;
mod plan;
mod planner;
mod policy;
mod presign;
mod purge;
mod purge_plan;
mod purge_rings;
mod purge_rows;
mod raised_error;
mod reference;
mod reference_override;
mod restore;
mod restricted_utility;
mod retention;
mod root_row;
mod row_id;
mod row_set;
mod rules;
mod run_as;
mod selection;
mod session;
mod settings;
mod shielded_cursors;
mod skip;
mod soft_delete;
mod sql;
mod storage;
mod subtransaction;
mod trigger_call;
mod trigger_row;
mod triggers;
mod unguard;
mod visible;

pgrx::pg_module_magic!();

/// Run once in a backend, when it loads the library: with its first call of a function of
/// Keepsake's, or at its start where `session_preload_libraries` names the library.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    panic_hook::install();
    archive::reading::install();
    archive::restore::install();
    hide::install();
    isolation::install();
    run_as::install();
    restricted_utility::install();
    executor::install();
    planner::install();
    marking::install();
    archive::capture::install();
}

extension_sql_file!("../sql/registry.sql", name = "registry", bootstrap);
extension_sql_file!(
    "../sql/archive.sql",
    name = "archive",
    requires = ["registry"]
);
extension_sql_file!("../sql/hide.sql", name = "hide", requires = ["registry"]);
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
extension_sql_file!(
    "../sql/doctor.sql",
    name = "doctor",
    requires = ["registry", "outbox", "hide", "hold"]
);
extension_sql_file!("../sql/privileges.sql", name = "privileges", finalize);
