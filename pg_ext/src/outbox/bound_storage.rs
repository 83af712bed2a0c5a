//! Tables whose rows name objects in a bucket: when a row is gone for good, or names another object,
//! its key goes to the outbox in the same transaction. Several rows may name one object: what waits
//! in the outbox is handed out for deletion only when no row names it ([`crate::outbox::object_rows`]), and
//! is dropped when one does, which will hand it over again. A row that is archived is not gone; its purge hands the key over.

use pgrx::Uuid;
use pgrx::datum::{DatumWithOid, Interval};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::archive::{names, setting, source};
use crate::call::arguments::Regclass;
use crate::call::trigger_call::{
    AfterInsertedRows, AfterOldRows, AfterUpdate, Answer, BeforeTruncate, BeforeUpdate, Call,
    NewRows, OldRows,
};
use crate::call::trigger_row::Row;
use crate::graph::cache::{self, Kept};
use crate::graph::reference_graph::not_in_place;
use crate::manage::archived_table::Keep;
use crate::manage::bound_table;
use crate::model::error::{Failure, Outcome, required};
use crate::model::sql::{Ident, join};
use crate::outbox::object_rows::{KeyIndexes, Named};
use crate::registry::description::describe;
use crate::registry::outbox::{Keys, Until, claim, enqueue};
use crate::spi::session::{Session, with_session};

/// Binds `table` to the bucket: `key_column` (text, first column of an index) names the object of
/// each row. `writable_until` names a timestamptz column that says until when a signed upload URL may
/// still store the object. The key of a deleted row never changes.
///
/// # Errors
/// 22023 when the columns do not fit; 55000 when the table is not managed; 42501 for anyone but
/// the owner.
#[pg_extern]
fn bind_storage(
    relation: Option<Regclass>,
    key_column: Option<&str>,
    writable_until: default!(Option<&str>, "NULL"),
) -> Result<(), ErrorReport> {
    let oid = required(relation, "relation")?.oid();
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
                   JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
                   WHERE i.indrelid = $1 AND i.indisvalid AND am.amname = 'btree'
                     AND i.indpred IS NULL AND a.attname = $2) AS is_indexed";

fn bind(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    key: &str,
    until: Option<&str>,
) -> Outcome<()> {
    let found = describe(session, oid)?;
    found.check_owned()?;
    if Keep::of(session, oid)?.is_none() {
        return Err(not_in_place(session, oid)?);
    }
    let fits = session
        .catalog(FITS, &[oid.into(), key.into(), until.into()])?
        .first();
    let flag =
        |name: &str| -> Outcome<bool> { Ok(fits.get_by_name::<bool, _>(name)?.unwrap_or(false)) };
    if !(flag("key_fits")? && flag("until_fits")? && flag("is_indexed")?) {
        return Err(Failure::BadArgument {
            what: format!("cannot bind table {} by column {key}", found.shown),
            fix: "The key column must be text NOT NULL and the first column of a btree index without a WHERE clause. writable_until, if passed, must be a timestamptz column.".into(),
        });
    }
    session.registry(
        "INSERT INTO keepsake.bound_storage (relation, key_column, writable_until)
         VALUES ($1, $2::text::name, $3::text::name)
         ON CONFLICT (relation) DO UPDATE SET key_column = excluded.key_column, writable_until = excluded.writable_until",
        &[oid.into(), key.into(), until.into()],
    )?;
    cache::invalidate(oid);
    bound_table::equip(session, oid)
}

/// Whether what goes from a table goes to its archive.
fn is_archived(relation: &pg_sys::RelationData) -> Outcome<bool> {
    Ok(setting::is_on() && source::of(relation)?.is_some())
}

