//! Adopted rows that go to an archive: PostgreSQL deletes them, and each is kept as it was when it was live.

use pgrx::{Uuid, pg_sys};

use crate::archive::{removal, setting};
use crate::manage::adopt::{self, Adopt, Reading, Row};
use crate::model::error::{Failure, Outcome};
use crate::model::row_id::{RowId, as_arguments};
use crate::model::sql::{Ident, join};
use crate::restore_archived::archived_rows::Archived;
use crate::restore_archived::foreign_keys::{self, ForeignKey};
use crate::spi::session::Session;

const RECORD: &str = "
    UPDATE keepsake.deletion AS d
    SET group_id = $3, root_key = CASE WHEN $4 THEN d.root_key END, actor = coalesce($5, 'unknown'), tenant = $6,
        role = NULL, session_role = NULL, deleted_at = $2::timestamptz, retention = now() - $2::timestamptz + m.retention,
        expires_at = keepsake.expiry(now(), m.retention)
    FROM keepsake.managed_table AS m WHERE d.id = $1 AND m.relation = d.root_table";
const OTHERS: &str = "
    SELECT relation::regclass::text FROM keepsake.deletion_table
    WHERE deletion_id = $1 AND (relation <> $2 OR row_count <> $3) ORDER BY relation = $2, 1 LIMIT 1";

const LET_GO: &str = "SELECT relation::regclass::text FROM keepsake.archive_undo WHERE deletion_id = $1 ORDER BY 1 LIMIT 1";

/// What makes the deletions of one table.
struct Work<'a> {
    one: &'a Archived,
    /// The statement that gives archived rows of a deletion what live rows have.
    revive: Option<String>,
}

/// Makes deletions of the rows that `adopt` means.
pub fn adopt(session: &mut Session<'_, '_>, oid: pg_sys::Oid, adopt: Adopt<'_>) -> Outcome<()> {
    if !setting::is_on() {
        return Err(Failure::BadArgument {
            what: "keepsake.capture is off: adopted rows would be deleted for good".into(),
            fix: "SET keepsake.capture = on.".into(),
        });
    }
    let tables = Archived::read(session, &[oid])?;
    let keys = foreign_keys::read(session, &tables, &[])?;
    let Some(one) = tables.first() else {
        return Ok(());
    };
    let own = |key: &&ForeignKey| key.reference.parent == oid && !key.reference.has_period;
    let reading = Reading {
        table: &one.table,
        adopt,
        unless: "",
        known_group: None,
        parents: Vec::new(),
        own: keys.iter().filter(own).map(|key| &key.reference).collect(),
    };
    let live = adopt.live_values(&one.table)?;
    reading.check_live(session, &live, &[])?;
    let sql = reading.sql(session)?;
    let work = Work {
        one,
        revive: revive(one, &live)?,
    };
    let mut open: Vec<Row> = Vec::new();
    session.write_in_windows(&one.table, (&sql, &[]), adopt::WINDOW, |session, found| {
        for row in found {
            let Some(row) = Row::read(&row)? else {
                continue;
            };
            if open.last().is_some_and(|last| !together(last, &row)) {
                work.delete(session, &open)?;
                open.clear();
            }
            open.push(row);
        }
        Ok(())
    })?;
    work.delete(session, &open)
}

/// Whether the two are of one deletion.
fn together(one: &Row, other: &Row) -> bool {
    match (&one.group, &other.group) {
        (Some(group), Some(others)) => group == others && one.tenant == other.tenant,
        (None, None) => one.top == other.top,
        _ => false,
    }
}

