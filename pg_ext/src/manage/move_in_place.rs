//! From `keep => 'archive'` to `keep => 'in place'`: archived rows go back to their table, as deleted ones.
//!
//! A row in place takes its keys, and its foreign keys need their parents. What has no room is refused.

use pgrx::pg_sys;

use crate::archive::{names, source, table};
use crate::graph::cache;
use crate::manage::{archived_table, bound_table, moving_tables, silent_write};
use crate::model::error::{Failure, Outcome};
use crate::model::reference::Kind;
use crate::model::sql::{Qualified, join};
use crate::model::table::Table;
use crate::postgres::settings::LocalSettings;
use crate::registry::description::describe;
use crate::restore_archived::archived_rows::Archived;
use crate::spi::session::{Session, first_cell};

/// Children of $1 with an archive.
const CHILDREN: &str = "
    SELECT DISTINCT m.relation::oid FROM pg_constraint con
    JOIN keepsake.managed_table m ON m.relation = coalesce(pg_partition_root(con.conrelid)::oid, con.conrelid) AND m.keep = 'archive'
    WHERE con.contype = 'f' AND con.confrelid = $1 AND con.conrelid <> $1
    UNION SELECT m.relation::oid FROM keepsake.declared_reference d JOIN keepsake.managed_table m ON m.relation = d.child AND m.keep = 'archive'
    WHERE d.parent = $1 AND d.child <> d.parent";
/// A child with an archive that does not move, and could not refer to a table in place.
const DECLARED_CHILD: &str = "
    SELECT min(d.child::text) FROM keepsake.declared_reference d JOIN keepsake.managed_table m ON m.relation = d.child AND m.keep = 'archive'
    WHERE d.parent = ANY ($1) AND d.child <> ALL ($1)";
/// A parent with an archive that does not move.
const PARENT: &str = "
    SELECT min(con.confrelid::regclass::text) FROM pg_constraint con JOIN keepsake.managed_table m
        ON m.relation = coalesce(pg_partition_root(con.confrelid)::oid, con.confrelid) AND m.keep = 'archive'
    WHERE con.contype = 'f' AND con.conrelid = ANY ($1) AND con.conparentid = 0 AND m.relation <> ALL ($1)";
const ELSEWHERE: &str = "
    SELECT min(o.relation::regclass::text) FROM keepsake.deletion_table t
    JOIN keepsake.deletion d ON d.id = t.deletion_id AND d.state IN ('deleted', 'purging')
    JOIN keepsake.deletion_table o ON o.deletion_id = d.id AND o.purged < o.row_count AND o.relation <> ALL ($1)
    JOIN keepsake.managed_table m ON m.relation = o.relation AND m.keep = 'archive'
    WHERE t.relation = ANY ($1) AND t.purged < t.row_count
      -- What hangs on archived rows by declared references alone can be in place.
      AND (d.root_table = ANY ($1) OR d.root_table NOT IN (SELECT relation FROM keepsake.managed_table WHERE keep = 'archive')
           OR EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = o.relation AND con.confrelid = ANY ($1)))";
/// A table that stays, where a deletion has rows of one and has replaced values of the other.
const LET_GO: &str = "
    SELECT min((CASE WHEN t.relation = ANY ($1) THEN u.relation::oid ELSE t.relation::oid END)::regclass::text)
    FROM keepsake.archive_undo u JOIN keepsake.deletion d ON d.id = u.deletion_id AND d.state IN ('deleted', 'purging')
    JOIN keepsake.deletion_table t ON t.deletion_id = d.id AND t.purged < t.row_count
    WHERE (t.relation = ANY ($1)) <> (u.relation = ANY ($1))
      AND EXISTS (SELECT FROM pg_constraint con
                  WHERE con.contype = 'f' AND con.conrelid = u.relation AND (con.confrelid = ANY ($1)) <> (u.relation = ANY ($1))
                    AND u.columns = ARRAY(SELECT a.attname::text FROM unnest(con.conkey) WITH ORDINALITY AS n (attnum, i)
                                          JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = n.attnum ORDER BY n.i))";
const DELETIONS: &str = "
    SELECT d.id, d.deleted_at::text AS at FROM keepsake.deletion d JOIN keepsake.deletion_table t ON t.deletion_id = d.id
    WHERE t.relation = $1 AND t.purged < t.row_count AND d.state IN ('deleted', 'purging')";
