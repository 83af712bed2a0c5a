//! `REASSIGN OWNED` fires no event trigger: archives follow the new owners of their sources from here.

use std::ffi::c_char;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::model::error::{Outcome, raise_unless_ok};
use crate::spi::session::with_session;

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;

/// Hooks utility statements; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn.
    unsafe {
        NEXT = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process);
    }
}

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
    with_session(|session| session.registry(FOLLOW, &[]).map(|_| ()))
}

#[pgrx::pg_guard]
#[expect(clippy::too_many_arguments, reason = "PostgreSQL's own")]
unsafe extern "C-unwind" fn process(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL gives a planned statement, whose utility statement is a node; everything is passed on as it came. The plan is
    // looked at before: a statement that ends the transaction may free it.
    unsafe {
        let reassigns = statement
            .as_ref()
            .and_then(|statement| statement.utilityStmt.as_ref())
            .is_some_and(|node| node.type_ == pg_sys::NodeTag::T_ReassignOwnedStmt);
        match NEXT {
            Some(next) => pg_guard_ffi_boundary(|| {
                next(
                    statement,
                    text,
                    read_only_tree,
                    context,
                    parameters,
                    environment,
                    receiver,
                    completion,
                )
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                parameters,
                environment,
                receiver,
                completion,
            ),
        }
        if reassigns {
            raise_unless_ok(follow());
        }
    }
}