/// The statement that takes the old marks from rows of a deletion, in the archive.
fn revive(one: &Archived, live: &[(Ident, Option<String>)]) -> Outcome<Option<String>> {
    if live.is_empty() {
        return Ok(None);
    }
    let assigned = live.iter().map(|(name, value)| {
        let number = one
            .columns
            .iter()
            .find(|column| column.name == *name)
            .map(|column| column.number);
        let kept = number.and_then(|number| one.kept_name(number));
        let (_, kept, _) = kept.ok_or_else(|| Failure::ColumnGone {
            column: name.0.clone(),
        })?;
        Ok((kept.clone(), value.clone()))
    });
    let assigned = assigned.collect::<Outcome<Vec<_>>>()?;
    Ok(Some(format!(
        "UPDATE {} AS a SET {} WHERE a.keepsake_deletion = $1",
        one.archive_name,
        join([adopt::assignments(&assigned)], "").trim_start_matches(", "),
    )))
}

impl Work<'_> {
    /// Deletes rows as one deletion, and records what is known of it.
    fn delete(&self, session: &mut Session<'_, '_>, rows: &[Row]) -> Outcome<()> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let table = &self.one.table;
        let places: Vec<RowId> = rows.iter().map(|row| row.place).collect();
        let sql = format!(
            "DELETE FROM {rows} AS t USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS m (part, place)
             WHERE t.ctid OPERATOR(pg_catalog.=) m.place AND t.tableoid OPERATOR(pg_catalog.=) m.part",
            rows = table.rows(),
        );
        let deletion = removal::alone(None, || {
            session
                .write_kept(table, &sql, &as_arguments(&places))
                .map(drop)
        })?;
        let Some(deletion) = deletion else {
            return Err(Failure::Prevented {
                table: table.shown.clone(),
            });
        };
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        self.record(session, deletion, first, count)?;
        if let Some(revive) = &self.revive {
            session.over_archives(table, revive, &[deletion.into()])?;
        }
        Ok(())
    }

    fn record(
        &self,
        session: &mut Session<'_, '_>,
        deletion: Uuid,
        row: &Row,
        count: i64,
    ) -> Outcome<()> {
        let table = &self.one.table;
        session.registry_kept(
            RECORD,
            &[
                deletion.into(),
                row.time.clone().into(),
                adopt::group_id(table, row).into(),
                (count == 1).into(),
                row.actor.clone().into(),
                row.tenant.clone().into(),
            ],
        )?;
        let others =
            session.registry_kept(OTHERS, &[deletion.into(), table.oid.into(), count.into()])?;
        if others.is_empty() {
            return self.refuse_let_go(session, deletion);
        }
        let other: Option<String> = others.first().get_one()?;
        let other = other.unwrap_or_default();
        if other == table.shown {
            return Err(Failure::CannotManage {
                table: other.clone(),
                why: "Rows of it that are not adopted, or that another deletion has, refer to adopted ones, and would go with them; or a trigger keeps rows.".into(),
                fix: format!(
                    "If all rows that refer to deleted ones are deleted, keep the table in place first, with adopt, and then move it: SELECT keepsake.manage('{other}', keep => 'archive')."
                ),
            });
        }
        Err(Failure::CannotManage {
            table: table.shown.clone(),
            why: format!(
                "Rows of {other} that are not adopted refer to adopted ones, and would go with them; or a trigger keeps rows."
            ),
            fix: format!(
                "Adopt the deleted rows of {other} first, and make its live rows refer to live ones. Drop triggers and rules that keep rows from a DELETE."
            ),
        })
    }

    /// Refuses if rows that are not adopted referred to adopted ones: SET NULL or SET DEFAULT has changed them.
    fn refuse_let_go(&self, session: &mut Session<'_, '_>, deletion: Uuid) -> Outcome<()> {
        let found = session.registry_kept(LET_GO, &[deletion.into()])?;
        if found.is_empty() {
            return Ok(());
        }
        let other = found.first().get_one::<String>()?.unwrap_or_default();
        Err(Failure::CannotManage {
            table: self.one.table.shown.clone(),
            why: format!(
                "Rows of {other} refer to adopted ones, and would refer to none: SET NULL or SET DEFAULT would change them."
            ),
            fix: format!(
                "Adopt the deleted rows of {other} first, and make its live rows refer to live ones or to none."
            ),
        })
    }
}
