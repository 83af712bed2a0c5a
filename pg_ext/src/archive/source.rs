//! What a backend knows of a table whose rows are archived, until something of it changes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::datum::Interval;
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::tupdesc::PgTupleDesc;

use crate::archive::follow_table;
use crate::archive::heaps;
use crate::archive::layout::Kept;
use crate::archive::layouts;
use crate::archive::objects;
use crate::archive::using;
use crate::archive::write;
use crate::model::error::Outcome;
use crate::postgres::ensured_snapshot::EnsuredSnapshot;
use crate::spi::session::{Session, with_session};

/// A table or partition whose rows are archived.
#[derive(Debug)]
pub struct Source {
    /// The managed table: that of a partition is its root.
    pub table: pg_sys::Oid,
    /// Its archive.
    pub archive: pg_sys::Oid,
    /// Whether TRUNCATE archives its rows; else it is refused.
    pub archives_truncate: bool,
    /// The number of the newest layout.
    pub layout: i32,
    /// The columns of this very table or partition, in order.
    pub columns: Vec<Stored>,
    /// Whether the archive has them in the same order.
    pub keeps_order: bool,
    /// How many columns the archive has, those that are dropped included.
    pub width: usize,
    /// The primary key.
    pub key: Vec<KeyColumn>,
    /// The references to tables with an archive.
    pub references: Vec<Reference>,
    shape: Shape,
}

/// A reference to a table with an archive.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The referenced table.
    pub parent: pg_sys::Oid,
    /// Whether a removal sets the columns to their defaults.
    pub sets_default: bool,
    /// The referring columns.
    pub columns: Vec<ReferenceColumn>,
}

/// A referring column.
#[derive(Clone, Debug)]
pub struct ReferenceColumn {
    /// Its name.
    pub name: String,
    /// Its place among the columns of the table or partition, counted from 0.
    pub place: usize,
    /// Its type; of a domain what that is over.
    pub type_oid: pg_sys::Oid,
}

/// A column as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Where the archive keeps it, counted from 0; `None` of a column that is dropped.
    pub place: Option<usize>,
    /// Whether a value of it may be stored outside of its row.
    pub may_be_external: bool,
}

/// A column of the primary key.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    /// Its place among the columns of the table or partition, counted from 0.
    pub place: usize,
    /// Its name.
    pub name: String,
    /// Its type; of a domain what that is over.
    pub type_oid: pg_sys::Oid,
}

/// A copy of a row's shape that lives as long as this.
#[derive(Debug)]
struct Shape(pg_sys::TupleDesc);

impl Shape {
    fn of(relation: &pg_sys::RelationData) -> Self {
        // SAFETY: copies the descriptor of an open relation into memory that only `drop` frees.
        unsafe {
            PgMemoryContexts::TopMemoryContext
                .switch_to(|_| Self(pg_sys::CreateTupleDescCopy(relation.rd_att)))
        }
    }
}

impl Drop for Shape {
    fn drop(&mut self) {
        // SAFETY: the copy is ours alone, and not counted.
        unsafe { pg_sys::FreeTupleDesc(self.0) };
    }
}

impl Source {
    /// The shape of the archive's rows.
    pub fn shape(&self) -> pg_sys::TupleDesc {
        self.shape.0
    }

    fn concerns(&self, relation: pg_sys::Oid) -> bool {
        self.table == relation || self.archive == relation
    }
}

