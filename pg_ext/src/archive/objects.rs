//! The objects in the bucket that archived rows name: an object lives as long as a live or an archived row names it.
//!
//! The archive of a bound table has an index over their keys, by which whoever leases objects finds the rows. Keys are read as
//! their type prints them, which runs no code of the table's owner.

use std::cell::RefCell;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::archive::names;
use crate::archive::table;
use crate::graph::cache;
use crate::model::error::Outcome;
use crate::model::oid_map::OidMap;
use crate::model::sql::{Ident, join};
use crate::postgres::settings::default_tablespace;
use crate::registry::outbox::{self, Keys, Until};
use crate::spi::session::{Session, first_column};

/// The archive's columns that have had these of the source, in any layout, and whether they are of type timestamptz.
const COLUMNS: &str = "
    SELECT DISTINCT k.source_name = t.object_key AS is_key, a.attname::text AS name, a.atttypid = 'timestamptz'::regtype AS is_time
    FROM keepsake.archive_table t
    JOIN keepsake.archive_column k ON k.archive = t.archive AND k.source_name IN (t.object_key, t.writable_until)
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
    WHERE t.archive = $1 ORDER BY 1, 2";
const BIND: &str = "
    UPDATE keepsake.archive_table t SET object_key = b.key_column, writable_until = b.writable_until
    FROM keepsake.bound_storage b WHERE t.archive = $1 AND b.relation = t.relation";
/// The columns with keys that no index finds yet. A row of before the column was of such a type is not found.
const UNINDEXED: &str = "
    SELECT DISTINCT a.attname::text
    FROM keepsake.archive_table t
    JOIN keepsake.archive_column k ON k.archive = t.archive AND k.source_name = t.object_key
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
    WHERE t.archive = $1 AND a.atttypid IN ('text'::regtype, 'varchar'::regtype)
      AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am am ON am.oid = i.relam
                      WHERE x.indrelid = k.archive AND x.indkey[0] = a.attnum AND am.amname = 'btree' AND x.indisvalid AND x.indpred IS NULL)
    ORDER BY 1";

/// How an archived row, called `t`, says which object it names.
#[derive(Debug)]
pub struct Objects {
    /// Its key, as text.
    pub key: String,
    /// Until when it may still be stored.
    pub until: String,
}

/// By archive.
type Known = OidMap<Option<Rc<Objects>>>;

thread_local! {
    /// What was read, and under which count of changes: each batch of a purge asks.
    static KNOWN: RefCell<(u64, Known)> = RefCell::default();
}

impl Objects {
    /// Of the rows of an archive; `None` when they name none.
    pub fn of(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Option<Rc<Self>>> {
        let changes = cache::changes();
        let known = KNOWN.with_borrow(|(read_under, known)| {
            let is_good = *read_under == changes;
            known.get(&archive).filter(|_| is_good).cloned()
        });
        if let Some(objects) = known {
            return Ok(objects);
        }
        let objects = Self::read(session, archive)?.map(Rc::new);
        // What changed meanwhile is good for this call alone.
        if cache::changes() == changes {
            KNOWN.with_borrow_mut(|(read_under, known)| {
                if *read_under != changes {
                    known.clear();
                    *read_under = changes;
                }
                known.insert(archive, objects.clone());
            });
        }
        Ok(objects)
    }

    fn read(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Option<Self>> {
        let (mut keys, mut times) = (Vec::new(), Vec::new());
        for row in session.registry_now(COLUMNS, &[archive.into()])? {
            let name = Ident(row.get_by_name("name")?.unwrap_or_default());
            let flag =
                |name: &str| -> Outcome<bool> { Ok(row.get_by_name(name)?.unwrap_or(false)) };
            if flag("is_key")? {
                keys.push(format!(
                    "CASE WHEN t.{name} IS NOT NULL THEN pg_catalog.format('%s', t.{name}) END"
                ));
            } else if flag("is_time")? {
                times.push(format!("t.{name}"));
            }
        }
        if keys.is_empty() {
            return Ok(None);
        }
        times.push("NULL::pg_catalog.timestamptz".into());
        Ok(Some(Self {
            // A row has a value in the columns of its layout alone.
            key: format!("coalesce({})", join(keys, ", ")),
            until: format!("greatest({})", join(times, ", ")),
        }))
    }
}

/// The column of its table that names objects, if one does.
pub fn key_column(session: &Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<Option<String>> {
    let sql = "SELECT object_key::text FROM keepsake.archive_table WHERE archive = $1";
    match session.registry_now(sql, &[archive.into()])?.first() {
        Some(row) => Ok(row.get(1)?),
        None => Ok(None),
    }
}

/// Lets an archive, which has followed its table, know that this is bound to the bucket, if it is.
pub fn bind(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    session.registry(BIND, &[archive.into()])?;
    index(session, archive)
}

/// Gives an archive the indexes over the keys of objects that it lacks.
pub fn index(session: &mut Session<'_, '_>, archive: pg_sys::Oid) -> Outcome<()> {
    let columns: Vec<String> = first_column(session.registry(UNINDEXED, &[archive.into()])?)?;
    for column in columns {
        let column = Ident(column);
        let _place = default_tablespace();
        for name in table::heaps(session, archive)? {
            session.registry(&format!("CREATE INDEX ON {name} ({column})"), &[])?;
        }
    }
    Ok(())
}

/// So many rows' keys are in memory at once.
const WINDOW: i64 = 10_000;

/// Hands on the keys that archived rows `t` with this condition name.
fn each_window(
    session: &mut Session<'_, '_>,
    archive: pg_sys::Oid,
    condition: &str,
    mut each: impl FnMut(&mut Session<'_, '_>, Keys, Until) -> Outcome<()>,
) -> Outcome<()> {
    let Some(objects) = Objects::of(session, archive)? else {
        return Ok(());
    };
    let Objects { key, until } = &*objects;
    let name = names::name_of(session, archive)?;
    let sql = format!("SELECT {key}, {until} FROM {name} AS t WHERE {condition}");
    session.registry_in_windows(&sql, WINDOW, |session, rows| {
        let (mut keys, mut times) = (Keys::new(), Until::new());
        for row in rows {
            keys.push(row.get(1)?);
            times.push(row.get(2)?);
        }
        each(session, keys, times)
    })
}

/// Puts the objects of archived rows that are about to go for good into the outbox.
pub fn give_up(
    session: &mut Session<'_, '_>,
    (archive, relation): (pg_sys::Oid, pg_sys::Oid),
    condition: &str,
) -> Outcome<()> {
    each_window(session, archive, condition, |session, keys, until| {
        outbox::enqueue(session, relation, keys, until)
    })
}

/// Takes the objects of archived rows out of the outbox: live rows of this transaction name them now. Whoever leases objects looks at
/// live rows first and at archived ones then, so that he would not see rows which come back meanwhile.
pub fn claim(session: &mut Session<'_, '_>, archive: pg_sys::Oid, condition: &str) -> Outcome<()> {
    each_window(session, archive, condition, |session, keys, _| {
        outbox::claim(session, keys)
    })
}
