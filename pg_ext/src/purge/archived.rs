//! The purge of archived rows: nothing refers to them, so they need no order, and no code of an owner's runs.

use pgrx::{Uuid, pg_sys};

use crate::archive::objects::Objects;
use crate::archive::table;
use crate::model::error::Outcome;
use crate::postgres::settings::indexes_only;
use crate::purge::cycles::Gone;
use crate::purge::report::Report;
use crate::registry::outbox::{self, Keys, Until};
use crate::spi::session::Session;

/// The archives that hold rows of some deletions. What a dropped table had deleted is known by the OID that it had.
const HOLDING: &str = "
    SELECT DISTINCT a.archive::oid AS archive, t.relation::oid AS relation,
           format('%I.%I', a.source_schema, a.source_name) AS shown
    FROM keepsake.deletion_table t JOIN keepsake.archive_table a ON t.relation::oid = coalesce(a.relation::oid, a.former)
    WHERE t.deletion_id = ANY ($1) AND t.purged < t.row_count
    ORDER BY 3";

/// An archive, and the table whose rows it has.
struct Archive {
    oid: pg_sys::Oid,
    relation: pg_sys::Oid,
    shown: String,
}

/// Purges archived rows of these deletions, which are locked and not held, as many as the report has room for.
pub fn purge(
    session: &mut Session<'_, '_>,
    deletions: &[Uuid],
    report: &mut Report,
    gone: &mut Gone,
) -> Outcome<()> {
    for archive in holding(session, deletions)? {
        if report.is_full() {
            break;
        }
        let mut rows = 0;
        for (deletion, count) in delete(session, &archive, deletions, report.left())? {
            *gone
                .entry((*deletion.as_bytes(), archive.relation))
                .or_insert(0) += count;
            rows += count;
        }
        report.note_purged(&archive.shown, rows);
    }
    Ok(())
}

fn holding(session: &mut Session<'_, '_>, deletions: &[Uuid]) -> Outcome<Vec<Archive>> {
    let mut found = Vec::new();
    for row in session.registry_kept(HOLDING, &[deletions.to_vec().into()])? {
        if let (Some(oid), Some(relation), Some(shown)) = (row.get(1)?, row.get(2)?, row.get(3)?) {
            found.push(Archive {
                oid,
                relation,
                shown,
            });
        }
    }
    Ok(found)
}

/// Deletes rows of one archive; how many of each deletion. The objects that they named go to the outbox. The range of the deletions is
/// what the index over them serves.
fn delete(
    session: &mut Session<'_, '_>,
    archive: &Archive,
    deletions: &[Uuid],
    most: i64,
) -> Outcome<Vec<(Uuid, i64)>> {
    let ids = deletions.iter().map(|id| *id.as_bytes());
    let (Some(first), Some(last)) = (ids.clone().min(), ids.max()) else {
        return Ok(Vec::new());
    };
    let objects = Objects::of(session, archive.oid)?;
    let (named, given) = match &objects {
        Some(Objects { key, until }) => (
            format!(", {key} AS key, {until} AS until"),
            ", array_agg(g.key), array_agg(g.until)",
        ),
        None => (String::new(), ""),
    };
    let sql = format!(
        "WITH gone AS (
             DELETE FROM {name} AS t WHERE t.ctid = ANY (ARRAY(
                 SELECT d.ctid FROM {name} AS d
                 WHERE d.keepsake_deletion >= $2 AND d.keepsake_deletion <= $3 AND d.keepsake_deletion = ANY ($1)
                 LIMIT $4))
             RETURNING t.keepsake_deletion{named})
         SELECT g.keepsake_deletion, count(*){given} FROM gone AS g GROUP BY g.keepsake_deletion",
        name = table::name_of(session, archive.oid)?,
    );
    let arguments = [
        deletions.to_vec().into(),
        Uuid::from_bytes(first).into(),
        Uuid::from_bytes(last).into(),
        most.into(),
    ];
    let mut purged = Vec::new();
    let (mut keys, mut until) = (Keys::new(), Until::new());
    let rows = {
        let _plan = indexes_only();
        session.registry_kept(&sql, &arguments)?
    };
    for row in rows {
        if let (Some(deletion), Some(rows)) = (row.get(1)?, row.get(2)?) {
            purged.push((deletion, rows));
        }
        if objects.is_some() {
            keys.extend(row.get::<Keys>(3)?.unwrap_or_default());
            until.extend(row.get::<Until>(4)?.unwrap_or_default());
        }
    }
    if !keys.is_empty() {
        outbox::enqueue(session, archive.relation, keys, until)?;
    }
    Ok(purged)
}
