//! A plain `DELETE` on a managed table, planned as the UPDATE that marks its rows.
//!
//! It is done to the rewritten query, when views, rules and row-level policies have been worked
//! into it as those of a DELETE, and again whenever a prepared statement or a function's statement
//! is planned. The rights that the executor checks stay those of a DELETE. The triggers that fire
//! are those of an UPDATE, and the one on `deleted_at` makes a deletion of it (see `statement_deletion`).

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{IntoDatum, direct_function_call, pg_sys};

use crate::call::own_triggers::{self, Carrier};
use crate::graph::cache;
use crate::intercept::lost_guards;
use crate::intercept::merge;
use crate::intercept::nodes::{Target, assignment, call, now, table_constant, updated_columns};
use crate::intercept::returning;
use crate::intercept::skip_triggers;
use crate::intercept::upsert;
use crate::model::error::{Failure, Outcome, raise_unless_ok};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::postgres::pg_list::pointers;
use crate::postgres::statement_stack;
use crate::postgres::table_triggers::{self, limited_to, name, triggers};
use crate::run_as::archive_reading;
use crate::run_as::engine_query;
use crate::run_as::engine_write::EngineWrite;
use crate::run_as::role::{self, RunAs};
use crate::spi::session::with_reading_session;
use crate::spi::shown_names;

static mut NEXT: pg_sys::planner_hook_type = None;

/// Hooks the planner; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is
    // called in turn.
    unsafe {
        NEXT = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(plan);
    }
}

#[cfg(not(feature = "pg19"))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: passes on what PostgreSQL gave.
    unsafe {
        around(query, text, || match NEXT {
            Some(next) => pg_guard_ffi_boundary(|| next(query, text, options, parameters)),
            None => pg_sys::standard_planner(query, text, options, parameters),
        })
    }
}

#[cfg(feature = "pg19")]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
    explain: *mut pg_sys::ExplainState,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: passes on what PostgreSQL gave.
    unsafe {
        around(query, text, || match NEXT {
            Some(next) => pg_guard_ffi_boundary(|| next(query, text, options, parameters, explain)),
            None => pg_sys::standard_planner(query, text, options, parameters, explain),
        })
    }
}

/// Plans a query, with what happens before and after.
unsafe fn around(
    query: *mut pg_sys::Query,
    text: *const c_char,
    go: impl FnOnce() -> *mut pg_sys::PlannedStmt,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner was given them.
    unsafe {
        let Before {
            deletes,
            is_several_owners,
        } = before(query, text);
        let nobody = is_several_owners
            .then(|| with_nobodys_rights(query))
            .flatten();
        let planned = go();
        drop(nobody);
        named_as_sent(planned, deletes)
    }
}

/// Has the plan of a converted DELETE say that it is a DELETE, as it is to whoever sent it: the count, the tag and the errors that name a command
/// are taken from there (`ProcessQuery`, `CreateCommandName`). What the executor does, the node of the plan says.
unsafe fn named_as_sent(
    planned: *mut pg_sys::PlannedStmt,
    deletes: bool,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner gives a plan that nobody else has yet.
    if let Some(plan) = unsafe { planned.as_mut() }
        && deletes
        && plan.commandType == pg_sys::CmdType::CMD_UPDATE
    {
        plan.commandType = pg_sys::CmdType::CMD_DELETE;
    }
    planned
}

/// Gives up all rights for the planning of a query.
unsafe fn with_nobodys_rights(query: *mut pg_sys::Query) -> Option<RunAs> {
    // SAFETY: the caller gives an analysed query.
    unsafe { engine_query::evaluate_as_owners(query) };
    RunAs::nobody()
}

/// What is known of a query before it is planned.
struct Before {
    /// Whether it is a DELETE that is now an UPDATE.
    deletes: bool,
    /// Whether it is the engine's own and comes to tables of other owners than whom it runs as. What they wrote that is constant in indexes, statistics
    /// and keys of partitions, PostgreSQL evaluates while it plans: with no one's rights.
    is_several_owners: bool,
}

/// What happens to a query before it is planned.
unsafe fn before(query: *mut pg_sys::Query, text: *const c_char) -> Before {
    // SAFETY: the planner may scribble on the query that it is given, and so may its hooks
    // (`pg_plan_query` in postgres.c).
    unsafe {
        archive_reading::close(query);
        let is_several_owners = !query.is_null()
            && role::is_engines_own()
            && !raise_unless_ok(engine_query::check(query));
        if query.is_null() || !applies(text) {
            return Before {
                deletes: false,
                is_several_owners,
            };
        }
        let sent = (*query).commandType;
        let alone = !(*query).hasModifyingCTE;
        convert(&mut *query, alone);
        for with in pointers::<pg_sys::CommonTableExpr>((*query).cteList) {
            let inner = (*with).ctequery;
            if !inner.is_null() && pgrx::is_a(inner, pg_sys::NodeTag::T_Query) {
                convert(&mut *inner.cast(), false);
            }
        }
        Before {
            deletes: sent == pg_sys::CmdType::CMD_DELETE && (*query).commandType != sent,
            is_several_owners,
        }
    }
}

