//! `manage` and `unmanage`: what a table gets when it is given to Keepsake.

use pgrx::Uuid;
use std::cell::Cell;

use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::call::arguments::{Jsonb, Regclass};
use crate::graph::cache;
use crate::manage::adopt::Adopt;
use crate::manage::archived_table::{self, Keep, Options};
use crate::manage::bound_table;
use crate::manage::drop_guards;
use crate::manage::encoding;
use crate::manage::hide;
use crate::manage::managed_schema;
use crate::manage::old_snapshot::refuse_old_snapshot;
use crate::manage::reserved_columns;
use crate::manage::triggers;
use crate::manage::{adopt_archived, adopt_in_place, move_in_place, move_to_archive};
use crate::model::error::{Failure, Outcome, required};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::table::Table;
use crate::purge::retention;
use crate::registry::description::describe;
use crate::spi::session::{Session, first_column, with_session};

/// Gives `table` to Keepsake: adds `deleted_at` and `deletion_id`, the index and triggers that
/// soft deletion needs, and registers how long its deleted rows are kept (30 days, unless given)
/// and what a plain DELETE does: `convert` it to a soft delete (the default), `reject` it, or
/// `allow` it to remove live rows for good. A second call mends what is missing and changes what is
/// given. Only the table's owner may call it.
///
/// With `keep => 'archive'`, PostgreSQL deletes the rows itself, and they are kept in an archive: the
/// table gets triggers and nothing else. `on_truncate` says what TRUNCATE does there: `reject` (the
/// default), `archive`, or `allow`; `after_triggers` whether a restore fires the table's AFTER
/// INSERT triggers (`fire`, the default) or not (`skip`). `cascade` takes along the tables whose rows
/// a DELETE would remove or change.
///
/// `adopt` takes over rows that the application has soft-deleted itself: it is the condition that a row is deleted. Each becomes
/// a deletion; rows that have the same `adopt_group`, or were deleted at the same time beneath another row, become one.
///
/// # Errors
/// 0A000 with the fix in the HINT when the table cannot be kept safe; 42501 for anyone but the owner.
#[pg_extern]
#[expect(clippy::too_many_arguments, reason = "they are named in SQL")]
fn manage(
    relation: Option<Regclass>,
    retention: default!(Option<Interval>, "NULL"),
    on_delete: default!(Option<&str>, "NULL"),
    keep: default!(Option<&str>, "NULL"),
    on_truncate: default!(Option<&str>, "NULL"),
    after_triggers: default!(Option<&str>, "NULL"),
    cascade: default!(Option<bool>, "false"),
    adopt: default!(Option<&str>, "NULL"),
    adopt_time: default!(Option<&str>, "NULL"),
    adopt_actor: default!(Option<&str>, "NULL"),
    adopt_tenant: default!(Option<&str>, "NULL"),
    adopt_group: default!(Option<&str>, "NULL"),
    adopt_live: default!(Option<Jsonb>, "NULL"),
) -> Result<(), ErrorReport> {
    encoding::refuse_others()?;
    let oid = required(relation, "relation")?.oid();
    let on_delete = on_delete.map(OnPlainDelete::parse).transpose()?;
    let keep = keep.map(Keep::parse).transpose()?;
    let options = Options {
        retention,
        on_truncate,
        after_triggers,
        cascade: required(cascade, "cascade")?,
    };
    let live = adopt_live.map(|live| live.0);
    let adopt = Adopt::of(
        adopt,
        Adopt {
            condition: "",
            time: adopt_time,
            actor: adopt_actor,
            tenant: adopt_tenant,
            group: adopt_group,
            live: live.as_ref(),
        },
    )?;
    Ok(with_session(|session| {
        let now = Keep::of(session, oid)?;
        match keep.or(now).unwrap_or(Keep::InPlace) {
            Keep::Archive if on_delete.is_none() => {
                if now == Some(Keep::InPlace) {
                    refuse_adoption(adopt)?;
                    refuse_old_snapshot(session, oid)?;
                    return move_to_archive::to_archive(session, oid, options);
                }
                if adopt.is_some() {
                    refuse_old_snapshot(session, oid)?;
                }
                archived_table::take_on(session, oid, options)?;
                adopt.map_or(Ok(()), |adopt| adopt_archived::adopt(session, oid, adopt))
            }
            Keep::Archive => Err(Failure::BadArgument {
                what: "on_delete is of tables that are kept in place".into(),
                fix: "Leave it out: a DELETE of archived rows is PostgreSQL's own.".into(),
            }),
            Keep::InPlace if now == Some(Keep::Archive) => {
                refuse_adoption(adopt)?;
                refuse_old_snapshot(session, oid)?;
                archived_table::refuse_options(options)?;
                let tables = move_in_place::closure(session, oid, options.cascade)?;
                move_in_place::in_place(session, &tables, |session, table| {
                    let retention = retention.filter(|_| table == oid);
                    manage_table(session, table, retention, on_delete, None)
                })
            }
            Keep::InPlace => {
                archived_table::check_in_place(session, oid, options)?;
                if adopt.is_some() {
                    refuse_old_snapshot(session, oid)?;
                }
                manage_table(session, oid, retention, on_delete, adopt)
            }
        }
    })?)
}

