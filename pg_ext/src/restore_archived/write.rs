//! Writes a restore: rows into their tables and out of the archive, and the registry's account of it.

use std::collections::{BTreeSet, HashMap};

use pgrx::{PgSqlErrorCode, Uuid, pg_sys};
use serde_json::{Value, json};

use crate::access::caller::Caller;
use crate::access::trust::is_trusted;
use crate::archive::objects;
use crate::model::conflict::Conflict;
use crate::model::error::{Failure, Outcome};
use crate::model::on_conflict::OnConflict;
use crate::model::row_id::{RowId, is_among};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::restore_archived::archived_rows::{Archived, Rows, one_of};
use crate::restore_archived::foreign_keys;
use crate::restore_archived::insert::Level;
use crate::restore_archived::plan::{ByTable, Plan};
use crate::restore_archived::restoring::restoring;
use crate::restore_archived::rights;
use crate::restore_archived::row_choice::Set;
use crate::restore_archived::undo;
use crate::restore_archived::written_table::Target;
use crate::run_as::role;
use crate::spi::session::Session;

/// What a restore did.
#[derive(Debug, Default)]
pub struct Report {
    restored: Vec<Value>,
    passed: Vec<Value>,
    skipped: Vec<Value>,
    superseded: Vec<Value>,
    /// The deletions that rows left.
    pub from: Vec<Uuid>,
}

impl Report {
    /// As the caller gets it.
    pub fn into_json(
        self,
        deletion: Uuid,
        on_conflict: OnConflict,
        conflicts: &[Conflict],
    ) -> Value {
        let mut answer = json!({
            "deletion_id": deletion.to_string(), "restored": self.restored, "passed": self.passed,
        });
        if !self.superseded.is_empty() {
            answer["superseded"] = self.superseded.into();
        }
        if on_conflict == OnConflict::Skip {
            answer["skipped"] = self.skipped.into();
            answer["conflicts"] = Conflict::to_json(conflicts);
        }
        answer
    }
}

fn line(table: &str, rows: usize) -> Option<Value> {
    (rows > 0).then(|| json!({ "table": table, "rows": rows }))
}

/// Rows with their tables, in the order of the tables.
fn by_table<'a>(
    plan: &'a Plan,
    rows: &'a ByTable,
) -> impl Iterator<Item = (&'a Archived, &'a BTreeSet<RowId>)> {
    let tables = plan.work.tables.iter();
    tables.filter_map(|one| Some((one, rows.get(&one.table.oid)?)))
}

fn lines(plan: &Plan, rows: &ByTable) -> Vec<Value> {
    by_table(plan, rows)
        .filter_map(|(one, rows)| line(&one.table.shown, rows.len()))
        .collect()
}

/// How many rows left each deletion, by table.
type Taken = HashMap<Uuid, HashMap<pg_sys::Oid, i64>>;

/// Carries the plan out. To be called in a subtransaction: when it fails, all that it did must be undone.
pub fn write(session: &mut Session<'_, '_>, plan: &Plan) -> Outcome<Report> {
    let mut report = Report {
        skipped: lines(plan, &plan.skipped),
        ..Report::default()
    };
    if plan.nothing {
        return Ok(report);
    }
    let id = plan.work.deletion.id;
    let _restoring = restoring(id);
    for key in &plan.work.keys {
        if let Some((child, rows)) = rows_of(plan, key.reference.child) {
            key.lock_parents(session, child, &rows)?;
        }
    }
    let targets = targets(session, plan)?;
    let mut groups = Vec::new();
    for (owner, targets) in &targets {
        groups.push(fill(session, plan, *owner, targets)?);
    }
    check_parents(session, plan)?;
    check_rights(session, plan)?;
    undo::put_back(session, (&plan.work.tables, &plan.set))?;
    let mut taken = Taken::new();
    for group in &groups {
        for (table, written) in &group.written {
            let Some((one, rows)) = rows_of(plan, *table) else {
                continue;
            };
            objects::claim(session, one.archive, &join(rows.conditions("t"), " OR "))?;
            let removed = remove(session, one, &rows, &mut taken)?;
            if removed != *written {
                return Err(Failure::RegistryMoved);
            }
            report.restored.extend(line(
                &one.table.shown,
                usize::try_from(removed).unwrap_or(0),
            ));
        }
    }
    for (one, rows) in by_table(plan, &plan.superseded) {
        let dropped = Rows {
            also: rows.clone(),
            ..Rows::default()
        };
        let going = join(dropped.conditions("t"), " OR ");
        objects::give_up(session, (one.archive, one.table.oid), &going)?;
        remove(session, one, &dropped, &mut taken)?;
    }
    report.superseded = lines(plan, &plan.superseded);
    pass_on(session, plan, &mut taken, &mut report)?;
    settle(session, &taken)?;
    report.from = taken.keys().copied().collect();
    // Last opened, first closed: levels of the trigger queue are a stack.
    while let Some(group) = groups.pop() {
        session.while_owner(group.owned.as_ref(), |_| {
            group.level.end();
            Ok(())
        })?;
    }
    Ok(report)
}