/// Not where triggers do not fire either, and not for what a foreign key carries out: that DELETE
/// must never be swallowed.
unsafe fn applies(text: *const c_char) -> bool {
    // SAFETY: a backend-local variable; the text, if any, is a string that outlives the call.
    unsafe {
        let action =
            !text.is_null() && statement_stack::is_foreign_key_action(CStr::from_ptr(text));
        !table_triggers::are_off() && !role::in_foreign_key_action(action)
    }
}

/// Turns the query, if it deletes from a table that converts it, into the UPDATE; has an INSERT or MERGE treat deleted rows as
/// `upsert` says. `alone`: whether nothing else in the statement writes to tables.
unsafe fn convert(query: &mut pg_sys::Query, alone: bool) {
    let writes = matches!(
        query.commandType,
        pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_MERGE
    );
    let concerned = match query.commandType {
        pg_sys::CmdType::CMD_DELETE => true,
        // SAFETY: the targets of an UPDATE are a list of them.
        pg_sys::CmdType::CMD_UPDATE => unsafe { sets_deleted_at(query) },
        pg_sys::CmdType::CMD_INSERT => !query.onConflict.is_null(),
        pg_sys::CmdType::CMD_MERGE => true,
        _ => false,
    };
    if !concerned && !writes {
        return;
    }
    // SAFETY: the result relation of such a statement is an entry of the query's range table, and the
    // parser or the plan cache has locked its table.
    unsafe {
        let Ok(index) = u32::try_from(query.resultRelation) else {
            return;
        };
        let entry = pg_sys::rt_fetch(index, query.rtable);
        if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION || EngineWrite::is_next((*entry).relid)
        {
            return;
        }
        let relation = pg_sys::RelationIdGetRelation((*entry).relid);
        if relation.is_null() {
            return;
        }
        // Tables that inherit from it have neither its triggers nor its keys.
        let inherited = (*(*relation).rd_rel).relkind as u8 == pg_sys::RELKIND_RELATION
            && (*entry).inh
            && pg_sys::has_subclass((*entry).relid);
        if writes {
            raise_unless_ok(lost_guards::refuse_write(&*relation));
        }
        if writes && inherited && query.commandType != pg_sys::CmdType::CMD_INSERT {
            raise_unless_ok(lost_guards::refuse_write_to_heirs(&*relation));
        }
        if !concerned {
            pg_sys::RelationClose(relation);
            return;
        }
        if !inherited && !is_managed(&*relation) && query.commandType != pg_sys::CmdType::CMD_INSERT
        {
            raise_unless_ok(refuse_unguarded(&*relation));
        }
        if !inherited
            && is_managed(&*relation)
            && let Some(deleted_at) = column(relation, c"deleted_at", pg_sys::TIMESTAMPTZOID)
        {
            raise_unless_ok(refuse_half_guarded(query.commandType, &*relation));
            let target = Target {
                number: query.resultRelation,
                entry,
                relation,
                deleted_at,
            };
            match query.commandType {
                pg_sys::CmdType::CMD_DELETE if converts(&*relation) => {
                    turn_into_update(query, &target, alone);
                }
                pg_sys::CmdType::CMD_DELETE | pg_sys::CmdType::CMD_UPDATE => {}
                pg_sys::CmdType::CMD_INSERT => {
                    let refuse = own_function(c"refuse_deleted_conflict");
                    upsert::mind_conflicts(query, &target, refuse);
                }
                _ => {
                    merge::hide_deleted(query, &target);
                    if converts(&*relation)
                        && let Some(id) = column(relation, c"deletion_id", pg_sys::UUIDOID)
                    {
                        merge::turn_deletes_into_updates(query, &target, id);
                    }
                }
            }
        }
        pg_sys::RelationClose(relation);
    }
}

/// Whether a trigger fires on updates of a key column: it must not for a key that stays as it is.
fn is_watched(relation: &pg_sys::RelationData, key: *mut pg_sys::Bitmapset) -> bool {
    let watched = triggers(relation).iter().flat_map(limited_to);
    watched.into_iter().any(|column| {
        let member = i32::from(*column) - pg_sys::FirstLowInvalidHeapAttributeNumber;
        // SAFETY: the set is one of the relation's, or NULL, which is empty.
        unsafe { pg_sys::bms_is_member(member, key) }
    })
}

unsafe fn sets_deleted_at(query: &pg_sys::Query) -> bool {
    // SAFETY: the caller gives an UPDATE, whose targets have names or NULL.
    unsafe {
        pointers::<pg_sys::TargetEntry>(query.targetList).any(|target| {
            let name = (*target).resname;
            !name.is_null() && CStr::from_ptr(name) == c"deleted_at"
        })
    }
}