/// AFTER DELETE on a bound table: the objects of the rows that went for good, into the outbox.
#[pg_extern]
fn enqueue_objects(call: Call<'_, AfterOldRows>) -> Result<Answer<'_>, ErrorReport> {
    if is_archived(call.opened())? {
        return Ok(Answer::nothing());
    }
    with_session(|session| -> Outcome<()> {
        session.register_transition_table(&call.rows)?;
        let Some(bound) = Bound::of(session, call.relation)? else {
            return Ok(());
        };
        let (keys, until) = bound.read(session, OldRows::NAME, &[])?;
        enqueue(session, bound.relation, keys, until)
    })?;
    Ok(Answer::nothing())
}

/// BEFORE UPDATE of a deleted row's key: it is restored as it was.
#[pg_extern]
fn keep_object_key(call: Call<'_, BeforeUpdate>) -> Result<Answer<'_>, ErrorReport> {
    Err(Failure::KeyOfObject {
        table: call.table(),
    }
    .into())
}

/// BEFORE TRUNCATE of a bound table with an archive, or of a partition: the objects of its rows, into the outbox, unless the rows are
/// archived.
#[pg_extern]
fn enqueue_truncated(call: Call<'_, BeforeTruncate>) -> Result<Answer<'_>, ErrorReport> {
    let archives = source::of(call.opened())?.is_some_and(|source| source.archives_truncate);
    if setting::is_on() && archives {
        return Ok(Answer::nothing());
    }
    with_session(|session| -> Outcome<()> {
        let Some(bound) = Bound::of(session, call.relation)? else {
            return Ok(());
        };
        for first in (0..blocks(call.opened())).step_by(STRETCH as usize) {
            let (keys, until) = bound.read_stretch(session, call.relation, first)?;
            enqueue(session, bound.relation, keys, until)?;
        }
        Ok(())
    })?;
    Ok(Answer::nothing())
}

/// So many pages are read at once.
const STRETCH: u32 = 1024;

/// How many pages a table has that nobody else can change. A partitioned one has none of its own.
fn blocks(relation: &pg_sys::RelationData) -> u32 {
    let open = std::ptr::from_ref(relation).cast_mut();
    // SAFETY: the relation is open, and a table's has a file.
    unsafe {
        if (*relation.rd_rel).relkind as u8 != pg_sys::RELKIND_RELATION {
            return 0;
        }
        pg_sys::RelationGetNumberOfBlocksInFork(open, pg_sys::ForkNumber::MAIN_FORKNUM)
    }
}

/// AFTER INSERT: the objects that the new rows name are not to be deleted.
#[pg_extern]
fn claim_objects(call: Call<'_, AfterInsertedRows>) -> Result<Answer<'_>, ErrorReport> {
    with_session(|session| -> Outcome<()> {
        session.register_transition_table(&call.rows)?;
        let Some(bound) = Bound::of(session, call.relation)? else {
            return Ok(());
        };
        let keys = match call.rows.texts(&bound.key) {
            Some(keys) => keys,
            None => bound.read(session, NewRows::NAME, &[])?.0,
        };
        claim(session, keys)
    })?;
    Ok(Answer::nothing())
}

/// AFTER UPDATE of the key: the row hands over its old object and claims the new one.
#[pg_extern]
fn exchange_object(call: Call<'_, AfterUpdate>) -> Result<Answer<'_>, ErrorReport> {
    with_session(|session| -> Outcome<()> {
        let Some(bound) = Bound::of(session, call.relation)? else {
            return Ok(());
        };
        let (old, until) = bound.of_row(session, call.rows.old)?;
        enqueue(session, bound.relation, old, until)?;
        let (new, _) = bound.of_row(session, call.rows.new)?;
        claim(session, new)
    })?;
    Ok(Answer::nothing())
}

/// A bound table and its columns.
#[derive(Clone)]
struct Bound {
    relation: pg_sys::Oid,
    owner: pg_sys::Oid,
    key: String,
    until: Option<String>,
}

/// Of a partition, its table.
const BOUND: &str = "
    SELECT b.relation::oid AS relation, c.relowner AS owner, b.key_column::text AS key, b.writable_until::text AS until
    FROM keepsake.bound_storage b JOIN pg_class c ON c.oid = b.relation
    WHERE b.relation = $1 OR b.relation IN (SELECT relid FROM pg_partition_ancestors($1))
    ORDER BY b.relation = $1 LIMIT 1";

thread_local! {
    static KNOWN: Kept<pg_sys::Oid, Option<Bound>> = Kept::default();
}

impl Bound {
    fn of(session: &Session<'_, '_>, relation: pg_sys::Oid) -> Outcome<Option<Self>> {
        if let Some(known) = KNOWN.with(|known| known.get(&relation)) {
            return Ok(known);
        }
        let before = cache::changes();
        let read = Self::read_now(session, relation)?;
        KNOWN.with(|known| known.keep(before, [(relation, read.clone())]));
        Ok(read)
    }

    /// As it is committed now: the columns are those that the table has now, whatever the transaction's snapshot shows, and what is read is kept
    /// for later transactions.
    fn read_now(session: &Session<'_, '_>, relation: pg_sys::Oid) -> Outcome<Option<Self>> {
        let rows = session.registry_now(BOUND, &[relation.into()])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(row.get_by_name("key")?.map(|key| Self {
            relation: row
                .get_by_name("relation")
                .ok()
                .flatten()
                .unwrap_or(relation),
            owner: row
                .get_by_name("owner")
                .ok()
                .flatten()
                .unwrap_or(pg_sys::InvalidOid),
            key,
            until: row.get_by_name("until").unwrap_or_default(),
        }))
    }

    /// What reads the keys of some rows.
    fn keys_of(&self, source: &str) -> String {
        let until = self.until.as_ref().map_or_else(
            || "NULL".to_owned(),
            |column| format!("o.{}", Ident(column.clone())),
        );
        format!(
            "SELECT array_agg(o.{key}::text), array_agg({until}::timestamptz) FROM {source} AS o",
            key = Ident(self.key.clone()),
        )
    }

    /// Those of a table's rows in some pages from the given one on, as they are now: what TRUNCATE removes, whatever the transaction's
    /// snapshot shows.
    fn read_stretch(
        &self,
        session: &mut Session<'_, '_>,
        table: pg_sys::Oid,
        first: u32,
    ) -> Outcome<(Keys, Until)> {
        let sql = format!(
            "{keys} WHERE o.ctid >= $1::tid AND o.ctid < $2::tid",
            keys = self.keys_of(&format!("ONLY {}", names::name_of(session, table)?)),
        );
        let place = |block: u32| format!("({block},0)");
        let stretch = [
            place(first).into(),
            place(first.saturating_add(STRETCH)).into(),
        ];
        let rows = session.as_role_now((table, self.owner), &sql, &stretch)?;
        let Some(row) = rows.first() else {
            return Ok(Default::default());
        };
        Ok((
            row.get(1)?.unwrap_or_default(),
            row.get(2)?.unwrap_or_default(),
        ))
    }

    /// The keys are read as the table's owner, and only their values go on: a column's type, and so a
    /// cast of it, is its owner's to change.
    fn read(
        &self,
        session: &mut Session<'_, '_>,
        source: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<(Keys, Until)> {
        let sql = self.keys_of(source);
        let rows = session.as_role(self.owner, &sql, args)?.first();
        Ok((
            rows.get(1)?.unwrap_or_default(),
            rows.get(2)?.unwrap_or_default(),
        ))
    }

    fn of_row(&self, session: &mut Session<'_, '_>, row: Row<'_>) -> Outcome<(Keys, Until)> {
        let mut columns = vec![self.key.clone()];
        columns.extend(self.until.clone());
        let (mut named, mut args) = (Vec::new(), Vec::new());
        for column in columns {
            args.push(row.argument(&column)?);
            named.push(format!("${} AS {}", args.len(), Ident(column)));
        }
        self.read(session, &format!("(SELECT {})", join(named, ", ")), &args)
    }
}

/// Hands out up to `max_objects` due objects for `lease_for`; nobody else gets them until then, and
/// no row names them.
///
/// # Errors
/// 55000 when a bound table has lost the index over its keys.
#[pg_extern]
fn lease_objects(
    max_objects: i32,
    lease_for: Interval,
) -> Result<
    TableIterator<
        'static,
        (
            name!(lease, Uuid),
            name!(id, i64),
            name!(object_key, String),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(with_session(|session| {
        let mut leased = Vec::new();
        let lease = Uuid::from_bytes(uuid::Uuid::new_v4().into_bytes());
        loop {
            let left = i64::from(max_objects) - i64::try_from(leased.len()).unwrap_or(i64::MAX);
            if left <= 0 || !lease_some(session, lease, left, lease_for, &mut leased)? {
                return Ok::<_, Failure>(leased);
            }
        }
    })?))
}

const LEASE: &str = include_str!("lease_objects.sql");

/// Leases up to `count` due objects and gives back those that a row names. False when none are due.
fn lease_some(
    session: &mut Session<'_, '_>,
    lease: Uuid,
    count: i64,
    lease_for: Interval,
    leased: &mut Vec<(Uuid, i64, String)>,
) -> Outcome<bool> {
    let due: Vec<(i64, String, pg_sys::Oid)> = session
        .registry_kept(LEASE, &[lease.into(), count.into(), lease_for.into()])?
        .filter_map(|row| {
            let read = || -> Outcome<_> {
                let source = row.get(3)?.unwrap_or(pg_sys::InvalidOid);
                let object = row.get(1)?.zip(row.get(2)?);
                Ok(object.map(|(id, key)| (id, key, source)))
            };
            read().transpose()
        })
        .collect::<Outcome<_>>()?;
    // Only now that they are leased: see `object_rows`.
    let indexes = KeyIndexes::read(session)?;
    let (mut named, mut unclear) = (Vec::new(), Vec::new());
    let any = !due.is_empty();
    for (id, key, source) in due {
        match indexes.find(&key, source) {
            Named::No => leased.push((lease, id, key)),
            Named::Yes => named.push(id),
            Named::Perhaps => unclear.push(id),
        }
    }
    if !named.is_empty() {
        session.registry_kept(
            "DELETE FROM keepsake.outbox WHERE id = ANY ($1)",
            &[named.into()],
        )?;
    }
    if !unclear.is_empty() {
        session.registry_kept(
            "UPDATE keepsake.outbox SET lease = NULL, leased_until = NULL, next_attempt_at = now() + interval '1 second'
             WHERE id = ANY ($1)",
            &[unclear.into()],
        )?;
    }
    Ok(any)
}
