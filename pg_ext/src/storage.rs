//! Tables whose rows name objects in a bucket: when a row is gone for good, its key goes to the
//! outbox in the same transaction.

use pgrx::PgRelation;
use pgrx::PgTrigger;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::catalog;
use crate::error::{Failure, Outcome, raise_unless_ok, required};
use crate::graph::Graph;
use crate::guard::TriggerReturn;
use crate::manage::{describe_managed, oid_of};
use crate::session::{Session, with_session};
use crate::sql::Ident;
use crate::triggers::{self, Trigger, any_differs};

/// Binds `table` to the bucket: `key_column` (text, under a unique index) names the object of each
/// row. `writable_until` names a timestamptz column that says until when a signed upload URL may
/// still store the object. The key of a row never changes.
///
/// # Errors
/// 22023 when the columns do not fit; 55000 when the table is not managed; 42501 for anyone but
/// the owner.
#[pg_extern]
fn bind_storage(
    relation: Option<PgRelation>,
    key_column: Option<&str>,
    writable_until: default!(Option<&str>, "NULL"),
) -> Result<(), ErrorReport> {
    let oid = oid_of(required(relation, "relation")?);
    let key_column = required(key_column, "key_column")?;
    Ok(with_session(|session| {
        bind(session, oid, key_column, writable_until)
    })?)
}

const FITS: &str = "
    SELECT (SELECT a.atttypid = 'text'::regtype AND a.attnotnull FROM pg_attribute a
            WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped) AS key_fits,
           $3 IS NULL OR (SELECT a.atttypid = 'timestamptz'::regtype FROM pg_attribute a
                          WHERE a.attrelid = $1 AND a.attname = $3 AND NOT a.attisdropped) AS until_fits,
           EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                   WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
                     AND i.indpred IS NULL AND a.attname = $2) AS is_unique";

fn bind(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: &str,
    until: Option<&str>,
) -> Outcome<()> {
    let found = describe_managed(session, oid)?;
    let fits = session
        .catalog(FITS, &[oid.into(), key.into(), until.into()])?
        .first();
    let flag =
        |name: &str| -> Outcome<bool> { Ok(fits.get_by_name::<bool, _>(name)?.unwrap_or(false)) };
    if !(flag("key_fits")? && flag("until_fits")? && flag("is_unique")?) {
        return Err(Failure::BadArgument {
            what: format!("{} cannot be bound by {key}", found.shown),
            fix: "The key column must be text NOT NULL with a unique index over all rows; writable_until, if given, a timestamptz column.".into(),
        });
    }
    session.registry(
        "INSERT INTO keepsake.bound_storage (relation, key_column, writable_until)
         VALUES ($1, $2::text::name, $3::text::name)
         ON CONFLICT (relation) DO UPDATE SET key_column = excluded.key_column, writable_until = excluded.writable_until",
        &[oid.into(), key.into(), until.into()],
    )?;
    catalog::invalidate(oid);
    let graph = Graph::current(session)?;
    let table = graph.managed(session, oid)?;
    let gone = Trigger {
        name: "keepsake_enqueue_objects",
        event: "AFTER DELETE",
        clause: "REFERENCING OLD TABLE AS keepsake_old FOR EACH STATEMENT",
        function: "enqueue_objects",
    };
    triggers::add_everywhere(session, table, gone)?;
    let moved = any_differs([&Ident(key.to_owned())]);
    let kept = Trigger {
        name: "keepsake_keep_key",
        event: "BEFORE UPDATE",
        clause: &format!("FOR EACH ROW WHEN ({moved})"),
        function: "refuse_new_key",
    };
    triggers::add(session, &table.name, kept)
}

/// AFTER DELETE on a bound table: the objects of the rows that went, into the outbox.
#[pg_trigger]
fn enqueue_objects<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok(with_session(|session| {
        session.register_transition_tables(trigger)?;
        enqueue(session, trigger.relid().unwrap_or(pg_sys::InvalidOid))
    }));
    Ok(None)
}

/// BEFORE UPDATE of the key column: the object of a row is the same for ever.
#[pg_trigger]
fn refuse_new_key<'a>(trigger: &'a PgTrigger<'a>) -> TriggerReturn<'a> {
    raise_unless_ok::<()>(Err(Failure::BadArgument {
        what: format!("the object key of a row of {} cannot change", trigger.table_name().unwrap_or_default()),
        fix: "Its bytes would be orphaned. Add a new row for a new object and soft-delete the old one.".into(),
    }));
    Ok(None)
}

/// The keys are read as the table's owner, and only their values go on: a column's type, and so a
/// cast of it, is its owner's to change.
fn enqueue(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let bound = session
        .catalog(
            "SELECT key_column::text, writable_until::text FROM keepsake.bound_storage WHERE relation = $1",
            &[oid.into()],
        )?
        .first();
    if bound.is_empty() {
        return Ok(());
    }
    let (key, until) = (bound.get::<String>(1)?, bound.get::<String>(2)?);
    let Some(key) = key else { return Ok(()) };
    let until = until.map_or_else(
        || "NULL".to_owned(),
        |column| format!("o.{}", Ident(column)),
    );
    let graph = Graph::current(session)?;
    let table = graph.managed(session, oid)?;
    let sql = format!(
        "SELECT array_agg(o.{key}::text), array_agg({until}::timestamptz) FROM keepsake_old AS o",
        key = Ident(key),
    );
    let gone = session.as_owner(table, &sql, &[])?.first();
    let keys: Option<Vec<Option<String>>> = gone.get(1)?;
    let until: Option<Vec<Option<TimestampWithTimeZone>>> = gone.get(2)?;
    session.registry(
        "INSERT INTO keepsake.outbox (object_key, relation, writable_until)
         SELECT o.key, $1, CASE WHEN o.until > now() THEN o.until END
         FROM unnest($2, $3) AS o (key, until) WHERE o.key IS NOT NULL
         ON CONFLICT (object_key) DO NOTHING",
        &[oid.into(), keys.into(), until.into()],
    )?;
    Ok(())
}
