//! The one door through which code of a table's owner runs: triggers, expressions of indexes and checks, casts,
//! operators, policies.
//!
//! The rule is PostgreSQL's own for maintenance (VACUUM, REINDEX, REFRESH): whatever a table's owner wrote runs as that
//! owner and, when somebody else called, as a security-restricted operation, which leaves nothing behind. It can make no
//! temporary table, prepared statement or cursor that outlives it; what it sets is undone; and what it would defer to
//! the commit, when the caller's rights are back, fires at the end of each statement (see [`crate::run_as::at_once`]) or is
//! refused by PostgreSQL. When the owner himself calls, his code runs as in any statement of his.
//!
//! Every statement of the engine on a user's table goes through [`RunAs`], which only [`crate::spi::session`] and
//! [`crate::spi::latest_snapshot`] open. Statements on the registry run as the extension's owner.
//! <https://www.postgresql.org/docs/current/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY>,
//! <https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/init/miscinit.c> (`SetUserIdAndSecContext`)

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use crate::postgres::settings::LocalSettings;
use crate::postgres::statement_stack;
use crate::run_as::archive_reading;
use crate::run_as::search_path::SearchPath;
use crate::run_as::shielded_cursors::ShieldedCursors;

thread_local! {
    /// How many [`RunAs`] are alive.
    static ACTING: Cell<usize> = const { Cell::new(0) };
    /// How many of them restrict what they run.
    static RESTRICTING: Cell<usize> = const { Cell::new(0) };
    /// How many statements ran when the innermost of an owner was entered.
    static ENTERED: Cell<Option<Entered>> = const { Cell::new(None) };
}

/// An owner's role, entered.
#[derive(Clone, Copy, Debug)]
struct Entered {
    /// The owner.
    role: pg_sys::Oid,
    /// How many statements ran then.
    depth: usize,
    /// Whether for a purge.
    purges: bool,
}

/// Settings that would end the session of who called: with an error, whatever catches it, and after a time (PostgreSQL
/// 17 and later). Both can be set by anybody.
const ENDING: [&CStr; 2] = [c"exit_on_error", c"transaction_timeout"];

/// Keeps restricted code from these. Once in a backend's life.
pub fn install() {
    for name in ENDING {
        if let Some(setting) = setting(name) {
            setting.flags |= pg_sys::GUC_NOT_WHILE_SEC_REST as c_int;
        }
    }
}

/// Whether the current role is a superuser.
pub fn is_superuser() -> bool {
    // SAFETY: looks the current role up in the system's caches.
    unsafe { pg_sys::superuser() }
}

/// A setting in this backend's table of them.
#[cfg(feature = "pg15")]
fn setting(name: &CStr) -> Option<&'static mut pg_sys::config_generic> {
    // SAFETY: the table has that many settings, each with a name; it stays as long as the backend.
    unsafe {
        let count = usize::try_from(pg_sys::GetNumConfigOptions()).ok()?;
        let settings = std::slice::from_raw_parts(pg_sys::get_guc_variables(), count);
        let found = settings
            .iter()
            .find(|setting| CStr::from_ptr((***setting).name) == name)?;
        found.as_mut()
    }
}

/// A setting in this backend's table of them.
#[cfg(not(feature = "pg15"))]
fn setting(name: &CStr) -> Option<&'static mut pg_sys::config_generic> {
    // SAFETY: looks it up, without an error where there is none; it stays as long as the backend.
    unsafe { pg_sys::find_option(name.as_ptr(), false, true, pg_sys::PGERROR as c_int).as_mut() }
}

/// What both a foreign key's action and the engine run under.
const ENGINE: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;

/// Whether what runs now carries out a foreign key's action. The engine, and so the triggers that
/// its writes fire, runs under the same flags, and so do the triggers of tables that the action
/// writes to: `reads_like_one` tells them apart.
pub fn in_foreign_key_action(reads_like_one: bool) -> bool {
    let (_, context) = current();
    // Of a statement that began before this library was loaded there is no text.
    let unknown = ACTING.get() == 0 && statement_stack::depth() == 0;
    context & ENGINE == ENGINE && (reads_like_one || unknown)
}

/// Whether what runs now is somebody's code that another has called through the engine.
pub fn is_restricted() -> bool {
    RESTRICTING.get() > 0
}

/// Whether a statement that is planned now is the engine's own on a user's table, and not one of a trigger or function
/// that it has called.
pub fn is_engines_own() -> bool {
    ENTERED
        .get()
        .is_some_and(|entered| entered.depth == statement_stack::depth())
}

/// The role of the engine's own statement that is about to run.
pub fn engines_own() -> Option<pg_sys::Oid> {
    let entered = ENTERED.get()?;
    (entered.depth == statement_stack::depth()).then_some(entered.role)
}

/// The role of the engine's own statement that runs now, directly within which another is about to.
pub fn engines_around() -> Option<pg_sys::Oid> {
    let entered = ENTERED.get()?;
    (entered.depth + 1 == statement_stack::depth()).then_some(entered.role)
}

