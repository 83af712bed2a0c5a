//! From `keep => 'in place'` to `keep => 'archive'`: the deleted rows of a table go to an archive, with their deletions.
//!
//! Deletions keep their ids, and with them their holds, retention and roots. All tables that have rows of a deletion
//! move together, but for those that hang on archived rows by declared references: what refers to an archive can stay in place.

use pgrx::datum::DatumWithOid;
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport, pg_sys};

use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::intercept::guard;
use crate::manage::archived_table::{self, Options};
use crate::manage::{drop_guards, hide, moving_tables, silent_write, triggers};
use crate::model::error::{Failure, Outcome};
use crate::model::sql::{Ident, join};
use crate::model::table::Table;
use crate::postgres::settings::LocalSettings;
use crate::registry::description::describe;
use crate::spi::session::{Session, first_cell, first_column};

/// Children of $1 in place, of which it cannot be without: they refer to it.
const CHILDREN: &str = "
    SELECT DISTINCT m.relation::oid FROM pg_constraint con
    JOIN keepsake.kept_in_place m ON m.relation = coalesce(pg_partition_root(con.conrelid)::oid, con.conrelid)
    WHERE con.contype = 'f' AND con.confrelid = $1 AND con.conrelid <> $1";
const ELSEWHERE: &str = "
    SELECT o.relation::oid, o.relation::regclass::text FROM keepsake.deletion_table t
    JOIN keepsake.deletion d ON d.id = t.deletion_id AND d.state IN ('deleted', 'purging')
    JOIN keepsake.deletion_table o ON o.deletion_id = d.id AND o.purged < o.row_count AND o.relation <> ALL ($1)
    JOIN keepsake.kept_in_place m ON m.relation = o.relation
    WHERE t.relation = ANY ($1) AND t.purged < t.row_count
      -- What hangs on archived rows by declared references alone can stay.
      AND (d.root_table <> ALL ($1) AND d.root_table IN (SELECT relation FROM keepsake.kept_in_place)
           OR EXISTS (SELECT FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid = o.relation AND con.confrelid = ANY ($1)))
    ORDER BY 2 LIMIT 1";
/// A parent in place that does not move, and to which a table with an archive could not refer.
const DECLARED_PARENT: &str = "
    SELECT min(d.parent::text) FROM keepsake.declared_reference d JOIN keepsake.kept_in_place m ON m.relation = d.parent
    WHERE d.child = ANY ($1) AND d.parent <> ALL ($1)";
/// What a soft delete does along a foreign key of these tables, where that is not what the key says: PostgreSQL does that.
const OVERRIDES: &str = "
    DELETE FROM keepsake.reference_override WHERE child = ANY ($1)
    RETURNING format('%s of table %s', reference, child)";
/// Indexes and exclusion constraints that read the marks, but for our own index. `plain`: they cover the live rows.
const INDEXES: &str = r"
    SELECT x.indexrelid::regclass::text AS shown, con.conname::text AS name,
           coalesce(pg_get_expr(x.indpred, x.indrelid) = '(deleted_at IS NULL)', false)
               AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey::int2[])
                               AND a.attname IN ('deleted_at', 'deletion_id')) AS plain,
           regexp_replace(coalesce(pg_get_constraintdef(con.oid), pg_get_indexdef(x.indexrelid)),
                          E'\\s+WHERE \\(+deleted_at IS NULL\\)+', '') AS definition
    FROM pg_index x LEFT JOIN pg_constraint con ON con.conindid = x.indexrelid AND con.contype = 'x'
    WHERE x.indrelid = $1
      AND pg_get_indexdef(x.indexrelid) ~ E'\\y(deleted_at|deletion_id)\\y'
      AND coalesce(pg_get_expr(x.indpred, x.indrelid), '') <> '(deletion_id IS NOT NULL)'
    ORDER BY 1";
/// What SET NULL and SET DEFAULT replaced, as an archive remembers it.
const UNDO: &str = "
    INSERT INTO keepsake.archive_undo (group_id, deletion_id, seq, relation, key_columns, columns, key_values, old_values, new_values)
    SELECT d.group_id, x.deletion_id, row_number() OVER (PARTITION BY x.deletion_id ORDER BY x.id, r.n), x.relation,
           x.key_columns::text[], x.columns::text[],
           ARRAY(SELECT r.key::jsonb ->> (k.n - 1)::int FROM unnest(x.key_columns) WITH ORDINALITY AS k (name, n) ORDER BY k.n),
           ARRAY(SELECT r.old::jsonb ->> (c.n - 1)::int FROM unnest(x.columns) WITH ORDINALITY AS c (name, n) ORDER BY c.n),
           ARRAY(SELECT CASE WHEN r.new IS NOT NULL THEN r.new::jsonb ->> (c.n - 1)::int
                             WHEN c.name <> ALL (x.changed) THEN r.old::jsonb ->> (c.n - 1)::int END
                 FROM unnest(x.columns) WITH ORDINALITY AS c (name, n) ORDER BY c.n)
    FROM moved AS x
    JOIN keepsake.deletion AS d ON d.id = x.deletion_id
    CROSS JOIN LATERAL unnest(x.row_keys, x.old_values, x.new_values) WITH ORDINALITY AS r (key, old, new, n)
    WHERE '' <> ALL (x.columns) AND '' <> ALL (x.key_columns)";