/// Takes `table` back from Keepsake: triggers, index and the two columns go; of an archived table the
/// triggers and the archive. `drop_archive` gives up the rows that the archive still holds, for who may
/// run `purge_deletion`.
///
/// # Errors
/// 55000 while it still holds soft-deleted rows; 42501 for anyone but the owner.
#[pg_extern]
fn unmanage(relation: Regclass, drop_archive: default!(bool, "false")) -> Result<(), ErrorReport> {
    let oid = relation.oid();
    Ok(with_session(|session| {
        let keep = Keep::of(session, oid)?;
        describe(session, oid)?.check_owned()?;
        managed_schema::except(session, oid)?;
        match keep {
            Some(Keep::Archive) => archived_table::hand_back(session, oid, drop_archive),
            _ => unmanage_table(session, oid),
        }
    })?)
}

thread_local! {
    static BEGUN: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// While it lives, `manage()` makes a table managed. What it does to the table concerns no event trigger: it guards and
/// checks the table itself, once its rows are marked.
struct Begun(pg_sys::Oid);

impl Begun {
    fn of(table: pg_sys::Oid) -> Self {
        Self(BEGUN.replace(table))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        BEGUN.set(self.0);
    }
}

/// Whether `manage()` is at work on the table.
pub fn has_begun(table: pg_sys::Oid) -> bool {
    BEGUN.get() == table
}

/// Marks mean one thing in a call: here the table has some of Keepsake's own.
fn refuse_adoption(adopt: Option<Adopt<'_>>) -> Outcome<()> {
    match adopt {
        None => Ok(()),
        Some(_) => Err(Failure::BadArgument {
            what: "rows cannot be adopted while the table is moved to an archive".into(),
            fix: "Adopt them first, in a call without keep.".into(),
        }),
    }
}

fn manage_table(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    retention: Option<Interval>,
    on_delete: Option<OnPlainDelete>,
    adopt: Option<Adopt<'_>>,
) -> Outcome<()> {
    let before = describe(session, oid)?;
    before.check_safe(adopt.is_some())?;
    reserved_columns::refuse(session, oid)?;
    let _begun = Begun::of(oid);
    retention::register(session, oid, retention)?;
    let on_delete = set_on_delete(session, oid, on_delete)?;
    cache::invalidate(oid);
    // Another call may have come first, and registering has waited for it.
    let found = describe(session, oid)?;
    add_columns(session, oid, &found.state_columns)?;
    let graph = cache::near(session, oid)?;
    let table = graph.managed(session, oid)?;
    if adopt.is_none() {
        refuse_foreign_marks(session, table, !before.managed)?;
    }
    add_index(session, table)?;
    triggers::guard_state(session, table, on_delete)?;
    triggers::guard_references(session, &graph, table)?;
    for (_, child) in graph.references_to(oid) {
        if before.managed && child.is_partition {
            tell_unguarded_partition(child, table);
        } else {
            triggers::guard_references(session, &graph, child)?;
        }
    }
    cache::invalidate(oid);
    if let Some(adopt) = adopt {
        let foreign = foreign_ids(session, table)?;
        adopt_in_place::adopt(session, oid, adopt, foreign)?;
        refuse_foreign_marks(session, table, true)?;
    } else if !before.managed {
        adopt_in_place::check_references(session, oid)?;
    }
    if on_delete == OnPlainDelete::Convert {
        tell_silent_triggers(session, table)?;
    }
    tell_unique(session, table)
}

/// Says that a partition has a foreign key of its own: what refers to a table that is managed already keeps no call from it.
fn tell_unguarded_partition(child: &Table, parent: &Table) {
    let failure = Failure::UnguardedPartition {
        child: child.shown.clone(),
        parent: parent.shown.clone(),
    };
    failure.into_report().report(PgLogLevel::WARNING);
}

const UNIQUE: &str = "
    SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = $1 AND i.indisunique AND NOT i.indisprimary AND i.indpred IS NULL ORDER BY 1";

/// Says which unique keys hold for deleted rows as well.
fn tell_unique(session: &Session<'_, '_>, table: &Table) -> Outcome<()> {
    let keys: Vec<String> = first_column(session.catalog(UNIQUE, &[table.oid.into()])?)?;
    for key in keys {
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "unique index \"{key}\" of table {} applies to deleted rows too",
                table.shown
            ),
            format!(
                "A deleted row blocks its values until it is purged. To let the index cover only live rows, run SELECT keepsake.live_unique('{}');",
                table.shown
            )
        );
    }
    Ok(())
}