/// Refuses to delete or mark rows of a table that has Keepsake's columns and index, and not the triggers that make of it a deletion: a tool that
/// copies schemas leaves it so.
fn refuse_unguarded(relation: &pg_sys::RelationData) -> Outcome<()> {
    let open = std::ptr::from_ref(relation).cast_mut();
    // SAFETY: the relation is open; looks into the system's caches.
    let is_like_ours = unsafe {
        column(open, c"deleted_at", pg_sys::TIMESTAMPTZOID).is_some()
            && column(open, c"deletion_id", pg_sys::UUIDOID).is_some()
            && pg_sys::get_extension_oid(c"keepsake".as_ptr(), true) != pg_sys::InvalidOid
    };
    if !is_like_ours {
        return Ok(());
    }
    // What was a partition has lost its row triggers, and is a table like any other; so is one with an archive.
    let has_ours = triggers(relation)
        .iter()
        .any(|trigger| name(trigger).to_bytes().starts_with(b"keepsake_"));
    let graph = cache::known()?;
    match graph.managed_or_root(relation.rd_id) {
        None if has_ours => Ok(()),
        Some(table) => Err(Failure::Unguarded {
            table: table.shown.clone(),
        }),
        None => with_reading_session(|session| {
            if session
                .catalog(WAS_MANAGED, &[relation.rd_id.into()])?
                .is_empty()
            {
                return Ok(());
            }
            Err(Failure::Unguarded {
                table: shown_names::table(session, relation.rd_id)?,
            })
        }),
    }
}

/// What a copy of the schema leaves of a managed table has its index, too. Rows that were copied out of one have not: `CREATE TABLE … AS`, `LIKE`,
/// a materialized view, a foreign table; and what is temporary is of this session. What a tool keeps in the schema of its extension is for the tool
/// alone: a copy that takes the place of the table once it has caught up with its changes.
const WAS_MANAGED: &str = "
    SELECT 1 FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE c.oid = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND a.attname = 'deletion_id' AND i.indpred IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM pg_depend d
          WHERE d.classid = 'pg_namespace'::regclass AND d.objid = c.relnamespace
            AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')";

/// The triggers without which a marked row belongs to no deletion.
const MAKE_DELETIONS: [&CStr; 2] = [c"keepsake_protect_state", c"keepsake_finish_statement"];

/// Refuses to delete or mark rows of a managed table that has lost one of these.
fn refuse_half_guarded(
    command: pg_sys::CmdType::Type,
    relation: &pg_sys::RelationData,
) -> Outcome<()> {
    let there = |wanted: &CStr| triggers(relation).iter().any(|one| name(one) == wanted);
    if command == pg_sys::CmdType::CMD_INSERT || MAKE_DELETIONS.into_iter().all(there) {
        return Ok(());
    }
    Err(Failure::Unguarded {
        table: with_reading_session(|session| shown_names::table(session, relation.rd_id))?,
    })
}

/// Whether the table is managed: it has a trigger that answers a plain DELETE.
fn is_managed(relation: &pg_sys::RelationData) -> bool {
    triggers(relation).iter().any(|trigger| {
        let own = own_triggers::named(name(trigger));
        own.is_some_and(|own| matches!(own.carrier, Carrier::OnPlainDelete(_)))
    })
}

/// Tables whose DELETE is converted.
const CONVERTS: Carrier = Carrier::OnPlainDelete(OnPlainDelete::Convert);

/// Whether the table has the trigger that says so, and it fires.
fn converts(relation: &pg_sys::RelationData) -> bool {
    let fires = |trigger: &pg_sys::Trigger| {
        own_triggers::on(CONVERTS).any(|own| own.name == name(trigger))
            && table_triggers::fires(trigger)
    };
    triggers(relation).iter().any(fires)
}

/// The number of a column that has the type.
unsafe fn column(relation: pg_sys::Relation, name: &CStr, of_type: pg_sys::Oid) -> Option<i16> {
    // SAFETY: the relation is open, and its descriptor valid while it is.
    unsafe {
        let descriptor = (*relation).rd_att;
        let number = pg_sys::SPI_fnumber(descriptor, name.as_ptr());
        let fits = number > 0 && pg_sys::SPI_gettypeid(descriptor, number) == of_type;
        fits.then(|| i16::try_from(number).ok()).flatten()
    }
}

