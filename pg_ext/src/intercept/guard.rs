//! The triggers of managed tables and of tables that refer to them.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};

use crate::call::trigger_call::{
    AfterInsertedRows, AfterUpdate, AfterUpdatedRows, Answer, BeforeInsert, BeforeTruncate,
    BeforeUpdate, Call, NewRows, Updated,
};
use crate::call::trigger_row::Row;
use crate::delete::restrict;
use crate::graph::cache;
use crate::graph::reference_graph::Graph;
use crate::hold::in_force;
use crate::intercept::lost_guards::is_loaded_partition;
use crate::intercept::parent_probe;
use crate::model::error::{Failure, Outcome};
use crate::model::reference::{Kind, Reference};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::postgres::table_triggers::{name, triggers};
use crate::registry::deletion_group;
use crate::run_as::engine_write::EngineWrite;
use crate::spi::session::{Session, with_session};

/// BEFORE TRUNCATE: refused, whoever asks. What was a partition has lost its row triggers, and is a table like any other.
#[pg_extern]
fn refuse_truncate(call: Call<'_, BeforeTruncate>) -> Result<Answer<'_>, ErrorReport> {
    let marks = |trigger: &pg_sys::Trigger| name(trigger) == c"keepsake_protect_state";
    let was_partition = !triggers(call.opened()).iter().any(marks);
    if was_partition && cache::known()?.managed_or_root(call.relation).is_none() {
        return Ok(Answer::nothing());
    }
    Err(Failure::Truncate {
        table: call.table(),
    }
    .into())
}

/// BEFORE INSERT of a row that is marked already.
#[pg_extern]
fn refuse_marked(call: Call<'_, BeforeInsert>) -> Result<Answer<'_>, ErrorReport> {
    if !is_loaded_partition(call.opened()) {
        only_the_engine(call.relation)?;
    }
    Ok(Answer::row(call.rows.new))
}

/// BEFORE UPDATE of a row's key, by which its deletion and its holds know it: refused while it is
/// deleted or held.
#[pg_extern]
fn keep_row_key(call: Call<'_, BeforeUpdate>) -> Result<Answer<'_>, ErrorReport> {
    let Updated { old, new } = call.rows;
    if has_same_key(&call) {
        return Ok(Answer::row(new));
    }
    let graph = cache::known()?;
    let Some(table) = graph.managed_or_root(call.relation) else {
        return Ok(Answer::row(new));
    };
    with_session(|session| -> Outcome<()> {
        table.check_marks()?;
        if old.deletion().is_some() {
            only_the_engine(call.relation)?;
        }
        in_force::refuse_if_held(session, table, old)
    })?;
    Ok(Answer::row(new))
}

/// BEFORE UPDATE of the key of a row of a table with an archive: refused while it is held. The hold would stay behind, and the row could be purged.
#[pg_extern]
fn keep_held_key(call: Call<'_, BeforeUpdate>) -> Result<Answer<'_>, ErrorReport> {
    if !has_same_key(&call) {
        with_session(|session| -> Outcome<()> {
            for table in in_force::tables_with_held_rows(session, call.relation)? {
                in_force::refuse_if_held(session, &table, call.rows.old)?;
            }
            Ok(())
        })?;
    }
    Ok(Answer::row(call.rows.new))
}

/// AFTER INSERT, once a statement: no new row may refer to a deleted one. Runs after the foreign
/// key's own check, which has waited for whoever was deleting the parent.
#[pg_extern]
fn guard_insert(call: Call<'_, AfterInsertedRows>) -> Result<Answer<'_>, ErrorReport> {
    let row = call.rows.only();
    let is_probed = match row {
        Some(row) => parent_probe::refers_to_live(call.opened(), row)?,
        None => false,
    };
    if !is_probed {
        let uses = |reference: &Reference| row.is_none_or(|row| may_use(row, reference));
        guard_new_rows(call.relation, &call.rows, &[], uses)?;
    }
    Ok(Answer::nothing())
}

/// Whether a row may use a reference at all: no column of it is NULL, and one that was declared is for its type. Where a collation decides which
/// types are equal, it may.
fn may_use(row: Row<'_>, reference: &Reference) -> bool {
    if reference.lost {
        return true;
    }
    let is_other = match &reference.kind {
        Kind::Declared {
            type_column,
            type_value,
        } => row
            .text_by_bytes(&type_column.0)
            .is_some_and(|found| found.as_ref() != Some(type_value)),
        Kind::ForeignKey => false,
    };
    !is_other
        && !reference
            .pairs
            .iter()
            .any(|pair| row.is_null(&pair.child.0))
}

fn dead_parent(reference: &Reference, child: &Table, parent: &Table) -> Failure {
    Failure::DeadParent {
        child: child.shown.clone(),
        parent: parent.shown.clone(),
        reference: reference.name.clone(),
        constraint: reference.constraint_of(child),
    }
}

/// AFTER UPDATE of a partitioned table, once a statement: the same for its new rows, some of which may have moved to
/// another partition. Such a row fires no UPDATE trigger of its own. Most have not moved, and may refer to what the same statement deletes:
/// its deletion is yet to let go of them.
#[pg_extern]
fn guard_moved(call: Call<'_, AfterUpdatedRows>) -> Result<Answer<'_>, ErrorReport> {
    guard_new_rows(call.relation, &call.rows, &deletion_group::begun(), |_| {
        true
    })?;
    Ok(Answer::nothing())
}

fn guard_new_rows(
    child: pg_sys::Oid,
    rows: &NewRows<'_>,
    begun: &[Uuid],
    uses: impl Fn(&Reference) -> bool,
) -> Outcome<()> {
    with_session(|session| {
        let graph = cache::current(session)?;
        // The engine looks at the rows that it writes, or moves to another partition, itself.
        if graph
            .table_or_root(child)
            .is_some_and(|table| EngineWrite::is_to(table.oid))
        {
            return Ok(());
        }
        session.register_transition_table(rows)?;
        let rows = Checked::Given(NewRows::NAME, &[]);
        check_references_of(session, &graph, child, (&rows, Some(begun)), uses)
    })
}

/// AFTER UPDATE of a referring column: the row may not have moved under a deleted parent; and a deleted
/// row not while it is restored, when its parents have been looked at already.
#[pg_extern]
fn guard_update(call: Call<'_, AfterUpdate>) -> Result<Answer<'_>, ErrorReport> {
    if parent_probe::still_refers_to_live(call.opened(), &call.rows)? {
        return Ok(Answer::nothing());
    }
    let graph = cache::known()?;
    if let Some(table) = graph.table_or_root(call.relation)
        && graph
            .guarded_references_of(table.oid)
            .any(|(reference, _)| is_moved(&call.rows, reference))
    {
        with_session(|session| guard_updated(session, &call, &graph, table))?;
    }
    Ok(Answer::nothing())
}

/// AFTER UPDATE that marks a row, as a constraint trigger that is deferred: whether NO ACTION of a deferred foreign key allows it.
#[pg_extern]
fn check_deferred(call: Call<'_, AfterUpdate>) -> Result<Answer<'_>, ErrorReport> {
    let graph = cache::known()?;
    if let Some(table) = graph.managed_or_root(call.relation) {
        let row = call.rows.new;
        let key: Vec<_> = table
            .key
            .iter()
            .map(|column| row.argument(&column.name.0))
            .collect::<Result<_, _>>()?;
        with_session(|session| restrict::refuse_at_commit(session, &graph, table, &key))?;
    }
    Ok(Answer::nothing())
}

/// Whether a column of the reference has changed, by so much as a bit.
fn is_moved(rows: &Updated<'_>, reference: &Reference) -> bool {
    let columns = reference.child_columns();
    columns
        .into_iter()
        .any(|column| !rows.old.has_same(rows.new, &column.0))
}

fn guard_updated(
    session: &mut Session<'_, '_>,
    call: &Call<'_, AfterUpdate>,
    graph: &Graph,
    table: &Table,
) -> Outcome<()> {
    let child = call.relation;
    let Updated { old, new } = call.rows;
    // What the engine itself makes a row refer to, it has looked at; not at what else a column
    // of several references makes it refer to. What it has not changed yet, it may be about to.
    let by_engine = EngineWrite::is_to(table.oid);
    if by_engine && !graph.shares_columns(table) {
        return Ok(());
    }
    if table.managed
        && !by_engine
        && let Some(deletion) = old.deletion()
    {
        return keep_unresolved(session, table, deletion);
    }
    let (source, values) = as_source(new, table)?;
    let rows = Checked::Given(&source, &values);
    check_references_of(session, graph, child, (&rows, Some(&[])), |reference| {
        !by_engine || is_moved(&call.rows, reference)
    })
}

/// Keeps a deletion as it is until the transaction ends: a restore or purge of it waits. One that is
/// under way would wait for our row, so it is not waited for.
pub fn keep_unresolved(
    session: &mut Session<'_, '_>,
    table: &Table,
    deletion: Uuid,
) -> Outcome<()> {
    let settling: Option<bool> = session
        .registry_kept(
            "SELECT EXISTS (SELECT FROM keepsake.deletion WHERE id = $1) AND NOT EXISTS (
                 SELECT FROM keepsake.deletion WHERE id = $1 FOR KEY SHARE SKIP LOCKED)",
            &[deletion.into()],
        )?
        .first()
        .get_one()?;
    if settling == Some(true) {
        return Err(Failure::Settling {
            table: table.shown.clone(),
        });
    }
    Ok(())
}

/// Refuses when the row refers to a deleted one.
pub fn refuse_dead_parent(
    session: &mut Session<'_, '_>,
    table: &Table,
    row: Row<'_>,
) -> Outcome<()> {
    let (source, values) = as_source(row, table)?;
    let graph = cache::current(session)?;
    let rows = Checked::Given(&source, &values);
    check_references_of(session, &graph, table.oid, (&rows, None), |_| true)
}

/// Refuses when rows already in `child` would have failed the guard.
pub fn check_existing(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    child: pg_sys::Oid,
) -> Outcome<()> {
    let Some(table) = graph.table(child) else {
        return Ok(());
    };
    let rows = Checked::Existing(table.rows());
    check_references_of(session, graph, child, (&rows, None), |_| true)
}

/// Refuses to let the row of a BEFORE DELETE trigger go for good while another row, live or deleted,
/// refers to it by a declared reference, as a foreign key that restricts would. Whoever makes a row
/// refer to it locks it first, as the DELETE did before it fired the trigger.
pub fn refuse_if_declared(
    session: &mut Session<'_, '_>,
    table: &Table,
    row: Row<'_>,
) -> Outcome<()> {
    let graph = cache::current(session)?;
    let declared = graph
        .references_to(table.oid)
        .filter(|(reference, _)| reference.is_declared());
    for (reference, child) in declared {
        reference.check_readable(child, table)?;
        let mut values = Vec::with_capacity(table.key.len());
        let (mut columns, mut same) = (Vec::new(), Vec::new());
        for key in &table.key {
            let (name, equals) = (&key.name, &key.equals);
            values.push(row.argument(&name.0)?);
            columns.push(format!("${} AS {name}", values.len()));
            same.push(format!("c.{name} {equals} p.{name}"));
        }
        let another = if child.oid == table.oid {
            format!(" AND NOT ({})", join(same, " AND "))
        } else {
            String::new()
        };
        let sql = format!(
            "SELECT 1 FROM (SELECT {columns}) AS p JOIN {children} AS c ON {joins}{another} LIMIT 1",
            columns = join(columns, ", "),
            children = child.rows(),
            joins = reference.joins("c", "p"),
        );
        if session.exists_now((child.oid, child.owner), &sql, &values)? {
            return Err(Failure::DeclaredReferrer {
                table: table.shown.clone(),
                child: child.shown.clone(),
                reference: reference.name.clone(),
            });
        }
    }
    Ok(())
}

/// Whether the update leaves the primary key as it is. As in `skip_triggers`, the registry is not looked at for what PostgreSQL's own caches say.
fn has_same_key(call: &Call<'_, BeforeUpdate>) -> bool {
    let Updated { old, new } = call.rows;
    let key = primary_key(call.opened());
    key.iter().all(|column| old.has_same(new, column))
}

/// The names of the columns of a relation's primary key.
fn primary_key(relation: &pg_sys::RelationData) -> Vec<String> {
    let open = std::ptr::from_ref(relation).cast_mut();
    let kind = pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY;
    // SAFETY: the relation is open for as long as the trigger's call lasts, and so is its descriptor.
    let (columns, key) = unsafe {
        let columns = pgrx::tupdesc::PgTupleDesc::from_pg_unchecked(relation.rd_att);
        (columns, pg_sys::RelationGetIndexAttrBitmap(open, kind))
    };
    let in_key = columns.iter().filter(|column| {
        let member = i32::from(column.attnum) - pg_sys::FirstLowInvalidHeapAttributeNumber;
        // SAFETY: the set is a copy of the relation's, or NULL, which is empty.
        unsafe { pg_sys::bms_is_member(member, key) }
    });
    in_key.map(|column| column.name().to_owned()).collect()
}

fn only_the_engine(relation: pg_sys::Oid) -> Outcome<()> {
    let graph = cache::known()?;
    let table = graph.table_or_root(relation);
    match table.filter(|table| !EngineWrite::is_to(table.oid)) {
        None => Ok(()),
        Some(table) => Err(Failure::StateWrittenByHand {
            table: table.shown.clone(),
        }),
    }
}

/// A row as a source for a query: its columns as arguments, typed as they are, so that only the
/// parent's table is read.
fn as_source<'call>(row: Row<'call>, table: &Table) -> Outcome<(String, Vec<DatumWithOid<'call>>)> {
    let mut values = Vec::with_capacity(table.columns.len());
    let mut columns = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        values.push(row.argument(&column.0)?);
        columns.push(format!("${} AS {column}", values.len()));
    }
    Ok((format!("(SELECT {})", join(columns, ", ")), values))
}

/// Rows to check, and so as whom their check runs: nothing that the owner of their table wrote may run as the parent's.
enum Checked<'a> {
    /// A row, or those of a statement, as a query and its values.
    Given(&'a str, &'a [DatumWithOid<'a>]),
    /// All rows of the child.
    Existing(String),
}

impl Checked<'_> {
    fn source(&self) -> &str {
        match self {
            Self::Given(source, _) => source,
            Self::Existing(source) => source,
        }
    }

    fn exists_now(
        &self,
        session: &mut Session<'_, '_>,
        (relation, child, parent): (pg_sys::Oid, &Table, &Table),
        sql: &str,
    ) -> Outcome<bool> {
        match self {
            Self::Given(_, values) => {
                session.exists_now_for_new((relation, parent.owner), sql, values)
            }
            Self::Existing(_) => session.exists_now_beside(child, parent.oid, sql, &[]),
        }
    }
}

/// Refuses when a live row refers to a deleted row of a managed table by a reference that is `concerned`; a declared reference must also find its
/// row at all. With deletions that have `begun`, rows are in their table, and are looked at again there.
fn check_references_of(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    relation: pg_sys::Oid,
    (rows, begun): (&Checked<'_>, Option<&[Uuid]>),
    concerned: impl Fn(&Reference) -> bool,
) -> Outcome<()> {
    let Some(child) = graph.table_or_root(relation) else {
        return Ok(());
    };
    let source = rows.source();
    let references = graph.guarded_references_of(child.oid);
    for (reference, parent) in references.filter(|(reference, _)| concerned(reference)) {
        reference.check_there(child)?;
        // A table of attachments has a reference for each type of thing; most statements mean one of them.
        let at = (relation, child, parent);
        let declared = reference.is_declared();
        if declared && !rows.exists_now(session, at, &meant(source, reference))? {
            continue;
        }
        if reference.deferrable || declared {
            lock_parents(session, (relation, child), rows, reference, parent)?;
        }
        let orphans = orphans(child, source, reference, parent);
        if rows.exists_now(session, at, &orphans)?
            && still_refers(session, (rows, begun), at, reference)?
        {
            return Err(dead_parent(reference, child, parent));
        }
    }
    Ok(())
}

/// Rows of `source` that mean a row of the parent's table.
fn meant(source: &str, reference: &Reference) -> String {
    let set = reference.is_set("c");
    format!("SELECT 1 FROM {source} AS c WHERE {set} LIMIT 1")
}

/// Whether the table has rows that refer to a deleted row as one of `rows` did. The statement, or a trigger of it, may have deleted that row itself: then
/// its deletion has let go of them by now, or is one of those that have `begun`, and is yet to do so.
fn still_refers(
    session: &mut Session<'_, '_>,
    (rows, begun): (&Checked<'_>, Option<&[Uuid]>),
    (relation, child, parent): (pg_sys::Oid, &Table, &Table),
    reference: &Reference,
) -> Outcome<bool> {
    let (Some(begun), Checked::Given(source, values)) =
        (begun.filter(|_| !reference.is_declared()), rows)
    else {
        return Ok(true);
    };
    let others = begun
        .iter()
        .map(|id| format!(" AND p.deletion_id IS DISTINCT FROM '{id}'::pg_catalog.uuid"));
    let sql = format!(
        "SELECT 1 FROM {children} AS c JOIN {parents} AS p ON {joins}
         WHERE {live} AND p.deleted_at IS NOT NULL{others} AND EXISTS (SELECT FROM {source} AS n WHERE {same}) LIMIT 1",
        children = child.rows(),
        parents = parent.rows(),
        joins = reference.joins("c", "p"),
        live = child.is_live("c"),
        others = join(others, ""),
        same = reference.joins("n", "p"),
    );
    session.exists_now_for_new_beside((relation, child), parent.oid, &sql, values)
}

/// Live rows of `source` whose parent is deleted or, for a declared reference, not there.
fn orphans(child: &Table, source: &str, reference: &Reference, parent: &Table) -> String {
    let live = child.is_live("c");
    let joins = reference.joins_by_parent_key("c", "p");
    let parent_name = parent.rows();
    match reference.kind {
        Kind::ForeignKey => format!(
            "SELECT 1 FROM {source} AS c JOIN {parent_name} AS p ON {joins} WHERE {live} AND p.deleted_at IS NOT NULL LIMIT 1"
        ),
        Kind::Declared { .. } => format!(
            "SELECT 1 FROM {source} AS c WHERE {live} AND {set}
             AND NOT EXISTS (SELECT FROM {parent_name} AS p WHERE {joins} AND {there}) LIMIT 1",
            set = reference.is_set("c"),
            there = parent.is_live("p"),
        ),
    }
}

/// Takes the lock that a foreign key's check would take, or has not taken yet, so that a deletion of the parent waits
/// for this transaction, or this one for it.
fn lock_parents(
    session: &mut Session<'_, '_>,
    (relation, child): (pg_sys::Oid, &Table),
    rows: &Checked<'_>,
    reference: &Reference,
    parent: &Table,
) -> Outcome<()> {
    let source = rows.source();
    let sql = format!(
        "SELECT 1 FROM {parent_name} AS p WHERE EXISTS (SELECT FROM {source} AS c WHERE {live} AND {joins}) ORDER BY {key} FOR KEY SHARE OF p",
        parent_name = parent.rows(),
        live = child.is_live("c"),
        joins = reference.joins_by_parent_key("c", "p"),
        key = parent.key_columns("p"),
    );
    match rows {
        Checked::Given(_, values) => session.lock_for_new(parent, relation, &sql, values),
        Checked::Existing(_) => session
            .as_owner_beside(child, parent.oid, &sql, &[])
            .map(drop),
    }
}
