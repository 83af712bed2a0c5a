//! Whether any row names an object, also one that a transaction still running has written.
//!
//! Nothing but this look keeps a leased object from being deleted under a row: a worker marks the
//! object as leased first and looks for rows then; whoever writes a row that names it writes first
//! and looks at the outbox then ([`crate::registry::outbox::claim`]). So one of the two sees the other,
//! provided that the worker also sees rows that are not committed yet. No snapshot shows those but
//! the dirty one, by which PostgreSQL itself checks unique indexes. It is read past SQL: no code of
//! the table's owner runs, and no policy hides a row.
//!
//! A row may be archived meanwhile, or come back from its archive. The worker looks at tables first and at archives
//! then, so that it meets a row on its way there; a restore looks at the outbox as any other writer does. What moves all rows of a table at
//! once locks the table, and waits for the worker or lets it wait.

use std::collections::HashSet;

use pgrx::pg_sys;
use pgrx::{IntoDatum, spi::SpiHeapTupleData};

use crate::model::error::{Failure, Outcome};
use crate::postgres::index_scan;
use crate::spi::session::Session;

/// What is known of an object's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// No row names it.
    No,
    /// A committed row does.
    Yes,
    /// A row does that a running transaction has written or is deleting.
    Perhaps,
}

/// A table that names objects, and its index over their keys.
struct KeyIndex {
    table: pg_sys::Oid,
    index: pg_sys::Oid,
}

const TABLES: &str = include_str!("bound_tables.sql");
const INDEXES: &str = include_str!("bound_indexes.sql");

/// How to find the rows that name an object, in all bound tables.
pub struct KeyIndexes {
    indexes: Vec<KeyIndex>,
    /// Bound tables whose key column is of another type by now.
    retyped: HashSet<pg_sys::Oid>,
}

impl KeyIndexes {
    /// Those of today.
    ///
    /// # Errors
    /// 55000 when a bound table has no index over its keys.
    pub fn read(session: &mut Session<'_, '_>) -> Outcome<Self> {
        let (mut tables, mut columns) = (Vec::<pg_sys::Oid>::new(), Vec::<String>::new());
        let mut retyped = HashSet::new();
        lock_bound(session)?;
        for row in session.registry_now(TABLES, &[])? {
            if row.get(4)? == Some(true) {
                retyped.extend(row.get::<pg_sys::Oid>(3)?);
            } else if let (Some(table), Some(column)) = (row.get(1)?, row.get(2)?) {
                tables.push(table);
                columns.push(column);
            }
        }
        let indexes = session
            .registry_now(INDEXES, &[tables.into(), columns.into()])?
            .iter()
            .map(read)
            .collect::<Outcome<_>>()?;
        Ok(Self { indexes, retyped })
    }

    /// Whether a row of any of the tables names the object `key`, which a row of `source` gave up. A table whose key column is
    /// no longer text cannot be searched. What its own rows gave up waits; nobody else's objects do, so that an owner
    /// who breaks a table loses nothing but that table's.
    pub fn find(&self, key: &str, source: pg_sys::Oid) -> Named {
        let mut found = if self.retyped.contains(&source) {
            Named::Perhaps
        } else {
            Named::No
        };
        for index in &self.indexes {
            match index.find(key) {
                Named::Yes => return Named::Yes,
                Named::Perhaps => found = Named::Perhaps,
                Named::No => {}
            }
        }
        found
    }
}

const BOUND: &str = "
    SELECT b.relation::oid FROM keepsake.bound_storage b
    UNION SELECT p.relid::oid FROM keepsake.bound_storage b, keepsake.partition_tree(b.relation) p ORDER BY 1";

/// Keeps every bound table as it is until the transaction ends: one whose rows are moved to an archive, or back, would be
/// looked at neither here nor there.
fn lock_bound(session: &Session<'_, '_>) -> Outcome<()> {
    for row in session.registry_now(BOUND, &[])? {
        if let Some(table) = row.get::<pg_sys::Oid>(1)? {
            // SAFETY: waits for the lock, or raises an error. A table that is gone by then may be locked as well.
            unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as _) };
        }
    }
    Ok(())
}

fn read(row: &SpiHeapTupleData<'_>) -> Outcome<KeyIndex> {
    let index: Option<pg_sys::Oid> = row.get(2)?;
    match (row.get(1)?, index) {
        (Some(table), Some(index)) => Ok(KeyIndex { table, index }),
        _ => Err(Failure::NoKeyIndex {
            table: row.get(3)?.unwrap_or_default(),
        }),
    }
}

impl KeyIndex {
    fn find(&self, key: &str) -> Named {
        let Some(argument) = key.into_datum() else {
            return Named::No;
        };
        let mode = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        // SAFETY: relation and index are open and locked during the scan. An error unwinds through
        // PostgreSQL's resource owners, which close both.
        unsafe {
            let table = pg_sys::try_table_open(self.table, mode);
            if table.is_null() {
                return Named::No;
            }
            let index = pg_sys::index_open(self.index, mode);
            // The column may have become one of another type before it was locked.
            if *(*index).rd_opcintype != pg_sys::TEXTOID
                || (*(*index).rd_index).indrelid != self.table
            {
                pg_sys::index_close(index, mode);
                pg_sys::table_close(table, mode);
                return Named::Perhaps;
            }
            let found = scan(table, index, argument);
            pg_sys::index_close(index, mode);
            pg_sys::table_close(table, mode);
            found
        }
    }
}

/// Looks for rows with this key, as `RelationFindReplTupleByIndex` (execReplication.c) does.
///
/// # Safety
/// `table` and `index` are open and locked, and the first column of the index is text.
unsafe fn scan(table: pg_sys::Relation, index: pg_sys::Relation, key: pg_sys::Datum) -> Named {
    let mut snapshot = pg_sys::SnapshotData {
        snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
        ..Default::default()
    };
    let mut condition = pg_sys::ScanKeyData::default();
    let mut found = Named::No;
    // SAFETY: as the caller promises; the snapshot is on the stack longer than the scan; the key is
    // compared by text's own equality under the index's collation. An error unwinds through
    // PostgreSQL's resource owners, which close all of it.
    unsafe {
        pg_sys::ScanKeyEntryInitialize(
            &raw mut condition,
            0,
            1,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::InvalidOid,
            *(*index).rd_indcollation,
            pg_sys::Oid::from(pg_sys::F_TEXTEQ),
            key,
        );
        let keys = std::slice::from_mut(&mut condition);
        let scan = index_scan::begin(table, index, &raw mut snapshot, keys);
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        while found != Named::Yes
            && pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot)
        {
            // Set by the look at the row just found, when a running transaction wrote or deletes it.
            let settled = snapshot.xmin == pg_sys::InvalidTransactionId
                && snapshot.xmax == pg_sys::InvalidTransactionId;
            found = if settled { Named::Yes } else { Named::Perhaps };
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_endscan(scan);
    }
    found
}