/// What SET NULL and SET DEFAULT replaced, as tables in place remember it.
const UNDO: &str = "
    WITH moved AS (DELETE FROM keepsake.archive_undo AS u WHERE u.relation = ANY ($1) RETURNING u.*)
    INSERT INTO keepsake.detached (deletion_id, relation, reference, columns, changed, key_columns, row_keys, old_values, new_values)
    SELECT u.deletion_id, u.relation, coalesce(f.name, ''), u.columns::name[], u.columns::name[], u.key_columns::name[],
           array_agg(to_jsonb(u.key_values)::text ORDER BY u.seq), array_agg(to_jsonb(u.old_values)::text ORDER BY u.seq),
           array_agg(to_jsonb(u.new_values)::text ORDER BY u.seq)
    FROM moved AS u
    CROSS JOIN LATERAL (SELECT min(con.conname) AS name FROM pg_constraint con
                        WHERE con.contype = 'f' AND con.conrelid = u.relation
                          AND u.columns = ARRAY(SELECT a.attname::text FROM unnest(con.conkey) WITH ORDINALITY AS n (attnum, i)
                                                JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = n.attnum ORDER BY n.i)) AS f
    GROUP BY u.deletion_id, u.relation, f.name, u.columns, u.key_columns";

/// A table that moves, with its archive.
struct Moved {
    one: Archived,
    archive: Qualified,
}

/// The tables that move: this one, and with `cascade` those with an archive that refer to it or to these.
pub fn closure(
    session: &Session<'_, '_>,
    oid: pg_sys::Oid,
    cascade: bool,
) -> Outcome<Vec<pg_sys::Oid>> {
    moving_tables::closure(session, oid, cascade, CHILDREN)
}

/// Moves these tables out of their archives. `manage` makes them tables in place.
pub fn in_place(
    session: &mut Session<'_, '_>,
    tables: &[pg_sys::Oid],
    mut manage: impl FnMut(&mut Session<'_, '_>, pg_sys::Oid) -> Outcome<()>,
) -> Outcome<()> {
    let mut moved = Vec::new();
    for oid in tables {
        moved.push(begin(session, *oid)?);
    }
    refuse_mixed(session, tables)?;
    for one in &moved {
        refuse_taken_keys(session, one)?;
        archived_table::drop_triggers(session, one.one.table.oid)?;
    }
    session.registry(
        "UPDATE keepsake.managed_table SET keep = 'in place' WHERE relation = ANY ($1)",
        &[tables.to_vec().into()],
    )?;
    for oid in tables {
        source::forget(*oid);
        cache::invalidate(*oid);
        manage(session, *oid)?;
    }
    for one in &moved {
        insert(session, one)?;
    }
    for one in &moved {
        refuse_lost_parents(session, one.one.table.oid)?;
    }
    session.registry(UNDO, &[tables.to_vec().into()])?;
    for one in &moved {
        table::drop_archive(session, one.one.archive)?;
        source::forget(one.one.table.oid);
        cache::invalidate(one.one.table.oid);
        bound_table::equip(session, one.one.table.oid)?;
    }
    Ok(())
}

