//! Fires the triggers of tables of others, which a statement of the engine's comes to, as their owners.
//!
//! PostgreSQL carries a foreign key's action out as the owner of the referring table, but before 18 it fires that table's AFTER triggers as
//! whoever the outer statement runs as. Where that is the engine's, it is the owner of the referred table: one would need no more than to refer to
//! his rows to have code run with his rights. Partitions may have other owners than their table as well. So such triggers are called by
//! `fire_as_owner`. What is changed is the executor's copy of them (`CopyTriggerDesc`), that statement's own.

use std::cell::RefCell;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use pgrx::trigger_support::called_as_trigger;

use crate::model::error::{Failure, Outcome};
use crate::model::oid_map::OidMap;
use crate::postgres::pg_list::integers;
use crate::postgres::query_plan::{modifications, plan, result_table};
use crate::postgres::statement_stack;
use crate::run_as::role::{self, RunAs};

/// Whether PostgreSQL fires AFTER triggers as whoever ran when their rows were written.
const REMEMBERS_ROLES: bool = cfg!(any(feature = "pg18", feature = "pg19"));

thread_local! {
    /// The functions of the triggers that are called through `fire_as_owner`.
    static FUNCTIONS: RefCell<OidMap<pg_sys::Oid>> = RefCell::default();
}

/// To be called for each statement that the executor has just started.
pub fn redirect(query: &pg_sys::QueryDesc, flags: i32) {
    if let Some(role) = role::engines_own() {
        for table in result_tables(query) {
            // SAFETY: a table that the query writes to is open.
            unsafe { redirect_all(&mut *table, role, |_| true) };
        }
    }
    if !REMEMBERS_ROLES && let Some(role) = role::engines_around() {
        redirect_left(query, flags, role);
    }
}

fn result_tables(query: &pg_sys::QueryDesc) -> Vec<*mut pg_sys::ResultRelInfo> {
    let modifications = plan(query).into_iter().flat_map(modifications);
    // SAFETY: the tables that a plan writes to are a list of numbers.
    let numbers = modifications.flat_map(|modify| unsafe { integers(modify.resultRelations) });
    numbers
        .filter_map(|number| result_table(query, number))
        .collect()
}

/// Has those triggers of a table called as its owner, where that is another role.
unsafe fn redirect_all(
    table: &mut pg_sys::ResultRelInfo,
    role: pg_sys::Oid,
    concerned: impl Fn(&pg_sys::Trigger) -> bool,
) {
    // SAFETY: the caller gives an open table; its triggers are NULL, or the executor's own copy, which holds that many.
    unsafe {
        let owner = (*(*table.ri_RelationDesc).rd_rel).relowner;
        let Some(description) = table.ri_TrigDesc.as_mut().filter(|_| owner != role) else {
            return;
        };
        let count = usize::try_from(description.numtriggers).unwrap_or(0);
        let triggers = std::slice::from_raw_parts_mut(description.triggers, count);
        let others = triggers
            .iter_mut()
            .filter(|trigger| !trigger.tgisinternal && concerned(trigger));
        let Some(wrapper) = own_function() else {
            return;
        };
        for trigger in others {
            // Those of Keepsake's act as whom they have to.
            if trigger.tgfoid != wrapper && !is_ours(trigger.tgfoid) {
                FUNCTIONS.with_borrow_mut(|all| all.insert(trigger.tgoid, trigger.tgfoid));
                trigger.tgfoid = wrapper;
                // At the commit it would fire as whoever commits.
                trigger.tgdeferrable = false;
                trigger.tginitdeferred = false;
            }
        }
    }
}

/// Of a statement that leaves its AFTER triggers to the one around, as a foreign key's action does.
fn redirect_left(query: &pg_sys::QueryDesc, flags: i32, role: pg_sys::Oid) {
    if flags as u32 & pg_sys::EXEC_FLAG_SKIP_TRIGGERS == 0 {
        return;
    }
    let is_after = |trigger: &pg_sys::Trigger| {
        u32::from(trigger.tgtype as u16) & pg_sys::TRIGGER_TYPE_TIMING_MASK
            == pg_sys::TRIGGER_TYPE_AFTER
    };
    // SAFETY: the statement around runs, with a state of its executor, which takes a table that is locked already among those
    // whose triggers it fires.
    unsafe {
        let Some(around) = statement_stack::innermost().and_then(|query| query.as_ref()) else {
            return;
        };
        for table in result_tables(query) {
            let relation = (*(*table).ri_RelationDesc).rd_id;
            let fired =
                pg_sys::ExecGetTriggerResultRel(around.estate, relation, std::ptr::null_mut());
            redirect_all(&mut *fired, role, is_after);
            // It is this one that says which wait for the commit.
            redirect_all(&mut *table, role, is_after);
        }
    }
}