/// Whether what runs now is a trigger or function that a statement of the engine's has called, but for those of a purge, which runs for nobody's
/// tenant.
pub fn is_beneath_engine() -> bool {
    let (_, context) = current();
    context & ENGINE == ENGINE
        && ENTERED
            .get()
            .is_some_and(|entered| !entered.purges && entered.depth < statement_stack::depth())
}

/// Lets policies bind the owner of a table again, until the engine's statement ends.
pub fn force_policies() {
    let (user, context) = current();
    set(user, context & !pg_sys::SECURITY_NOFORCE_RLS);
}

/// Who the statements of this backend run as, and under which restrictions.
fn current() -> (pg_sys::Oid, u32) {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads backend-local variables into live locals.
    unsafe { pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context) };
    (user, context as u32)
}

/// Whose code runs restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restricted {
    /// That of every owner but who calls.
    Others,
    /// That of every owner.
    Everybodys,
}

/// Whom a statement of the engine runs as.
#[derive(Clone, Debug)]
pub enum Role {
    /// The owner of a table, unhindered by FORCE ROW LEVEL SECURITY.
    Owner {
        /// The owner.
        owner: pg_sys::Oid,
        /// Whether his code is restricted although he calls himself.
        restricted: Restricted,
        /// Where names are looked for.
        path: SearchPath,
    },
    /// The extension's owner, for the registry, where nobody else has written code.
    ExtensionOwner(pg_sys::Oid),
}

impl Role {
    /// Takes the role on.
    pub fn enter(&self) -> RunAs {
        match self {
            Self::Owner {
                owner,
                restricted,
                path,
            } => {
                let (caller, _) = current();
                let restricts = *restricted == Restricted::Everybodys || caller != *owner;
                let as_owner = RunAs::enter(*owner, restricts, ENGINE, Some(path));
                ENTERED.set(Some(Entered {
                    role: *owner,
                    depth: statement_stack::depth(),
                    purges: *restricted == Restricted::Everybodys,
                }));
                as_owner
            }
            Self::ExtensionOwner(owner) => {
                RunAs::enter(*owner, false, ENGINE, Some(&SearchPath::pinned()))
            }
        }
    }
}

/// Runs as another role until dropped.
#[derive(Debug)]
pub struct RunAs {
    before: (pg_sys::Oid, u32),
    entered: Option<Entered>,
    /// An `Option`, so that `drop` can end it before the rights go back.
    settings: Option<LocalSettings>,
    /// Where it restricts.
    cursors: Option<ShieldedCursors>,
}

impl RunAs {
    /// As the caller, restricted: policies of a table are evaluated with the rights of whom they bind. Their text was
    /// printed under the caller's own `search_path`, which stays.
    pub fn restricted_caller() -> Self {
        let (caller, _) = current();
        Self::enter(caller, true, 0, None)
    }

    /// As a role that may nothing, restricted; `None` where somebody has dropped it.
    pub fn nobody() -> Option<Self> {
        let nobody = archive_reading::owner();
        (nobody != pg_sys::InvalidOid).then(|| Self::enter(nobody, true, 0, None))
    }

    /// As the owner of a table to which a statement of another's comes, for what he wrote there.
    pub fn other_owner(owner: pg_sys::Oid) -> Self {
        let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE;
        Self::enter(owner, true, flags, None)
    }

    fn enter(role: pg_sys::Oid, restricts: bool, flags: u32, path: Option<&SearchPath>) -> Self {
        let cursors = restricts.then(ShieldedCursors::shut);
        let before = current();
        let settings = path.map_or_else(Vec::new, |path| path.settings().to_vec());
        let settings = if restricts {
            LocalSettings::leaving_nothing(&settings)
        } else {
            LocalSettings::open(&settings)
        };
        if let Some(path) = path {
            path.pin_formats(&settings);
        }
        let restriction = if restricts {
            pg_sys::SECURITY_RESTRICTED_OPERATION
        } else {
            0
        };
        set(role, before.1 | flags | restriction);
        ACTING.set(ACTING.get() + 1);
        RESTRICTING.set(RESTRICTING.get() + usize::from(restricts));
        Self {
            before,
            entered: ENTERED.replace(None),
            settings: Some(settings),
            cursors,
        }
    }
}

impl Drop for RunAs {
    fn drop(&mut self) {
        // What was set within is undone while the rights are still the owner's.
        self.settings = None;
        ACTING.set(ACTING.get().saturating_sub(1));
        let restricts = usize::from(self.cursors.is_some());
        RESTRICTING.set(RESTRICTING.get().saturating_sub(restricts));
        ENTERED.set(self.entered);
        set(self.before.0, self.before.1);
    }
}

fn set(role: pg_sys::Oid, context: u32) {
    // SAFETY: writes backend-local variables; the abort of a transaction or subtransaction puts back what they were
    // when it began, should a guard never be dropped.
    unsafe { pg_sys::SetUserIdAndSecContext(role, context as c_int) }
}