fn rows_of(plan: &Plan, table: pg_sys::Oid) -> Option<(&Archived, Rows)> {
    let one = plan.work.tables.iter().find(|one| one.table.oid == table)?;
    let rows = plan.set.rows(table);
    (!rows.is_empty()).then_some((one, rows))
}

/// The tables to be written. For a caller who has every right they are put together by owner: what an owner wrote must run
/// as him. Any other caller runs it himself, as in an INSERT of his, unless he has named no table of the owner.
fn targets(
    session: &mut Session<'_, '_>,
    plan: &Plan,
) -> Outcome<Vec<(Option<pg_sys::Oid>, Vec<Target>)>> {
    // Their own rights are no measure: then the code of a table's owner runs as him.
    let by_owner = role::is_superuser();
    let mut groups: Vec<(Option<pg_sys::Oid>, Vec<Target>)> = Vec::new();
    for one in &plan.work.tables {
        if plan.set.rows(one.table.oid).is_empty() {
            continue;
        }
        let target = Target {
            oid: one.table.oid,
            shown: one.table.shown.clone(),
            fires: one.fires,
            unguarded: !plan.work.returning.is_empty(),
            checked: foreign_keys::checked(&plan.work.keys, one.table.oid),
            columns: one.stored_columns().map(|column| column.number).collect(),
        };
        let as_owner = by_owner || !is_trusted(session, &one.table)?;
        let owner = as_owner.then_some(one.table.owner);
        match groups.iter_mut().find(|(of, _)| *of == owner) {
            Some((_, targets)) => targets.push(target),
            None => groups.push((owner, vec![target])),
        }
    }
    Ok(groups)
}

/// Tables that are written as one role.
struct Group<'targets> {
    /// One of them, where that is their owner.
    owned: Option<Table>,
    level: Level<'targets>,
    written: Vec<(pg_sys::Oid, i64)>,
}

fn fill<'targets>(
    session: &mut Session<'_, '_>,
    plan: &Plan,
    owner: Option<pg_sys::Oid>,
    targets: &'targets [Target],
) -> Outcome<Group<'targets>> {
    let first = targets.first().and_then(|target| rows_of(plan, target.oid));
    let owned = owner.and(first).map(|(one, _)| one.table.clone());
    let (level, written) = session.while_owner(owned.as_ref(), |session| {
        let mut level = Level::begin(targets)?;
        let mut written = Vec::new();
        for (place, target) in targets.iter().enumerate() {
            if let Some((one, rows)) = rows_of(plan, target.oid) {
                let count = level.fill(session, place, &one.to_store(&rows))?;
                written.push((target.oid, i64::try_from(count).unwrap_or(i64::MAX)));
            }
        }
        Ok((level, written))
    })?;
    Ok(Group {
        owned,
        level,
        written,
    })
}

fn check_parents(session: &mut Session<'_, '_>, plan: &Plan) -> Outcome<()> {
    for key in &plan.work.keys {
        let Some((child, rows)) = rows_of(plan, key.reference.child) else {
            continue;
        };
        if key.lacks_parents(session, child, &rows)? {
            return Err(Failure::RestoreConflicts {
                conflicts: vec![Conflict::from_error(
                    PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION,
                    child.table.shown.clone(),
                    Some(key.reference.name.clone()),
                )],
            });
        }
    }
    Ok(())
}

/// A row that the caller may not see is not there for him, and so is its deletion.
fn check_rights(session: &mut Session<'_, '_>, plan: &Plan) -> Outcome<()> {
    for one in &plan.work.tables {
        let mut roots = plan.work.roots.rows(one.table.oid);
        for gone in [&plan.skipped, &plan.superseded] {
            for row in gone.get(&one.table.oid).into_iter().flatten() {
                roots.remove(*row);
            }
        }
        for held in plan.held.values() {
            for row in held.get(&one.table.oid).into_iter().flatten() {
                roots.remove(*row);
            }
        }
        if !roots.is_empty() && !rights::passes_live(session, one, &roots)? {
            return Err(Failure::DeletionNotFound {
                deletion: plan.work.deletion.id.to_string(),
            });
        }
    }
    Ok(())
}

