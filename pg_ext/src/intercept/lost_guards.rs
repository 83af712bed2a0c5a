//! Tables whose guards somebody has dropped or disabled: what the guards would have looked at is refused. Where the library is not
//! loaded yet, the next DELETE of a parent refuses instead.
//!
//! A session whose triggers do not fire at all (`session_replication_role = replica`) passes, and so does a table of which no trigger
//! fires: there PostgreSQL's own foreign keys are not checked either, as `pg_restore --disable-triggers` wants it.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::archive::setting;
use crate::call::own_triggers::{self, Carrier, OwnTrigger};
use crate::graph::cache;
use crate::graph::catalog::field;
use crate::model::error::{Failure, Outcome, raise_unless_ok};
use crate::model::oid_map::OidSet;
use crate::postgres::pg_list::oids;
use crate::postgres::settings::value_of;
use crate::postgres::table_triggers::{are_off, fires, limited_to, name, triggers};
use crate::run_as::role;
use crate::spi::session::with_reading_session;

thread_local! {
    /// Tables that refer to nothing that is guarded, or whose guards stand, until their relation changes: whatever makes them refer
    /// changes it, and so does what becomes of their triggers.
    static FREE: RefCell<OidSet> = RefCell::default();
    /// Whether the extension is known not to be installed, until any relation changes: installing it makes some.
    static ABSENT: Cell<bool> = const { Cell::new(false) };
}

static mut NEXT: pg_sys::object_access_hook_type = None;

/// Hooks what PostgreSQL tells of objects; once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, in a process of one thread; whatever was hooked before is called in turn, and the functions
    // live as long as the backend.
    unsafe {
        NEXT = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(accessed);
        pg_sys::CacheRegisterRelcacheCallback(Some(changed), pg_sys::Datum::from(0_usize));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    ABSENT.set(false);
    FREE.with_borrow_mut(|free| {
        if relation == pg_sys::InvalidOid {
            free.clear();
        } else {
            free.remove(&relation);
        }
    });
}

/// Called very often, for functions and schemas as well: what is no TRUNCATE passes without a guard against errors, as nothing is done.
unsafe extern "C-unwind" fn accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: i32,
    argument: *mut std::ffi::c_void,
) {
    // SAFETY: passes on what PostgreSQL gave; nothing of ours is on the stack that an error could leave behind.
    unsafe {
        if let Some(next) = NEXT {
            next(access, class, object, part, argument);
        }
        if access == pg_sys::ObjectAccessType::OAT_TRUNCATE {
            truncates(object);
        }
    }
}

/// PostgreSQL tells of each table that a TRUNCATE reaches, and again when it has waited for its lock.
#[pg_guard]
unsafe extern "C-unwind" fn truncates(relation: pg_sys::Oid) {
    raise_unless_ok(refuse_truncate(relation));
}

/// A managed table, or a partition of one, without the trigger that answers a TRUNCATE. From an empty one nothing is lost:
/// `pg_restore --jobs` truncates those that it fills.
const UNANSWERED: &str = "
    SELECT m.relation::text AS shown, m.keep
    FROM keepsake.managed_table m
    WHERE (m.relation = $1 OR m.relation IN (SELECT relid FROM pg_partition_ancestors($1)))
      AND (m.keep = 'in place' OR m.on_truncate <> 'allow')
      AND NOT EXISTS (
          SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
          WHERE t.tgrelid = $1 AND t.tgenabled IN ('O', 'A') AND p.pronamespace = 'keepsake'::regnamespace
            AND p.proname = CASE m.keep WHEN 'in place' THEN 'refuse_truncate' ELSE 'archive_truncate' END)
      AND pg_relation_size($1) > 0";

fn refuse_truncate(relation: pg_sys::Oid) -> Outcome<()> {
    if !is_installed() || are_off() {
        return Ok(());
    }
    with_reading_session(|session| {
        for row in session.registry_now(UNANSWERED, &[relation.into()])? {
            let keep: String = field(&row, "keep")?;
            if keep == "in place" || setting::is_on() {
                return Err(Failure::TruncateUnguarded {
                    table: field(&row, "shown")?,
                });
            }
        }
        Ok(())
    })
}