const SILENT_TRIGGERS: &str = "
    SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = $1 AND t.tgtype & 8 = 8 AND NOT t.tgisinternal AND p.pronamespace <> 'keepsake'::regnamespace
    ORDER BY 1";

/// Says which triggers of the table's own a DELETE no longer fires: a veto among them no longer holds.
fn tell_silent_triggers(session: &Session<'_, '_>, table: &Table) -> Outcome<()> {
    let triggers: Vec<String> =
        first_column(session.catalog(SILENT_TRIGGERS, &[table.oid.into()])?)?;
    for trigger in triggers {
        ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "trigger \"{trigger}\" of table {} does not fire for a soft delete",
                table.shown
            ),
            "A DELETE marks rows with an UPDATE of deleted_at; only a purge fires DELETE triggers. Make the trigger fire AFTER UPDATE OF deleted_at too."
        );
    }
    Ok(())
}

fn unmanage_table(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let found = describe(session, oid)?;
    found.check_owned()?;
    if !found.managed {
        return Ok(());
    }
    let graph = cache::current(session)?;
    let table = graph.managed(session, oid)?;
    let name = &table.name;
    session.ddl(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))?;
    // As the owner: policies that hide deleted rows bind whoever else asks. Now: others may have deleted rows before the lock.
    let deleted = format!(
        "SELECT 1 FROM {} AS t WHERE t.deleted_at IS NOT NULL LIMIT 1",
        table.rows()
    );
    if session.exists_now((oid, table.owner), &deleted, &[])? {
        return Err(Failure::HoldsDeletedRows { table: found.shown });
    }
    hide::undo(session, table)?;
    triggers::drop_all(session, table)?;
    bound_table::keep_live_objects(session, oid, table.owner)?;
    session.registry(
        "DELETE FROM keepsake.bound_storage WHERE relation = $1",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.declared_reference WHERE $1 IN (child, parent)",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.reference_override WHERE child = $1",
        &[oid.into()],
    )?;
    session.registry(
        "DELETE FROM keepsake.managed_table WHERE relation = $1",
        &[oid.into()],
    )?;
    // No longer managed before its columns go: the event trigger then guards the references that it
    // may still have to managed tables.
    cache::invalidate(oid);
    session.ddl(&format!(
        "ALTER TABLE {name} DROP COLUMN deleted_at, DROP COLUMN deletion_id"
    ))?;
    drop_guards::drop_needless_guards(session)
}