/// `DELETE … WHERE …` → `UPDATE … SET deleted_at = now() WHERE … AND deleted_at IS NULL`.
unsafe fn turn_into_update(query: &mut pg_sys::Query, target: &Target, alone: bool) {
    let (entry, relation, deleted_at) = (target.entry, target.relation, target.deleted_at);
    // SAFETY: builds nodes in the memory that the query lives in, with the node constructors of
    // PostgreSQL itself.
    unsafe {
        query.commandType = pg_sys::CmdType::CMD_UPDATE;
        query.targetList = std::ptr::null_mut();
        if let Some(deletion_id) = column(relation, c"deletion_id", pg_sys::UUIDOID) {
            returning::show_as_before(query, relation, [deleted_at, deletion_id]);
        }
        let live = target.has_mark(pg_sys::NullTestType::IS_NULL);
        let from = query.jointree;
        (*from).quals = pg_sys::make_and_qual((*from).quals, live.cast());

        set(query, target, (deleted_at, c"deleted_at"), now());
        match deletion_id(relation).filter(|_| alone && may_set_marks(&*relation)) {
            Some((column, function)) => {
                let table =
                    pg_sys::lappend(std::ptr::null_mut(), table_constant((*entry).relid).cast());
                let deletion = call(function, pg_sys::UUIDOID, table);
                set(query, target, (column, c"deletion_id"), deletion);
            }
            None => lock_like_delete(query, entry, relation),
        }
    }
}

/// Lets the UPDATE set a column.
unsafe fn set(
    query: &mut pg_sys::Query,
    target: &Target,
    (column, name): (i16, &CStr),
    value: *mut pg_sys::Expr,
) {
    // SAFETY: appends to a list of the query's, in the memory that it lives in.
    unsafe {
        let entry = assignment((column, name), value);
        query.targetList = pg_sys::lappend(query.targetList, entry.cast());
        target.changes(query, column);
    }
}

/// With a key column among what it changes, the UPDATE locks its rows as a DELETE would
/// (`ExecUpdateLockMode`): against whoever is about to refer to them. Where a trigger watches the
/// key, the rows are locked so when the statement ends.
unsafe fn lock_like_delete(
    query: &pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
    relation: pg_sys::Relation,
) {
    // SAFETY: the relation is open; the set is one of the query's.
    unsafe {
        let primary = pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY;
        let key = pg_sys::RelationGetIndexAttrBitmap(relation, primary);
        if !is_watched(&*relation, key) {
            let updated = updated_columns(query, entry);
            *updated = pg_sys::bms_add_members(*updated, key);
        }
    }
}

/// Whether the plan may set both marks by itself, so that no trigger is needed: nobody can come to
/// refer to the rows meanwhile, so they need no stronger lock than an UPDATE's, and no other trigger
/// changes them.
fn may_set_marks(relation: &pg_sys::RelationData) -> bool {
    let oid = relation.rd_id;
    let foreign_key = |trigger: &pg_sys::Trigger| {
        // SAFETY: compares the function's OID with those of `ri_triggers.c`.
        let kind = unsafe { pg_sys::RI_FKey_trigger_type(trigger.tgfoid) };
        kind == pg_sys::RI_TRIGGER_PK as i32
    };
    // SAFETY: an open relation has an entry of pg_class.
    let is_table = unsafe { (*relation.rd_rel).relkind } as u8 == pg_sys::RELKIND_RELATION;
    let is_plain = skip_triggers::only_ours_change_rows(relation);
    let is_referred_to = triggers(relation).iter().any(foreign_key);
    let is_declared = || {
        let graph = cache::kept().map_or_else(
            || with_reading_session(|session| cache::current(session)),
            Ok,
        );
        raise_unless_ok(graph).references_to(oid).next().is_some()
    };
    is_table && is_plain && !is_referred_to && !is_declared()
}

/// The column of that name, and the function that says what is to be in it.
unsafe fn deletion_id(relation: pg_sys::Relation) -> Option<(i16, pg_sys::Oid)> {
    // SAFETY: the relation is open.
    let column = unsafe { column(relation, c"deletion_id", pg_sys::UUIDOID) }?;
    Some((column, own_function(c"deletion_of_statement")?))
}

/// A function of Keepsake's that takes an OID and that a plan may call. Whoever runs the statement need not find it by its name, so no right in
/// the schema is asked for. `None` where EXECUTE was revoked.
fn own_function(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: looks into the system's caches, within a transaction; the keys outlive the calls and are of the types that
    // the cache has: a name, a vector of types, a schema.
    let function = unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        let arguments = pg_sys::buildoidvector([pg_sys::OIDOID].as_ptr(), 1);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as _,
            pg_sys::Anum_pg_proc_oid as _,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(arguments),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0_usize),
        )
    };
    // SAFETY: PostgreSQL's own function, which takes a function and the name of a right, and answers NULL when there is
    // no such function.
    let may = unsafe {
        direct_function_call::<bool>(
            pg_sys::has_function_privilege_id,
            &[function.into_datum(), "EXECUTE".into_datum()],
        )
    };
    may.unwrap_or(false).then_some(function)
}