/// Of rows that stay in place, and had referred to others that do, it stays where it is.
const MOVED_UNDO: &str = "
    WITH moved AS (DELETE FROM keepsake.detached AS x USING keepsake.deletion_table AS t
                   WHERE t.deletion_id = x.deletion_id AND t.relation = ANY ($1) AND x.relation::oid = ANY ($1) RETURNING x.*)";

/// Moves a table to an archive; with `cascade`, the tables that refer to it as well.
pub fn to_archive(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    options: Options<'_>,
) -> Outcome<()> {
    let tables = moving_tables::closure(session, oid, options.cascade, CHILDREN)?;
    for table in &tables {
        check(session, *table)?;
    }
    refuse_declared_parent(session, oid, &tables)?;
    refuse_mixed(session, oid, &tables)?;
    drop_overrides(session, &tables)?;
    let graph = cache::current(session)?;
    let moving: Vec<&Table> = tables
        .iter()
        .map(|oid| graph.managed(session, *oid))
        .collect::<Outcome<_>>()?;
    for table in &moving {
        refuse_referrers(session, &graph, table)?;
        hide::undo(session, table)?;
    }
    let mut indexes = Vec::new();
    for table in &moving {
        indexes.push(live_indexes(session, table)?);
        copy(session, table)?;
    }
    session.registry(&format!("{MOVED_UNDO}{UNDO}"), &[tables.clone().into()])?;
    for table in &moving {
        remove(session, table)?;
    }
    for (table, indexes) in moving.iter().zip(indexes) {
        unmark(session, table, &indexes)?;
    }
    drop_guards::drop_needless_guards(session)?;
    // Children first: a table in place may not refer to one with an archive.
    tables.iter().rev().try_for_each(|table| {
        let given = if *table == oid {
            options
        } else {
            options.of_a_child()
        };
        archived_table::take_on(session, *table, given)
    })
}

/// Locks a table of the caller's, and refuses one that an archive cannot have as it is.
fn check(session: &mut Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<()> {
    let found = describe(session, oid)?;
    found.check_owned()?;
    let name = cache::current(session)?
        .managed(session, oid)?
        .name
        .to_string();
    session.ddl(&format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))?;
    silent_write::refuse_owner_code(session, oid, &found.shown)
}

/// Refuses where rows with an archive would refer by a declared reference to a table in place.
fn refuse_declared_parent(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    tables: &[pg_sys::Oid],
) -> Outcome<()> {
    let parent: Option<String> =
        first_cell(session.registry(DECLARED_PARENT, &[tables.to_vec().into()])?)?;
    let Some(parent) = parent else {
        return Ok(());
    };
    Err(Failure::CannotManage {
        table: describe(session, oid)?.shown,
        why: format!(
            "Its rows, or those of a table that goes with it, refer to {parent} by a declared reference, which can lead from an archive to a table with an archive alone."
        ),
        fix: format!("Move that first: SELECT keepsake.manage('{parent}', keep => 'archive')."),
    })
}

/// Forgets what soft deletes do along the foreign keys of these tables instead of what the keys say, and tells which.
fn drop_overrides(session: &mut Session<'_, '_>, tables: &[pg_sys::Oid]) -> Outcome<()> {
    let dropped: Vec<String> =
        first_column(session.registry(OVERRIDES, &[tables.to_vec().into()])?)?;
    for key in dropped {
        ereport!(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("foreign key {key} is no longer overridden"),
            "From a table with an archive, PostgreSQL itself deletes, as the key's ON DELETE says. Change the key if that is not what you want."
        );
    }
    for table in tables {
        cache::invalidate(*table);
    }
    Ok(())
}

/// Refuses where a deletion would have rows of both kinds.
fn refuse_mixed(
    session: &mut Session<'_, '_>,
    oid: pg_sys::Oid,
    tables: &[pg_sys::Oid],
) -> Outcome<()> {
    let Some(row) = session
        .registry(ELSEWHERE, &[tables.to_vec().into()])?
        .next()
    else {
        return Ok(());
    };
    let (Some(other_oid), Some(other)) = (row.get::<pg_sys::Oid>(1)?, row.get::<String>(2)?) else {
        return Ok(());
    };
    let shown = describe(session, oid)?.shown;
    let below = moving_tables::closure(session, oid, true, CHILDREN)?;
    let (first, moving) = if below.contains(&other_oid) {
        (&shown, below)
    } else {
        let moving = moving_tables::closure(session, other_oid, true, CHILDREN)?;
        (&other, moving)
    };
    let parent: Option<String> = first_cell(session.registry(DECLARED_PARENT, &[moving.into()])?)?;
    Err(Failure::CannotManage {
        table: shown.clone(),
        why: format!(
            "A deletion has rows of it and of {other}, which stays in place; no restore could bring back both at once."
        ),
        fix: if parent.is_some() {
            "Restore or purge these deletions first.".into()
        } else {
            format!(
                "Move both: SELECT keepsake.manage('{first}', keep => 'archive', cascade => true) takes along the tables that refer to {first}. Or restore or purge these deletions."
            )
        },
    })
}

