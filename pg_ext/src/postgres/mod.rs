pub mod deadline;
pub mod panic_hook;
pub mod pg_list;
pub mod raised_error;
pub mod settings;
pub mod subtransaction;