thread_local! {
    /// `None` of tables that are not archived.
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Option<Rc<Source>>>> = RefCell::default();
    /// That which was asked for last.
    static LAST: RefCell<Option<(pg_sys::Oid, Rc<Source>)>> = const { RefCell::new(None) };
    /// How long what is deleted in a managed table can be restored.
    static RETENTIONS: RefCell<HashMap<pg_sys::Oid, Interval>> = RefCell::default();
    /// How often something has been forgotten, to notice what changes during a reading.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// Listens to changes of relations. Once in a backend's life.
pub fn install() {
    // SAFETY: called from `_PG_init`, with a function that lives as long as the backend.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0_usize));
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    forget(relation);
}

/// Forgets what concerns a relation; everything when it is none.
pub fn forget(relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    write::forget(relation);
    heaps::forget(relation);
    LAST.with_borrow_mut(|last| *last = None);
    RETENTIONS.with_borrow_mut(|known| {
        known.retain(|table, _| relation != pg_sys::InvalidOid && *table != relation);
    });
    // A message may come while what is known is looked at: then nothing is read of it any more.
    KNOWN.with(|known| {
        if let Ok(mut known) = known.try_borrow_mut() {
            known.retain(|leaf, source| {
                let concerned = *leaf == relation
                    || source
                        .as_ref()
                        .is_some_and(|source| source.concerns(relation));
                relation != pg_sys::InvalidOid && !concerned
            });
        }
    });
}

/// What is known of the table or partition `relation`, which is open; `None` when it is not archived.
pub fn of(relation: &pg_sys::RelationData) -> Outcome<Option<Rc<Source>>> {
    let last = LAST.with_borrow(|last| match last {
        Some((leaf, source)) if *leaf == relation.rd_id => Some(Rc::clone(source)),
        _ => None,
    });
    if last.is_some() {
        return Ok(last);
    }
    let known = KNOWN.with_borrow(|known| known.get(&relation.rd_id).cloned());
    if let Some(Some(source)) = &known {
        let last = (relation.rd_id, Rc::clone(source));
        LAST.with_borrow_mut(|one| *one = Some(last));
    }
    match known {
        Some(source) => Ok(source),
        None => learn(relation),
    }
}

#[cold]
fn learn(relation: &pg_sys::RelationData) -> Outcome<Option<Rc<Source>>> {
    let before = CHANGES.get();
    let source = with_session(|session| read(session, relation))?.map(Rc::new);
    // What changed while it was read is good for this call alone.
    if CHANGES.get() == before {
        KNOWN.with_borrow_mut(|known| known.insert(relation.rd_id, source.clone()));
    }
    Ok(source)
}

/// How long what is deleted in a managed table can be restored; of one that is managed no longer, the default.
pub fn retention(table: pg_sys::Oid) -> Outcome<Option<Interval>> {
    if let Some(retention) = RETENTIONS.with_borrow(|known| known.get(&table).copied()) {
        return Ok(Some(retention));
    }
    let before = CHANGES.get();
    // There is none when the transaction commits.
    let _snapshot = EnsuredSnapshot::take();
    let retention: Option<Interval> = with_session(|session| -> Outcome<_> {
        let rows = session.registry_now(
            "SELECT retention FROM keepsake.managed_table WHERE relation = $1",
            &[table.into()],
        )?;
        Ok(match rows.first() {
            Some(row) => row.get(1)?,
            None => None,
        })
    })?;
    if let Some(retention) = retention
        && CHANGES.get() == before
    {
        RETENTIONS.with_borrow_mut(|known| known.insert(table, retention));
    }
    Ok(retention)
}

const MANAGED: &str = "
    SELECT m.relation::oid AS table_oid, a.archive::oid AS archive, m.on_truncate = 'archive' AS archives_truncate, m.retention
    FROM keepsake.managed_table m JOIN keepsake.archive_table a USING (relation)
    WHERE m.keep = 'archive' AND (m.relation = $1 OR m.relation IN (SELECT relid FROM pg_partition_ancestors($1)))
    ORDER BY m.relation = $1 LIMIT 1";

/// The primary key of the managed table, by the names that its columns have in every partition.
const KEY: &str = "
    SELECT a.attname::text AS name
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = $1 AND i.indisprimary AND k.n <= i.indnkeyatts ORDER BY k.n";

fn read(session: &mut Session<'_, '_>, relation: &pg_sys::RelationData) -> Outcome<Option<Source>> {
    let managed = session.registry_now(MANAGED, &[relation.rd_id.into()])?;
    let Some(row) = managed.first() else {
        return Ok(None);
    };
    let oid = |name: &str| -> Outcome<pg_sys::Oid> {
        Ok(row.get_by_name(name)?.unwrap_or(pg_sys::InvalidOid))
    };
    let (root, archive) = (oid("table_oid")?, oid("archive")?);
    // Asked for at the end of the statement.
    if let Some(retention) = row.get_by_name("retention")? {
        RETENTIONS.with_borrow_mut(|known| known.insert(root, retention));
    }
    // While a command converts values of the table, it is not for an assignment to follow.
    if using::is_any() {
        follow_table::follow(session, root)?;
    }
    let (layout, kept) = layouts::follow(session, archive, root, &Vec::new(), true)?;
    objects::index(session, archive)?;
    let mut key_names = Vec::new();
    for row in session.catalog_now(KEY, &[root.into()])? {
        key_names.extend(row.get_by_name::<String, _>("name")?);
    }
    let Some((shape, width)) = archive_shape(archive) else {
        return Ok(None);
    };
    // SAFETY: the descriptor of an open relation, which is not released here.
    let leaf = unsafe { PgTupleDesc::from_pg_unchecked(relation.rd_att) };
    let columns: Vec<Stored> = leaf
        .iter()
        .map(|attribute| stored(attribute, &kept))
        .collect();
    let places = key_names.into_iter().filter_map(|name| {
        let place = leaf
            .iter()
            .position(|attribute| !attribute.attisdropped && column_name(attribute) == name)?;
        let kept = kept.iter().find(|kept| kept.column.name == name)?;
        Some(KeyColumn {
            place,
            type_oid: kept.column.type_oid,
            name,
        })
    });
    let references = references(session, root, &kept, &leaf)?;
    Ok(Some(Source {
        table: root,
        archive,
        archives_truncate: row.get_by_name("archives_truncate")?.unwrap_or(false),
        layout,
        keeps_order: columns.iter().filter_map(|column| column.place).is_sorted(),
        columns,
        width,
        key: places.collect(),
        references,
        shape,
    }))
}

const REFERENCES: &str = "
    SELECT con.conkey, coalesce(pg_partition_root(con.confrelid)::oid, con.confrelid) AS parent, con.confdeltype = 'd' AS sets_default
    FROM pg_constraint con
    JOIN keepsake.managed_table m ON m.relation = coalesce(pg_partition_root(con.confrelid)::oid, con.confrelid) AND m.keep = 'archive'
    WHERE con.contype = 'f' AND con.conrelid = $1 AND con.conparentid = 0";

fn references(
    session: &Session<'_, '_>,
    root: pg_sys::Oid,
    kept: &[Kept],
    leaf: &PgTupleDesc<'_>,
) -> Outcome<Vec<Reference>> {
    let mut found = Vec::new();
    for row in session.registry_now(REFERENCES, &[root.into()])? {
        let numbers: Vec<i16> = row.get_by_name("conkey")?.unwrap_or_default();
        let column = |number: &i16| {
            let column = &kept
                .iter()
                .find(|kept| kept.column.number == *number)?
                .column;
            let is_it = |attribute: &pg_sys::FormData_pg_attribute| {
                !attribute.attisdropped && column_name(attribute) == column.name
            };
            Some(ReferenceColumn {
                name: column.name.clone(),
                place: leaf.iter().position(is_it)?,
                type_oid: column.type_oid,
            })
        };
        if let Some(columns) = numbers.iter().map(column).collect() {
            found.push(Reference {
                parent: row.get_by_name("parent")?.unwrap_or(pg_sys::InvalidOid),
                sets_default: row.get_by_name("sets_default")?.unwrap_or(false),
                columns,
            });
        }
    }
    Ok(found)
}

fn column_name(attribute: &pg_sys::FormData_pg_attribute) -> &str {
    // SAFETY: a column's name is a string, in the memory of its descriptor.
    let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) };
    name.to_str().unwrap_or_default()
}

/// Where the archive keeps a column of a table or partition: columns of the same name are the same, whatever their numbers.
fn stored(attribute: &pg_sys::FormData_pg_attribute, kept: &[Kept]) -> Stored {
    let named = |kept: &&Kept| kept.column.name == column_name(attribute);
    let place = if attribute.attisdropped {
        None
    } else {
        kept.iter()
            .find(named)
            .and_then(|kept| usize::try_from(kept.archive_number - 1).ok())
    };
    Stored {
        place,
        may_be_external: attribute.attlen == -1,
    }
}

/// The shape of an archive, and how many columns it has; `None` when it is gone.
fn archive_shape(archive: pg_sys::Oid) -> Option<(Shape, usize)> {
    let mode = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: opens the relation, copies its descriptor and closes it; the lock stays to the end of the transaction, as the
    // flush will write to it.
    unsafe {
        let relation = pg_sys::try_table_open(archive, mode);
        let opened = relation.as_ref()?;
        let shape = Shape::of(opened);
        let width = usize::try_from((*opened.rd_att).natts).unwrap_or(0);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        Some((shape, width))
    }
}
