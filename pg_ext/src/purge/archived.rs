//! The purge of archived rows: nothing refers to them, so they need no order, and no code of an owner's runs.
//!
//! Rows that lie where those of the batch before did are deleted past the executor, since that takes less than half the time. What
//! they leave is found through the index over the deletions.

use std::collections::HashSet;

use pgrx::itemptr::item_pointer_get_both;
use pgrx::{Uuid, pg_sys};

use crate::archive::erase::{self, Rows};
use crate::archive::heaps;
use crate::archive::names;
use crate::archive::objects::Objects;
use crate::model::error::Outcome;
use crate::postgres::settings::no_whole_tables;
use crate::purge::gone::Gone;
use crate::purge::report::Report;
use crate::registry::outbox::{self, Keys, Until};
use crate::spi::session::Session;

/// The tables of which some deletions have rows, with how many of each deletion, and the archive, where the table has one. What a
/// dropped table had deleted is known by the OID that it had.
const HOLDING: &str = "
    SELECT t.relation::oid, t.deletion_id, t.row_count - t.purged,
           a.archive::oid, quote_ident(a.source_schema) || '.' || quote_ident(a.source_name) AS shown
    FROM keepsake.deletion_table t LEFT JOIN keepsake.archive_table a ON t.relation::oid = coalesce(a.relation::oid, a.former)
    WHERE t.deletion_id = ANY ($1) AND t.purged < t.row_count
    ORDER BY 5, 4";

/// The tables of which some deletions have rows.
#[derive(Default)]
pub struct Holding {
    /// All of them.
    pub tables: HashSet<pg_sys::Oid>,
    archives: Vec<Archive>,
}

/// An archive, and the table whose rows it has.
struct Archive {
    oid: pg_sys::Oid,
    relation: pg_sys::Oid,
    shown: String,
    rows: Rows,
}

impl Archive {
    /// The tables that may have rows of the deletions, likely ones first.
    fn heaps(&self, session: &Session<'_, '_>) -> Outcome<Vec<pg_sys::Oid>> {
        let months = heaps::months(session, self.oid)?;
        let deletions: Vec<[u8; 16]> = self.rows.deletions().collect();
        Ok(heaps::in_order(self.oid, &months, &deletions))
    }
}

/// Finds the tables of which these deletions have rows.
pub fn holding(session: &mut Session<'_, '_>, deletions: &[Uuid]) -> Outcome<Holding> {
    let mut found = Holding::default();
    for row in session.registry_planned_once(HOLDING, &[deletions.to_vec().into()])? {
        let (Some(relation), Some(deletion), Some(rows)) =
            (row.get(1)?, row.get::<Uuid>(2)?, row.get(3)?)
        else {
            continue;
        };
        found.tables.insert(relation);
        let Some(oid) = row.get(4)? else {
            continue;
        };
        if found.archives.last().is_none_or(|last| last.oid != oid) {
            found.archives.push(Archive {
                oid,
                relation,
                shown: row.get(5)?.unwrap_or_default(),
                rows: Rows::default(),
            });
        }
        if let Some(archive) = found.archives.last_mut() {
            archive.rows.expect(*deletion.as_bytes(), rows);
        }
    }
    Ok(found)
}

/// Purges archived rows of deletions that are locked and not held, as many as the report has room for.
pub fn purge(
    session: &mut Session<'_, '_>,
    holding: Holding,
    report: &mut Report,
    gone: &mut Gone,
) -> Outcome<()> {
    for mut archive in holding.archives {
        if report.is_full() {
            break;
        }
        let objects = Objects::of(session, archive.oid)?;
        let mut most = report.left();
        for heap in archive.heaps(session)? {
            if most <= 0 || archive.rows.are_gone() {
                break;
            }
            most -= purge_heap(session, heap, &mut archive, objects.as_deref(), most)?;
        }
        for (deletion, rows) in archive.rows.gone() {
            *gone.entry((deletion, archive.relation)).or_insert(0) += rows;
            report.note_purged(&archive.shown, rows);
        }
    }
    Ok(())
}

/// Deletes rows of one archive that are in one of its tables; how many.
fn purge_heap(
    session: &mut Session<'_, '_>,
    heap: pg_sys::Oid,
    archive: &mut Archive,
    objects: Option<&Objects>,
    most: i64,
) -> Outcome<i64> {
    // Past the executor, nobody would read which objects the rows name.
    let erased = match objects {
        None => erase::delete(heap, &mut archive.rows, most)?,
        Some(_) => 0,
    };
    if erased < most && !archive.rows.are_gone() {
        return Ok(erased + delete_found(session, heap, archive, objects, most - erased)?);
    }
    Ok(erased)
}

/// Deletes rows of one archive wherever they are in one of its tables; how many. The objects that they named go to the outbox. The range of the deletions is what the
/// index over them serves.
fn delete_found(
    session: &mut Session<'_, '_>,
    heap: pg_sys::Oid,
    archive: &mut Archive,
    objects: Option<&Objects>,
    most: i64,
) -> Outcome<i64> {
    let ids: Vec<[u8; 16]> = archive.rows.deletions().collect();
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
        return Ok(0);
    };
    let (named, given) = match objects {
        Some(Objects { key, until }) => (
            format!(", {key} AS key, {until} AS until"),
            ", array_agg(g.key), array_agg(g.until)",
        ),
        None => (String::new(), ""),
    };
    let sql = format!(
        "WITH gone AS (
             DELETE FROM ONLY {name} AS t WHERE t.ctid = ANY (ARRAY(
                 SELECT d.ctid FROM ONLY {name} AS d
                 WHERE d.keepsake_deletion >= $2 AND d.keepsake_deletion <= $3 AND d.keepsake_deletion = ANY ($1)
                 LIMIT $4))
             RETURNING t.keepsake_deletion, t.ctid{named})
         SELECT g.keepsake_deletion, count(*), max(g.ctid){given} FROM gone AS g GROUP BY g.keepsake_deletion",
        name = names::name_of(session, heap)?,
    );
    let all: Vec<Uuid> = ids.iter().copied().map(Uuid::from_bytes).collect();
    let arguments = [
        all.into(),
        Uuid::from_bytes(*first).into(),
        Uuid::from_bytes(*last).into(),
        most.into(),
    ];
    let rows = {
        let _plan = no_whole_tables();
        session.registry_kept(&sql, &arguments)?
    };
    let (mut deleted, mut furthest) = (0, None);
    let (mut keys, mut until) = (Keys::new(), Until::new());
    for row in rows {
        if let (Some(deletion), Some(rows)) = (row.get::<Uuid>(1)?, row.get(2)?) {
            archive.rows.note(*deletion.as_bytes(), rows);
            deleted += rows;
        }
        let last = row.get::<pg_sys::ItemPointerData>(3)?;
        furthest = furthest.max(last.map(|place| item_pointer_get_both(place).0));
        if objects.is_some() {
            keys.extend(row.get::<Keys>(4)?.unwrap_or_default());
            until.extend(row.get::<Until>(5)?.unwrap_or_default());
        }
    }
    if !keys.is_empty() {
        outbox::enqueue(session, archive.relation, keys, until)?;
    }
    if let Some(block) = furthest {
        erase::note_block(heap, block);
    }
    Ok(deleted)
}
