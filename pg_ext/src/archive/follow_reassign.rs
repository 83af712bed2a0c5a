//! `REASSIGN OWNED` fires no event trigger: archives follow the new owners of their sources from here.

use pgrx::pg_sys;

use crate::model::error::{Outcome, raise_unless_ok};
use crate::postgres::settings::LocalSettings;
use crate::spi::session::with_session;

/// Archives that the owners of their sources may not read.
const FOLLOW: &str = "
    SELECT keepsake.try_to_follow(t.relation) FROM keepsake.archive_table t
    JOIN pg_class c ON c.oid = t.relation JOIN pg_class a ON a.oid = t.archive
    WHERE NOT EXISTS (SELECT FROM aclexplode(a.relacl) x WHERE x.grantee = c.relowner AND x.privilege_type = 'SELECT' AND x.is_grantable)";

fn follow() -> Outcome<()> {
    // SAFETY: looks the extension up; `true` answers with none where there is none.
    let extension = unsafe { pg_sys::get_extension_oid(c"keepsake".as_ptr(), true) };
    if extension == pg_sys::InvalidOid {
        return Ok(());
    }
    // One that somebody reads follows when doctor() says so: the command does not wait for it.
    let _briefly = LocalSettings::open(&[(c"lock_timeout", c"1s")]);
    with_session(|session| session.registry(FOLLOW, &[]).map(|_| ()))
}

/// To be called after each utility statement.
pub fn after(statement: pg_sys::NodeTag) {
    if statement == pg_sys::NodeTag::T_ReassignOwnedStmt {
        raise_unless_ok(follow());
    }
}