/// Removes rows from the archive; answers with how many, and notes whose they were.
fn remove(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    taken: &mut Taken,
) -> Outcome<i64> {
    let mut removed = 0;
    let mut note = |deletion: Uuid, count: i64| {
        removed += count;
        *taken
            .entry(deletion)
            .or_default()
            .entry(one.table.oid)
            .or_default() += count;
    };
    for deletion in &rows.deletions {
        let without = if rows.without.is_empty() {
            String::new()
        } else {
            format!(" AND NOT {}", is_among(&rows.without, "a"))
        };
        let sql = format!(
            "DELETE FROM {} AS a WHERE a.keepsake_deletion {}{without}",
            one.archive_name,
            one_of(&[*deletion])
        );
        let count = session.write_archive(&sql, &[])?.len();
        note(*deletion, i64::try_from(count).unwrap_or(i64::MAX));
    }
    if !rows.also.is_empty() {
        let sql = format!(
            "WITH gone AS (DELETE FROM {} AS a WHERE {} RETURNING a.keepsake_deletion)
             SELECT keepsake_deletion, pg_catalog.count(*) FROM gone GROUP BY 1",
            one.archive_name,
            is_among(&rows.also, "a")
        );
        for row in session.write_archive(&sql, &[])? {
            if let (Some(deletion), Some(count)) = (row.get::<Uuid>(1)?, row.get::<i64>(2)?) {
                note(deletion, count);
            }
        }
    }
    Ok(removed)
}

/// Gives the held rows to the deletions that hold them.
fn pass_on(
    session: &mut Session<'_, '_>,
    plan: &Plan,
    taken: &mut Taken,
    report: &mut Report,
) -> Outcome<()> {
    for (holder, tables) in &plan.held {
        undo::pass_on(session, (&plan.work.tables, &Set::of_rows(tables)), *holder)?;
        for (one, rows) in by_table(plan, tables) {
            let table = one.table.oid;
            let sql = format!(
                "WITH passed AS (
                     UPDATE {archive} AS a SET keepsake_deletion = $1 FROM {archive} AS b
                     WHERE {among} AND b.ctid OPERATOR(pg_catalog.=) a.ctid AND b.tableoid OPERATOR(pg_catalog.=) a.tableoid
                     RETURNING b.keepsake_deletion)
                 SELECT keepsake_deletion, pg_catalog.count(*) FROM passed GROUP BY 1",
                archive = one.archive_name,
                among = is_among(rows, "a"),
            );
            let (mut count, mut given) = (0, Vec::new());
            for row in session.write_archive(&sql, &[(*holder).into()])? {
                if let (Some(deletion), Some(rows)) = (row.get::<Uuid>(1)?, row.get::<i64>(2)?) {
                    count += rows;
                    given.push((deletion, rows));
                }
            }
            for (deletion, rows) in given {
                taken.entry(deletion).or_default();
                session.registry_of_few(
                    "UPDATE keepsake.deletion_table SET row_count = row_count - $3 WHERE deletion_id = $1 AND relation = $2",
                    &[deletion.into(), table.into(), rows.into()],
                )?;
            }
            session.registry_of_few(
                "INSERT INTO keepsake.deletion_table (deletion_id, relation, row_count) VALUES ($1, $2, $3)
                 ON CONFLICT (deletion_id, relation) DO UPDATE SET row_count = deletion_table.row_count + $3",
                &[(*holder).into(), table.into(), count.into()],
            )?;
            report.passed.push(json!({
                "table": one.table.shown, "rows": count, "deletion_id": holder.to_string()
            }));
        }
    }
    Ok(())
}

/// Writes down what became of the deletions: restored, or what is left of them.
fn settle(session: &mut Session<'_, '_>, taken: &Taken) -> Outcome<()> {
    let caller = Caller::of(session)?;
    for (deletion, tables) in taken {
        let mut left = 0;
        for row in session.registry_of_few(
            "SELECT relation::oid, row_count - purged FROM keepsake.deletion_table WHERE deletion_id = $1",
            &[(*deletion).into()],
        )? {
            let (relation, rows): (Option<pg_sys::Oid>, Option<i64>) = (row.get(1)?, row.get(2)?);
            let gone = relation.and_then(|relation| tables.get(&relation)).copied().unwrap_or(0);
            left += rows.unwrap_or(0) - gone;
        }
        if left == 0 {
            session.registry_of_few(
                "UPDATE keepsake.deletion SET state = 'restored', settled_at = now(),
                     settled_role = $2::text::name, settled_session_role = $3::text::name WHERE id = $1",
                &[
                    (*deletion).into(),
                    caller.role.as_str().into(),
                    caller.session_role.as_str().into(),
                ],
            )?;
            session.registry_of_few(
                "DELETE FROM keepsake.archive_undo WHERE deletion_id = $1",
                &[(*deletion).into()],
            )?;
            continue;
        }
        for (table, rows) in tables {
            session.registry_of_few(
                "UPDATE keepsake.deletion_table SET row_count = row_count - $3 WHERE deletion_id = $1 AND relation = $2",
                &[(*deletion).into(), (*table).into(), (*rows).into()],
            )?;
        }
    }
    Ok(())
}
