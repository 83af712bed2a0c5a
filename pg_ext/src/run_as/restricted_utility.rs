//! Refuses the utility statements that PostgreSQL lets restricted code run, but that reach past the call.
//!
//! `SET CONSTRAINTS` fires what the caller's own statements have deferred, with the rights of whoever runs it; and a
//! cursor that is declared stays until the caller's transaction ends. A type or domain in `pg_temp`, which PostgreSQL
//! refuses for tables alone, would come before every other of its name until the session ends. See [`crate::run_as::role`].

use pgrx::pg_sys;

use crate::model::error::{Failure, raise_unless_ok};
use crate::run_as::role;

/// Refuses such a statement where restricted code runs it.
pub fn refuse(statement: &pg_sys::Node) {
    if role::is_restricted()
        && let Some(name) = refused(statement.type_)
    {
        raise_unless_ok::<()>(Err(Failure::Restricted { statement: name }));
    }
}

/// The name of the statement, if restricted code may not run it.
fn refused(statement: pg_sys::NodeTag) -> Option<&'static str> {
    match statement {
        pg_sys::NodeTag::T_ConstraintsSetStmt => Some("SET CONSTRAINTS"),
        pg_sys::NodeTag::T_DeclareCursorStmt => Some("DECLARE CURSOR"),
        pg_sys::NodeTag::T_CreateDomainStmt => Some("CREATE DOMAIN"),
        pg_sys::NodeTag::T_CompositeTypeStmt
        | pg_sys::NodeTag::T_CreateEnumStmt
        | pg_sys::NodeTag::T_CreateRangeStmt => Some("CREATE TYPE"),
        _ => None,
    }
}
