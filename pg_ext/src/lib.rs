//! The PostgreSQL extension `keepsake`: undoable deletion that keeps the promises of foreign keys.
//!
//! The engine reads the graph of references from the catalog ([`graph`]) and walks it: parents
//! first to delete ([`delete`]), whole deletions to restore ([`restore`]), children first to
//! purge ([`purge`]). The triggers of [`intercept`] keep everybody else from breaking what it keeps.
//! What the functions mean to their callers stands in `docs/sql-reference.md`.

// `ErrorReport` is large, and it is what pgrx lets a function return to keep its SQLSTATE.
#![allow(clippy::result_large_err)]

use pgrx::prelude::*;

// The rooms. Each may use those before it in this list, and no other; `scripts/check-rooms` makes sure. The empty lines
// keep rustfmt from sorting them.

mod model;

mod postgres;

mod call;

mod run_as;

mod spi;

mod graph;

mod access;

mod registry;

mod archive;

mod hold;

mod delete;

mod restore_archived;

mod restore;

mod purge;

mod intercept;

mod manage;

mod outbox;

mod shared_rules;

pgrx::pg_module_magic!();

/// Run once in a backend, when it loads the library: with its first call of a function of
/// Keepsake's, or at its start where `session_preload_libraries` names the library.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    postgres::panic_hook::install();
    spi::including_deleted::install();
    purge::isolation::install();
    run_as::role::install();
    run_as::archive_reading::install();
    restore_archived::restoring::install();
    postgres::utility_hook::install(postgres::utility_hook::Eyes {
        before: |statement| {
            run_as::restricted_utility::refuse(statement);
            intercept::lost_guards::refuse_copy(statement);
            archive::let_roles_go::before(statement);
        },
        after: archive::follow_reassign::after,
    });
    run_as::trigger_policies::install();
    intercept::executor_hooks::install();
    intercept::planner::install();
    intercept::lost_guards::install();
    intercept::statement_deletion::install();
    registry::deletion_group::install();
    archive::capture::install();
}

// Each comes after the one before. Those that may stand in any order would stand in another each time that the script is made,
// and no two builds would have the same bytes.
extension_sql_file!("../sql/registry.sql", name = "registry", bootstrap);
extension_sql_file!(
    "../sql/archive.sql",
    name = "archive",
    requires = ["registry"]
);
extension_sql_file!(
    "../sql/hide.sql",
    name = "hide",
    requires = ["archive", "registry"]
);
extension_sql_file!(
    "../sql/hold.sql",
    name = "hold",
    requires = ["hide", "registry"]
);
extension_sql_file!(
    "../sql/purge_run.sql",
    name = "purge_run",
    requires = ["hold", "registry"]
);
extension_sql_file!(
    "../sql/outbox.sql",
    name = "outbox",
    requires = ["purge_run", "registry"]
);
extension_sql_file!(
    "../sql/purge.sql",
    name = "purge",
    requires = ["outbox", purge::batch::purge_step, "purge_run"]
);
extension_sql_file!(
    "../sql/follow_ddl.sql",
    name = "follow_ddl",
    requires = [
        "purge",
        "registry",
        manage::declared_reference::guard_references,
        manage::hiding_policies::hide_in_partitions,
        manage::own_transaction::is_of_this_transaction
    ]
);
extension_sql_file!(
    "../sql/follow_renames.sql",
    name = "follow_renames",
    requires = [
        "follow_ddl",
        "registry",
        "hold",
        manage::follow_renames::follow_renames,
        manage::follow_using::follow_using,
        manage::make_room::make_room,
        manage::attach_partition::attach_partition,
        manage::hiding_policies::show_detached
    ]
);
extension_sql_file!(
    "../sql/live_unique.sql",
    name = "live_unique",
    requires = ["follow_renames", "registry"]
);
extension_sql_file!(
    "../sql/archive_ddl.sql",
    name = "archive_ddl",
    requires = [
        "live_unique",
        "archive",
        archive::follow_ddl::follow_archive,
        manage::manage_table::manage,
        manage::triggers::own_triggers,
        manage::managed_schema::register_schema,
        manage::managed_schema::forget_schema
    ]
);
extension_sql_file!(
    "../sql/archive_doctor.sql",
    name = "archive_doctor",
    requires = ["archive_ddl", manage::triggers::own_triggers]
);
extension_sql_file!(
    "../sql/metrics.sql",
    name = "metrics",
    requires = ["archive_doctor", "hold", "purge_run", "outbox"]
);
extension_sql_file!(
    "../sql/doctor.sql",
    name = "doctor",
    requires = [
        "metrics",
        "registry",
        "archive_doctor",
        "outbox",
        "hide",
        "hold",
        hold::legal_hold::lost_holds,
        manage::triggers::own_triggers
    ]
);
extension_sql_file!("../sql/privileges.sql", name = "privileges", finalize);