/// Refuses if a row refers to a deleted one: nothing is left that it could refer to.
fn refuse_referrers(session: &mut Session<'_, '_>, graph: &Graph, table: &Table) -> Outcome<()> {
    for (_, child) in graph.references_to(table.oid) {
        guard::check_existing(session, graph, child.oid).map_err(|failure| match failure {
            Failure::DeadParent { child, parent, reference, .. } => Failure::CannotManage {
                table: table.shown.clone(),
                why: format!("Rows of {child} refer to deleted rows of {parent} by \"{reference}\", which would go."),
                fix: "Make them refer to live rows or to none.".into(),
            },
            other => other,
        })?;
    }
    Ok(())
}

/// An index that covers live rows alone, and how it is made to cover all.
struct LiveIndex {
    definition: String,
    /// The name, of a constraint.
    constraint: Option<Ident>,
}

/// The indexes that read the marks, which go with them.
fn live_indexes(session: &mut Session<'_, '_>, table: &Table) -> Outcome<Vec<LiveIndex>> {
    let mut indexes = Vec::new();
    for row in session.catalog_now(INDEXES, &[table.oid.into()])? {
        let text = |name: &str| -> Outcome<Option<String>> { Ok(row.get_by_name(name)?) };
        if row.get_by_name("plain")? != Some(true) {
            return Err(Failure::CannotManage {
                table: table.shown.clone(),
                why: format!(
                    "The index {} reads deleted_at or deletion_id, which the table does not have any more when it has an archive.",
                    text("shown")?.unwrap_or_default()
                ),
                fix: "Drop the index, or create it again without these columns afterwards.".into(),
            });
        }
        indexes.push(LiveIndex {
            definition: text("definition")?.unwrap_or_default(),
            constraint: text("name")?.map(Ident),
        });
    }
    Ok(indexes)
}

/// Copies the deleted rows to a new archive. What the planner runs of the table's indexes runs as its owner.
fn copy(session: &mut Session<'_, '_>, moved: &Table) -> Outcome<()> {
    let made = archived_table::make_archive(session, moved.oid)?;
    let archived_table::Made {
        archive,
        layout,
        columns,
    } = made;
    let to = columns.iter().map(|(_, kept)| format!(", {kept}"));
    let from = columns.iter().map(|(column, _)| format!(", t.{column}"));
    let sql = format!(
        "INSERT INTO {archive} (keepsake_deletion, keepsake_seq, keepsake_layout{to})
         SELECT t.deletion_id, CAST(pg_catalog.row_number() OVER (PARTITION BY t.deletion_id) AS pg_catalog.int4), {layout}{from}
         FROM {rows} AS t WHERE t.deletion_id IS NOT NULL ORDER BY t.deletion_id",
        to = join(to, ""),
        from = join(from, ""),
        rows = moved.rows(),
    );
    session.over_archives(moved, &sql, &[])?;
    Ok(())
}

/// Removes the deleted rows. No trigger is to see it: nothing is deleted, and nothing refers to the rows.
fn remove(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    let no_args: &[DatumWithOid<'_>] = &[];
    silent_write::refuse_owner_code(session, table.oid, &table.shown)?;
    let _silent = LocalSettings::without_triggers();
    let delete = format!(
        "DELETE FROM {} AS t WHERE t.deletion_id IS NOT NULL",
        table.rows()
    );
    session.write(table, &delete, no_args)?;
    let left = format!(
        "SELECT 1 FROM {} AS t WHERE t.deletion_id IS NOT NULL LIMIT 1",
        table.rows()
    );
    if session.as_owner(table, &left, no_args)?.is_empty() {
        return Ok(());
    }
    Err(Failure::Prevented {
        table: table.shown.clone(),
    })
}

/// Takes from a table what it has because its rows were kept in place.
fn unmark(session: &mut Session<'_, '_>, table: &Table, indexes: &[LiveIndex]) -> Outcome<()> {
    triggers::drop_all(session, table)?;
    // First: the event trigger then guards the references that it may still have to tables in place.
    session.registry(
        "UPDATE keepsake.managed_table SET keep = 'archive', on_delete = 'convert' WHERE relation = $1",
        &[table.oid.into()],
    )?;
    cache::invalidate(table.oid);
    let name = &table.name;
    for index in indexes {
        if let Some(constraint) = &index.constraint {
            session.ddl(&format!("ALTER TABLE {name} DROP CONSTRAINT {constraint}"))?;
        }
    }
    session.ddl(&format!(
        "ALTER TABLE {name} DROP COLUMN deleted_at, DROP COLUMN deletion_id"
    ))?;
    for index in indexes {
        match &index.constraint {
            Some(constraint) => session.ddl(&format!(
                "ALTER TABLE {name} ADD CONSTRAINT {constraint} {}",
                index.definition
            ))?,
            None => session.ddl(&index.definition)?,
        }
    }
    Ok(())
}
