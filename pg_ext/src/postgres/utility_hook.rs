//! The hook of utility statements, of which PostgreSQL has one chain for all.

use std::ffi::c_char;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;
static mut EYES: Option<Eyes> = None;

/// Who looks at each utility statement. Either may raise.
#[derive(Clone, Copy, Debug)]
pub struct Eyes {
    /// Before it runs.
    pub before: fn(&pg_sys::Node),
    /// After it ran.
    pub after: fn(pg_sys::NodeTag),
}

/// Hooks utility statements; once in a backend's life.
pub fn install(eyes: Eyes) {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn.
    unsafe {
        EYES = Some(eyes);
        NEXT = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process);
    }
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
    // SAFETY: PostgreSQL gives a planned statement, whose utility statement is a node, which says by its tag which; everything is
    // passed on as it came. The tag is read before: a statement that ends the transaction may free the plan.
    unsafe {
        let node = statement
            .as_ref()
            .and_then(|statement| statement.utilityStmt.as_ref());
        let seen = EYES.zip(node.map(|node| node.type_));
        if let Some((eyes, node)) = EYES.zip(node) {
            (eyes.before)(node);
        }
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
        if let Some((eyes, tag)) = seen {
            (eyes.after)(tag);
        }
    }
}