/// The function by which the triggers are called.
fn own_function() -> Option<pg_sys::Oid> {
    // SAFETY: looks into the system's caches, within a transaction; the keys outlive the call and are of the types that the cache has.
    let function = unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        let no_arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as _,
            pg_sys::Anum_pg_proc_oid as _,
            pg_sys::Datum::from(c"fire_as_owner".as_ptr()),
            pg_sys::Datum::from(no_arguments),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0_usize),
        )
    };
    (function != pg_sys::InvalidOid).then_some(function)
}

fn is_ours(function: pg_sys::Oid) -> bool {
    // SAFETY: looks into the system's caches, within a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        pg_sys::get_func_namespace(function) == schema
    }
}

/// What a trigger's function answered, as it answered it.
struct Answered {
    datum: pg_sys::Datum,
}

// SAFETY: a trigger's protocol is a pointer to a tuple, or NULL, but never the flag for NULL.
unsafe impl BoxRet for Answered {
    unsafe fn box_into<'fcx>(self, info: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: see above; the row lives as long as the call's memory.
        unsafe { info.return_raw_datum(self.datum) }
    }
}

// SAFETY: the function returns `trigger`, and is what makes it one.
unsafe impl SqlTranslatable for Answered {
    const TYPE_IDENT: &'static str = "keepsake::owners_triggers::Answered";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Err(ArgumentError::NotValidAsArgument("Answered"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("trigger")));
}

/// Calls a trigger's own function as the owner of the table. No trigger is created with it.
#[pg_extern(
    sql = "CREATE FUNCTION keepsake.fire_as_owner() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
           REVOKE ALL ON FUNCTION keepsake.fire_as_owner() FROM PUBLIC;"
)]
fn fire_as_owner(call: pg_sys::FunctionCallInfo) -> Result<Answered, ErrorReport> {
    // SAFETY: PostgreSQL calls a function with its own arguments.
    Ok(unsafe { fire(call) }?)
}

unsafe fn fire(call: pg_sys::FunctionCallInfo) -> Outcome<Answered> {
    let refused = || Failure::TriggerProtocol {
        function: "keepsake.fire_as_owner".into(),
        serves: "by Keepsake".into(),
        called: "It was not called for a trigger of another owner's.".into(),
    };
    // SAFETY: the context of a call is NULL or a node, which says by its tag that it is a trigger's; what that has lives as long as the call.
    unsafe {
        if !called_as_trigger(call) {
            return Err(refused());
        }
        let data = &*(*call).context.cast::<pg_sys::TriggerData>();
        let trigger = (*data.tg_trigger).tgoid;
        let function = FUNCTIONS.with_borrow(|all| all.get(&trigger).copied());
        // One that calls this function by itself.
        let function = function.filter(|_| !is_created_so(data));
        let owner = (*(*data.tg_relation).rd_rel).relowner;
        let function = function.ok_or_else(refused)?;
        let _owner = RunAs::other_owner(owner);
        Ok(Answered {
            datum: call_on(function, call),
        })
    }
}

/// Whether the table's trigger itself calls this function.
unsafe fn is_created_so(data: &pg_sys::TriggerData) -> bool {
    // SAFETY: the table is open, and its triggers are NULL or that many.
    unsafe {
        let trigger = (*data.tg_trigger).tgoid;
        (*data.tg_relation).trigdesc.as_ref().is_some_and(|known| {
            let count = usize::try_from(known.numtriggers).unwrap_or(0);
            let triggers = std::slice::from_raw_parts(known.triggers, count);
            triggers
                .iter()
                .any(|one| one.tgoid == trigger && Some(one.tgfoid) == own_function())
        })
    }
}

/// Passes a trigger's call on to a function.
unsafe fn call_on(function: pg_sys::Oid, call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: a trigger's call has no arguments; what is looked up lives in the memory of the call.
    unsafe {
        let mut info = pg_sys::FmgrInfo::default();
        pg_sys::fmgr_info(function, &raw mut info);
        let mut passed: pg_sys::FunctionCallInfoBaseData = std::mem::zeroed();
        passed.flinfo = &raw mut info;
        passed.context = (*call).context;
        let address = info.fn_addr;
        let answer = pg_guard_ffi_boundary(|| {
            address.map_or(pg_sys::Datum::from(0_usize), |address| {
                address(&raw mut passed)
            })
        });
        if passed.isnull {
            return pg_sys::Datum::from(0_usize);
        }
        answer
    }
}