/// Refuses COPY into a table that has lost its guards: no planner sees it.
pub fn refuse_copy(statement: &pg_sys::Node) {
    if statement.type_ != pg_sys::NodeTag::T_CopyStmt {
        return;
    }
    // SAFETY: the node is what its tag says; the table is opened with the lock that COPY itself takes first, which stays.
    unsafe {
        let copy = &*std::ptr::from_ref(statement).cast::<pg_sys::CopyStmt>();
        if !copy.is_from || copy.relation.is_null() || are_off() {
            return;
        }
        let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_openrv_extended(copy.relation, mode, true);
        if let Some(opened) = relation.as_ref() {
            if !is_loaded_partition(opened) {
                raise_unless_ok(refuse_write(opened));
            }
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// Whether a superuser's `pg_restore` loads a partition: several of its workers may load the rows after the foreign keys and triggers that the table hands
/// down to it, and before its own.
pub fn is_loaded_partition(relation: &pg_sys::RelationData) -> bool {
    // SAFETY: an open relation has an entry of pg_class.
    let is_partition = unsafe { (*relation.rd_rel).relispartition };
    is_partition && role::is_superuser() && value_of(c"application_name") == Some(c"pg_restore")
}

/// The table, or one that it is a partition of, that has a reference which is guarded; and what that refers to.
const GUARDED: &str = "
    WITH it (oid) AS (SELECT $1::oid UNION SELECT relid FROM pg_partition_ancestors($1))
    SELECT con.conrelid::regclass::text AS child, m.relation::text AS parent, c.relispartition AS of_partition
    FROM it JOIN pg_constraint con ON con.conrelid = it.oid AND con.contype = 'f' AND con.conparentid = 0
    JOIN pg_class c ON c.oid = con.conrelid
    JOIN keepsake.kept_in_place m ON m.relation = con.confrelid
    WHERE coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
    UNION ALL
    SELECT d.child::text, d.parent::text, false
    FROM it JOIN keepsake.declared_reference d ON d.child = it.oid
    JOIN keepsake.managed_table m ON m.relation = d.parent
    WHERE 2 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = d.child AND a.attname IN (d.type_column, d.id_column) AND NOT a.attisdropped)
    LIMIT 1";

/// Refuses to insert into an open table, or to update it, while it refers to a managed one and its guards do not stand.
pub fn refuse_write(relation: &pg_sys::RelationData) -> Outcome<()> {
    let oid = relation.rd_id;
    let passes = FREE.with_borrow(|free| free.contains(&oid)) || !may_refer(relation);
    if passes || is_absent() {
        return Ok(());
    }
    let before = cache::changes();
    if !guards_stand(relation) {
        refuse_guarded(oid)?;
    }
    // What changed meanwhile is good for this call alone.
    if cache::changes() == before {
        FREE.with_borrow_mut(|free| free.insert(oid));
    }
    Ok(())
}

/// The same for the tables that inherit from one, at every level: an UPDATE or MERGE that names it changes their rows as well.
pub fn refuse_write_to_heirs(relation: &pg_sys::RelationData) -> Outcome<()> {
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: the relation is open; its heirs are locked as the planner locks them next, and each is closed again.
    unsafe {
        let all = pg_sys::find_all_inheritors(relation.rd_id, mode, std::ptr::null_mut());
        for heir in oids(all).filter(|oid| *oid != relation.rd_id) {
            let opened = pg_sys::RelationIdGetRelation(heir);
            if let Some(heir) = opened.as_ref() {
                let answer = refuse_write(heir);
                pg_sys::RelationClose(opened);
                answer?;
            }
        }
    }
    Ok(())
}

/// Refuses if the table has a reference that is to be guarded.
fn refuse_guarded(table: pg_sys::Oid) -> Outcome<()> {
    with_reading_session(|session| {
        let guarded = session.registry_now(GUARDED, &[table.into()])?;
        guarded.first().map_or(Ok(()), |row| {
            Err(Failure::unguarded_reference(
                field(row, "of_partition")?,
                field(row, "child")?,
                field(row, "parent")?,
            ))
        })
    })
}

/// Whether the table can refer to a managed one, as far as its triggers tell: it has a foreign key that is checked, or is managed itself.
fn may_refer(relation: &pg_sys::RelationData) -> bool {
    triggers(relation).iter().any(|trigger| {
        // SAFETY: compares the function's OID with those of `ri_triggers.c`.
        let kind = unsafe { pg_sys::RI_FKey_trigger_type(trigger.tgfoid) };
        let is_check = kind == pg_sys::RI_TRIGGER_FK as i32;
        fires(trigger) && (is_check || name(trigger).to_bytes().starts_with(b"keepsake_"))
    })
}

fn guards_stand(relation: &pg_sys::RelationData) -> bool {
    // SAFETY: an open relation has an entry of pg_class.
    let kind = unsafe { (*relation.rd_rel).relkind } as u8;
    let of_partitioned = (kind == pg_sys::RELKIND_PARTITIONED_TABLE)
        .then(|| own_triggers::on(Carrier::ReferringPartitioned))
        .into_iter()
        .flatten();
    own_triggers::on(Carrier::Referring)
        .chain(of_partitioned)
        .all(|own| triggers(relation).iter().any(|one| is_whole(one, own)))
}

/// Whether it is that guard, and fires for all rows, whatever changes in them, and at once. Its owner may have put another in its place.
fn is_whole(trigger: &pg_sys::Trigger, own: &OwnTrigger) -> bool {
    name(trigger) == own.name
        && fires(trigger)
        && trigger.tgtype == own.firing.catalog_type()
        && trigger.tgqual.is_null()
        && limited_to(trigger).is_empty()
        && !trigger.tgdeferrable
        && calls(trigger, own.function)
}

/// Whether the trigger calls this function of Keepsake's.
fn calls(trigger: &pg_sys::Trigger, function: &str) -> bool {
    // SAFETY: looks into the system's caches, within a transaction; the name, if there is one, is a string of this memory context.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"keepsake".as_ptr(), true);
        let name = pg_sys::get_func_name(trigger.tgfoid);
        !name.is_null()
            && CStr::from_ptr(name).to_bytes() == function.as_bytes()
            && pg_sys::get_func_namespace(trigger.tgfoid) == schema
    }
}

/// Whether the extension is not installed; remembers only that.
fn is_absent() -> bool {
    if !ABSENT.get() {
        ABSENT.set(!is_installed());
    }
    ABSENT.get()
}

fn is_installed() -> bool {
    // SAFETY: looks the extension up; `true` answers with none where there is none.
    unsafe { pg_sys::get_extension_oid(c"keepsake".as_ptr(), true) != pg_sys::InvalidOid }
}