/// Registers what a plain DELETE does, when given, and answers with what it does now.
fn set_on_delete(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    on_delete: Option<OnPlainDelete>,
) -> Outcome<OnPlainDelete> {
    let name = session
        .registry(
            "UPDATE keepsake.managed_table SET on_delete = coalesce($2, on_delete) WHERE relation = $1
             RETURNING on_delete",
            &[oid.into(), on_delete.map(OnPlainDelete::name).into()],
        )?
        .first()
        .get_one::<String>()?;
    OnPlainDelete::parse(name.as_deref().unwrap_or_default())
}

/// Adds those of the two columns that the table has not.
fn add_columns(session: &mut Session<'_, '_>, oid: pg_sys::Oid, found: &[String]) -> Outcome<()> {
    let lacks = |column: &&(&str, &str)| !found.iter().any(|found| found.starts_with(column.0));
    let missing = [("deleted_at", "timestamptz"), ("deletion_id", "uuid")];
    let added: Vec<String> = missing
        .iter()
        .filter(lacks)
        .map(|(name, type_name)| format!("ADD COLUMN {name} pg_catalog.{type_name}"))
        .collect();
    if !added.is_empty() {
        let name = cache::near(session, oid)?
            .managed(session, oid)?
            .name
            .to_string();
        session.ddl(&format!("ALTER TABLE {name} {}", added.join(", ")))?;
        cache::invalidate(oid);
    }
    Ok(())
}

/// Rows that something else has marked as deleted belong to no deletion, and could never come back. `all`: also those that have
/// an id; of a table that was managed all along these are ours.
fn refuse_foreign_marks(session: &mut Session<'_, '_>, table: &Table, all: bool) -> Outcome<()> {
    let sql = format!(
        "SELECT 1 FROM {} AS t
         WHERE (t.deleted_at IS NULL) OPERATOR(pg_catalog.<>) (t.deletion_id IS NULL) LIMIT 1",
        table.rows()
    );
    let half = session.exists_now((table.oid, table.owner), &sql, &[])?;
    if all && session.keeps_its_snapshot() {
        let marked = format!(
            "SELECT 1 FROM {} AS t WHERE t.deletion_id IS NOT NULL LIMIT 1",
            table.rows()
        );
        if !half && session.exists_now((table.oid, table.owner), &marked, &[])? {
            return refuse_old_snapshot(session, table.oid);
        }
    }
    if !half && !(all && !foreign_ids(session, table)?.is_empty()) {
        return Ok(());
    }
    Err(Failure::CannotManage {
        table: table.shown.clone(),
        why: if half {
            "It holds rows that have only one of deleted_at and deletion_id."
        } else {
            "It holds rows with a deletion_id of no deletion."
        }
        .into(),
        fix: format!(
            "To make deletions of these rows, run SELECT keepsake.manage('{}', adopt => 'deleted_at IS NOT NULL'). Otherwise remove them, or set both columns to NULL.",
            table.shown
        ),
    })
}

/// The values of `deletion_id` that are of no deletion with rows of this table.
fn foreign_ids(session: &mut Session<'_, '_>, table: &Table) -> Outcome<Vec<Uuid>> {
    let sql = format!(
        "SELECT DISTINCT t.deletion_id FROM {} AS t WHERE t.deletion_id IS NOT NULL",
        table.rows()
    );
    let ids: Vec<Uuid> = first_column(session.as_owner(table, &sql, &[])?)?;
    if ids.is_empty() {
        return Ok(ids);
    }
    first_column(session.registry(
        "SELECT n.id FROM unnest($1) AS n (id) WHERE NOT EXISTS (
             SELECT FROM keepsake.deletion_table AS t WHERE t.deletion_id = n.id AND t.relation = $2)",
        &[ids.into(), table.oid.into()],
    )?)
}

const HAS_INDEX: &str = "
    SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = $1 AND a.attname = 'deletion_id' AND i.indisvalid";

/// The index that finds the rows of a deletion; over deleted rows alone, so that live ones pay
/// nothing for it.
fn add_index(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    if session.catalog(HAS_INDEX, &[table.oid.into()])?.is_empty() {
        let sql = format!(
            "CREATE INDEX ON {} (deletion_id) WHERE deletion_id IS NOT NULL",
            table.name
        );
        session.ddl(&sql)?;
    }
    Ok(())
}