/// Locks a table of the caller's and its archive.
fn begin(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Moved> {
    let found = describe(session, oid)?;
    found.check_safe(false)?;
    let mut read = Archived::read(session, &[oid])?;
    let Some(one) = read.pop() else {
        return Err(Failure::NotArchived { table: found.shown });
    };
    session.ddl(&format!(
        "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
        one.table.name
    ))?;
    silent_write::refuse_owner_code(session, oid, &one.table.shown)?;
    let archive = names::name_of(session, one.archive)?;
    // Nobody restores or purges meanwhile.
    session.registry(
        &format!("LOCK TABLE {archive} IN ACCESS EXCLUSIVE MODE"),
        &[],
    )?;
    let inconvertible = one.inconvertible();
    if let Some((column, _)) = inconvertible.first() {
        return Err(cannot(
            &one.table,
            format!(
                "Its archive has values of column {} in a type that the column's does not take.",
                column.name
            ),
        ));
    }
    Ok(Moved { one, archive })
}

fn cannot(table: &Table, why: String) -> Failure {
    Failure::CannotManage {
        table: table.shown.clone(),
        why,
        fix: "Restore or purge these rows first, or keep the archive.".into(),
    }
}

/// Refuses where a deletion would have rows of both kinds, or a deleted row in place would refer to an archived one.
fn refuse_mixed(session: &mut Session<'_, '_>, tables: &[pg_sys::Oid]) -> Outcome<()> {
    let Some(first) = tables.first() else {
        return Ok(());
    };
    let shown = describe(session, *first)?.shown;
    let other: Option<String> = first_cell(session.registry(PARENT, &[tables.to_vec().into()])?)?;
    if let Some(parent) = other {
        return Err(Failure::CannotManage {
            table: shown,
            why: format!(
                "It, or a table that goes with it, refers to {parent}, which has an archive: a DELETE there would be refused because of rows that nobody sees, or remove them for good."
            ),
            fix: format!(
                "Keep {parent} in place first, with what refers to it: SELECT keepsake.manage('{parent}', keep => 'in place', cascade => true)."
            ),
        });
    }
    let child: Option<String> =
        first_cell(session.registry(DECLARED_CHILD, &[tables.to_vec().into()])?)?;
    if let Some(child) = child {
        return Err(Failure::CannotManage {
            table: shown.clone(),
            why: format!(
                "Rows of {child}, which has an archive, refer to it by a declared reference, which can lead to a table with an archive alone."
            ),
            fix: format!(
                "Move both: SELECT keepsake.manage('{shown}', keep => 'in place', cascade => true)."
            ),
        });
    }
    let rows = first_cell(session.registry(ELSEWHERE, &[tables.to_vec().into()])?)?;
    let values = first_cell(session.registry(LET_GO, &[tables.to_vec().into()])?)?;
    let (other, why): (String, &str) = match (rows, values) {
        (Some(other), _) => (other, "A deletion has rows of it and of"),
        (None, Some(other)) => (
            other,
            "A deletion replaced values, by SET NULL or SET DEFAULT, in it or in",
        ),
        (None, None) => return Ok(()),
    };
    Err(Failure::CannotManage {
        table: shown.clone(),
        why: format!(
            "{why} {other}, which stays in its archive; no restore could bring back both at once."
        ),
        fix: format!(
            "Move both: SELECT keepsake.manage('{shown}', keep => 'in place', cascade => true) takes along the tables that refer to it. Or restore or purge these deletions."
        ),
    })
}

/// Refuses rows whose keys are taken, by a live row or by each other.
fn refuse_taken_keys(session: &mut Session<'_, '_>, moved: &Moved) -> Outcome<()> {
    let table = &moved.one.table;
    let same = table
        .key
        .iter()
        .map(|key| format!("t.{name} {} s.{name}", key.equals, name = key.name));
    let sql = format!(
        "WITH s AS MATERIALIZED ({archived})
         SELECT 1 WHERE EXISTS (SELECT FROM s JOIN {rows} AS t ON {same})
         OR EXISTS (SELECT FROM s GROUP BY {key} HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1)",
        archived = moved.one.source_of_all(),
        rows = table.rows(),
        same = join(same, " AND "),
        key = table.key_columns("s"),
    );
    if session.over_archives(table, &sql, &[])?.is_empty() {
        return Ok(());
    }
    Err(cannot(
        table,
        "Its archive has rows with the key of a live row, or several with one key. In place, a deleted row keeps its key to itself.".into(),
    ))
}

/// Writes the archived rows to the table, with their marks. No trigger is to see it: nothing is inserted.
fn insert(session: &mut Session<'_, '_>, moved: &Moved) -> Outcome<()> {
    let table = &moved.one.table;
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    for row in session.registry(DELETIONS, &[table.oid.into()])? {
        ids.push(row.get::<pgrx::Uuid>(1)?);
        times.push(row.get::<String>(2)?);
    }
    let columns: Vec<_> = moved
        .one
        .stored_columns()
        .map(|column| &column.name)
        .collect();
    let to = columns.iter().map(|column| format!("{column}, "));
    let from = columns.iter().map(|column| format!("s.{column}, "));
    let sql = format!(
        "INSERT INTO {name} ({to}deleted_at, deletion_id) OVERRIDING SYSTEM VALUE
         SELECT {from}d.at::pg_catalog.timestamptz, d.id FROM ({archived}) AS s
         JOIN ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS d (id, at) ON d.id OPERATOR(pg_catalog.=) s.keepsake_deletion",
        name = table.name,
        to = join(to, ""),
        from = join(from, ""),
        archived = moved.one.source_of_all(),
    );
    silent_write::refuse_owner_code(session, table.oid, &table.shown)?;
    {
        let _silent = LocalSettings::without_triggers();
        session.write_from_archive(table, &sql, &[ids.into(), times.into()])?;
    }
    let count = |from: String| format!("SELECT pg_catalog.count(*) FROM {from}");
    let there: Option<i64> = first_cell(session.as_owner(
        table,
        &count(format!(
            "{} AS t WHERE t.deletion_id IS NOT NULL",
            table.rows()
        )),
        &[],
    )?)?;
    let archived: Option<i64> =
        first_cell(session.registry(&count(moved.archive.to_string()), &[])?)?;
    if there == archived {
        return Ok(());
    }
    Err(cannot(
        table,
        "Its archive has rows of deletions that are not there any more.".into(),
    ))
}

/// Refuses rows whose parents are gone: a foreign key of theirs would be broken.
fn refuse_lost_parents(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let graph = cache::current(session)?;
    let table = graph.managed(session, oid)?;
    for (reference, parent) in graph.all_references_of(oid) {
        if reference.kind != Kind::ForeignKey {
            continue;
        }
        let sql = format!(
            "SELECT 1 FROM {rows} AS c WHERE c.deletion_id IS NOT NULL AND {set}
             AND NOT EXISTS (SELECT FROM {parents} AS p WHERE {joins}) LIMIT 1",
            rows = table.rows(),
            set = reference.is_set("c"),
            parents = parent.rows(),
            joins = reference.joins_by_parent_key("c", "p"),
        );
        if session.exists_now_beside(table, parent.oid, &sql, &[])? {
            return Err(cannot(
                table,
                format!(
                    "Archived rows refer by \"{}\" to rows of {} that are not there any more.",
                    reference.name, parent.shown
                ),
            ));
        }
    }
    Ok(())
}
