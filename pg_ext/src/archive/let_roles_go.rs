//! `DROP ROLE` of a role that may read archives because it owned their sources. PostgreSQL would refuse it as long as an archive
//! grants it anything, though the tables are dropped and the application knows of no archive. It fires no event trigger.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::archive::names::OWNER;
use crate::archive::shown_to;
use crate::graph::catalog::field;
use crate::model::error::{Outcome, raise_unless_ok};
use crate::model::sql::Ident;
use crate::postgres::pg_list;
use crate::spi::session::{Session, with_session};

/// To be called before each utility statement. Where PostgreSQL refuses the statement, it undoes this, too.
pub fn before(statement: &pg_sys::Node) {
    if statement.type_ != pg_sys::NodeTag::T_DropRoleStmt {
        return;
    }
    // SAFETY: looks the extension up; `true` answers with none where there is none. The others ask what the transaction and the caller may do.
    let passes = unsafe {
        pg_sys::get_extension_oid(c"keepsake".as_ptr(), true) == pg_sys::InvalidOid
            || pg_sys::XactReadOnly
            || !pg_sys::has_createrole_privilege(pg_sys::GetUserId())
    };
    if passes {
        return;
    }
    // SAFETY: the node is what its tag says.
    let roles = unsafe { named(&*std::ptr::from_ref(statement).cast::<pg_sys::DropRoleStmt>()) };
    raise_unless_ok(with_session(|session| {
        roles.iter().try_for_each(|role| let_go(session, role))
    }));
}

/// The roles that are named by their names; the caller's own cannot be dropped.
///
/// # Safety
/// A statement that PostgreSQL has parsed.
unsafe fn named(statement: &pg_sys::DropRoleStmt) -> Vec<Ident> {
    // SAFETY: a list of these nodes by the grammar; their names are NULL or end in NUL.
    unsafe {
        pg_list::pointers::<pg_sys::RoleSpec>(statement.roles)
            .filter(|role| !(**role).rolename.is_null())
            .map(|role| CStr::from_ptr((*role).rolename))
            .filter_map(|name| name.to_str().ok().map(|name| Ident(name.to_owned())))
            .collect()
    }
}

/// What a role was granted by Keepsake: archives, and the schemas that they are in.
const GRANTED: &str = "
    SELECT a.archive::oid AS archive FROM pg_roles r CROSS JOIN keepsake.archive_table a JOIN pg_class c ON c.oid = a.archive
    WHERE r.rolname = $1::text::name AND EXISTS (
        SELECT FROM aclexplode(c.relacl) x WHERE x.grantee = r.oid AND x.grantor = c.relowner)";
const ENTERED: &str = "
    SELECT n.nspname::text AS schema FROM pg_roles r CROSS JOIN pg_namespace n
    WHERE r.rolname = $1::text::name AND pg_get_userbyid(n.nspowner) = $2 AND EXISTS (
        SELECT FROM aclexplode(n.nspacl) x WHERE x.grantee = r.oid AND x.grantor = n.nspowner)";

fn let_go(session: &mut Session<'_, '_>, role: &Ident) -> Outcome<()> {
    let name = role.0.as_str();
    for row in session.registry_now(GRANTED, &[name.into()])? {
        shown_to::hide_from(session, field(&row, "archive")?, role)?;
    }
    for row in session.registry_now(ENTERED, &[name.into(), OWNER.into()])? {
        let schema = Ident(field(&row, "schema")?);
        session.registry(
            &format!("REVOKE ALL ON SCHEMA {schema} FROM {role} CASCADE"),
            &[],
        )?;
    }
    Ok(())
}
