//! What is to be restored: which archived rows, of which deletions, and by whose right.

use pgrx::datum::DatumWithOid;
use pgrx::{Uuid, pg_sys};

use crate::access::target_row::Key;
use crate::model::deleted_row::DeletedRow;
use crate::model::error::{Failure, Outcome};
use crate::model::row_id::RowId;
use crate::model::sql::join;
use crate::registry::deletion::{Deletion, State};
use crate::restore_archived::archived_rows::{Archived, one_of};
use crate::restore_archived::foreign_keys::{self, ForeignKey};
use crate::restore_archived::orphans;
use crate::restore_archived::rights;
use crate::restore_archived::row_choice::{self, Set};
use crate::restore_archived::undo;
use crate::restore_archived::unreadable;
use crate::spi::session::{Session, first_column};
use crate::spi::shown_names;

/// What is to be restored.
#[derive(Debug)]
pub struct Work {
    /// The deletion that was asked for.
    pub deletion: Deletion,
    /// The tables that may get rows, by name.
    pub tables: Vec<Archived>,
    /// Their foreign keys.
    pub keys: Vec<ForeignKey>,
    /// The rows.
    pub set: Set,
    /// Those whose restore the caller must have a right to.
    pub roots: Set,
    /// The deletions that are to come back whole. What others of the transaction have is brought along where it can be.
    pub whole: Vec<Uuid>,
    /// Whether it is one row that was asked for.
    pub single_root: bool,
    /// The deletions that are locked, or would be.
    pub locked: Vec<Uuid>,
    /// How much of the transaction's deletions.
    pub scope: Scope,
    /// The deletions whose rows in place come back after these.
    pub returning: Vec<Uuid>,
}

/// How much of a transaction's deletions is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One.
    Deletion,
    /// All.
    Group,
    /// As `Deletion`, but nothing is locked.
    Preview,
}

/// Where the root of a deletion is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// In an archive.
    Archived,
    /// In an archive. The deletion's rows in place come back after those in archives, which may refer to them.
    ArchivedFirst,
    /// In its table: the caller's right to it has been looked at.
    InPlace,
}

/// Locks the deletion and gathers its rows; `None` when they are live already.
pub fn begin(
    session: &mut Session<'_, '_>,
    id: Uuid,
    scope: Scope,
    root: Root,
) -> Outcome<Option<Work>> {
    let Some((deletion, locked)) = lock(session, id, scope)? else {
        return Ok(None);
    };
    let (whole, others) = match scope {
        Scope::Group => (locked.as_slice(), [].as_slice()),
        Scope::Deletion | Scope::Preview => locked.split_at(1),
    };
    let returning = match root {
        Root::ArchivedFirst => whole.to_vec(),
        Root::Archived | Root::InPlace => Vec::new(),
    };
    let (tables, keys) = open_all(session, &locked, scope, &returning)?;
    if tables.is_empty() {
        return match root {
            Root::Archived | Root::ArchivedFirst => Err(not_found(id)),
            Root::InPlace => Ok(None),
        };
    }
    let set = gather(session, (&tables, &keys), (whole, others), scope, |_| {
        Ok(Set::of(&tables, whole))
    })?;
    let mut roots = Set::default();
    if root != Root::InPlace {
        for id in whole {
            let of_one = if *id == deletion.id {
                roots_of(session, &tables, &deletion)?
            } else {
                let other = Deletion::read(session, *id, false)?.ok_or_else(|| not_found(*id))?;
                roots_of(session, &tables, &other)?
            };
            roots.extend(of_one);
        }
    }
    refuse_unless_may(session, &tables, &roots)?;
    Ok(Some(Work {
        whole: whole.to_vec(),
        single_root: deletion.has_single_root() && scope != Scope::Group,
        deletion,
        tables,
        keys,
        set,
        roots,
        locked,
        scope,
        returning,
    }))
}

/// The same for one row and what hung on it: the rows beneath it that its deletion, or another of the same transaction,
/// has removed.
pub fn begin_row(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: Key<'_>,
) -> Outcome<Work> {
    let one = open_one(session, relation, Scope::Deletion)?;
    session.name_owner(one.table.owner);
    rights::refuse_unless_may(session, &one.table)?;
    let row_not_found = || Failure::RowNotFound {
        table: one.table.shown.clone(),
    };
    let key = key.values(session, &one.table)?;
    let (_, id) = find_row(session, &one, &key, None)?.ok_or_else(row_not_found)?;
    let Some((deletion, locked)) = lock(session, id, Scope::Deletion)? else {
        return Err(row_not_found());
    };
    let (tables, keys) = open_all(session, &locked, Scope::Deletion, &[])?;
    let mut roots = Set::default();
    let set = gather(
        session,
        (&tables, &keys),
        (&[], &locked),
        Scope::Deletion,
        |session| {
            // Where it is now.
            let row = find_row(session, &one, &key, Some(id))?
                .ok_or_else(row_not_found)?
                .0;
            roots = Set::default();
            roots.add(relation, row);
            Ok(roots.clone())
        },
    )?;
    Ok(Work {
        whole: Vec::new(),
        single_root: true,
        deletion,
        tables,
        keys,
        set,
        roots,
        locked,
        scope: Scope::Deletion,
        returning: Vec::new(),
    })
}

/// The same for rows of one table alone, by their places in its archive. Their deletions are locked. `None` when none can be restored any more.
pub fn begin_rows(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    rows: &[DeletedRow],
) -> Outcome<Option<Work>> {
    let one = open_one(session, relation, Scope::Deletion)?;
    rights::refuse_unless_may(session, &one.table)?;
    let (mut set, mut locked, mut first) = (Set::default(), Vec::new(), None);
    for row in rows {
        if !locked.contains(&row.deletion) {
            let deletion = Deletion::read(session, row.deletion, true)?;
            let Some(deletion) = deletion.filter(|one| one.state == State::Deleted) else {
                continue;
            };
            locked.push(row.deletion);
            first.get_or_insert(deletion);
        }
        set.add(relation, row.row);
    }
    let Some(deletion) = first else {
        return Ok(None);
    };
    let tables = vec![one];
    let keys = foreign_keys::read(session, &tables, &[])?;
    Ok(Some(Work {
        whole: Vec::new(),
        single_root: true,
        deletion,
        tables,
        keys,
        roots: set.clone(),
        set,
        locked,
        scope: Scope::Deletion,
        returning: Vec::new(),
    }))
}

/// The newest version of a row in the archive of a table.
pub fn find_newest(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: Key<'_>,
) -> Outcome<Option<(Archived, RowId)>> {
    let one = open_one(session, relation, Scope::Preview)?;
    let key = key.values(session, &one.table)?;
    let found = find_row(session, &one, &key, None)?;
    Ok(found.map(|(row, _)| (one, row)))
}

/// The same; its deletion is locked, so that nobody restores or purges it meanwhile.
pub fn find_locked(
    session: &mut Session<'_, '_>,
    relation: pg_sys::Oid,
    key: Key<'_>,
) -> Outcome<Option<(Archived, RowId)>> {
    let one = open_one(session, relation, Scope::Deletion)?;
    let key = key.values(session, &one.table)?;
    let Some((row, id)) = find_row(session, &one, &key, None)? else {
        return Ok(None);
    };
    let locked = lock(session, id, Scope::Deletion)?;
    Ok(locked.map(|_| (one, row)))
}

/// One table, which must have an archive.
fn open_one(session: &Session<'_, '_>, relation: pg_sys::Oid, scope: Scope) -> Outcome<Archived> {
    match open(session, vec![relation], scope)?.pop() {
        Some(one) => Ok(one),
        None => Err(Failure::NotArchived {
            table: shown_names::table(session, relation)?,
        }),
    }
}

/// The rows to begin with, all of deletions that come back as a `whole` among them, and those that hang on them among `others`, as they were
/// before the transaction let go of them.
fn gather(
    session: &mut Session<'_, '_>,
    (tables, keys): (&[Archived], &[ForeignKey]),
    (whole, others): (&[Uuid], &[Uuid]),
    scope: Scope,
    mut begin: impl FnMut(&mut Session<'_, '_>) -> Outcome<Set>,
) -> Outcome<Set> {
    let group = [whole, others].concat();
    let mut done = undo::Done::new();
    loop {
        let asked_for = begin(session)?;
        let mut set = asked_for.clone();
        let grew = row_choice::close(session, tables, keys, &mut set, others)?;
        if scope == Scope::Preview {
            return Ok(set);
        }
        // No row gets back what it had of a row that does not come along after all.
        let mut coming = set.clone();
        if grew {
            let asked_for = (whole, &asked_for);
            orphans::leave_behind(session, (tables, tables, keys), asked_for, &mut coming)?;
        }
        // What an archived row gets back may make it hang on a row of the set, and moves it in the archive.
        if !undo::into_archive(session, (tables, keys), &coming, &group, &mut done)? {
            return Ok(set);
        }
    }
}

/// The newest version of a row in the archive, or that of one deletion, and its deletion.
fn find_row(
    session: &mut Session<'_, '_>,
    one: &Archived,
    key: &[DatumWithOid<'_>],
    of: Option<Uuid>,
) -> Outcome<Option<(RowId, Uuid)>> {
    let is_row = one.table.key.iter().zip(1..);
    let is_row = is_row.map(|(column, n)| format!("t.{} {} ${n}", column.name, column.equals));
    let of = of.map_or_else(String::new, |id| {
        format!(" AND t.keepsake_deletion {}", one_of(&[id]))
    });
    let sql = format!(
        "SELECT t.keepsake_relation, t.keepsake_ctid, t.keepsake_deletion FROM ({}) AS t WHERE {}{of}
         ORDER BY t.keepsake_deletion DESC, t.keepsake_seq DESC LIMIT 1",
        one.source_of_all(),
        join(is_row, " AND "),
    );
    let mut rows = session.over_archives(&one.table, &sql, key)?;
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    Ok(RowId::read(&row, 1)?.zip(row.get::<Uuid>(3)?))
}

fn not_found(id: Uuid) -> Failure {
    Failure::DeletionNotFound {
        deletion: id.to_string(),
    }
}

/// Locks a deletion, and those of its group that can be restored; answers with the deletion and the ids of all, its own
/// first. `None` when its rows are live already.
fn lock(
    session: &mut Session<'_, '_>,
    id: Uuid,
    scope: Scope,
) -> Outcome<Option<(Deletion, Vec<Uuid>)>> {
    let group = lock_group(session, id, scope)?;
    let deletion = Deletion::read(session, id, scope != Scope::Preview)?;
    let deletion = deletion.ok_or_else(|| not_found(id))?;
    match deletion.state {
        State::Deleted => Ok(Some((deletion, [id].into_iter().chain(group).collect()))),
        _ if !deletion.same_tenant => Err(not_found(id)),
        State::Restored => Ok(None),
        State::Purging | State::Purged => Err(Failure::Purged {
            deletion: id.to_string(),
        }),
    }
}

/// Opens the tables that hold rows of these deletions, and reads their foreign keys.
fn open_all(
    session: &mut Session<'_, '_>,
    deletions: &[Uuid],
    scope: Scope,
    returning: &[Uuid],
) -> Outcome<(Vec<Archived>, Vec<ForeignKey>)> {
    let relations: Vec<pg_sys::Oid> = first_column(session.registry_of_few(
        "SELECT DISTINCT relation::oid FROM keepsake.deletion_table WHERE deletion_id = ANY ($1) AND purged < row_count",
        &[deletions.to_vec().into()],
    )?)?;
    let tables = open(session, relations, scope)?;
    let keys = foreign_keys::read(session, &tables, returning)?;
    Ok((tables, keys))
}

fn refuse_unless_may(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    roots: &Set,
) -> Outcome<()> {
    for one in tables {
        if !roots.rows(one.table.oid).is_empty() {
            rights::refuse_unless_may(session, &one.table)?;
        }
    }
    Ok(())
}

/// Locks the deletions of the group that can be restored, in one order for all; answers with the others of them.
fn lock_group(session: &mut Session<'_, '_>, id: Uuid, scope: Scope) -> Outcome<Vec<Uuid>> {
    let lock = if scope == Scope::Preview {
        ""
    } else {
        " FOR UPDATE"
    };
    let sql = format!(
        "SELECT d.id FROM keepsake.deletion AS d
         WHERE d.id IN (SELECT m.id FROM keepsake.deletion AS g, keepsake.deletion AS m
                        WHERE g.id = $1 AND (m.id = g.group_id OR m.group_id = g.group_id AND m.group_id <> m.id))
           AND d.state = 'deleted'
         ORDER BY d.id{lock}"
    );
    let group: Vec<Uuid> = first_column(session.registry_of_few(&sql, &[id.into()])?)?;
    Ok(group.into_iter().filter(|other| *other != id).collect())
}

/// Reads the tables with an archive among these. They are locked first, as an INSERT locks them: their columns and keys
/// stay as they are read.
pub fn open(
    session: &Session<'_, '_>,
    mut relations: Vec<pg_sys::Oid>,
    scope: Scope,
) -> Outcome<Vec<Archived>> {
    relations.sort_unstable_by_key(|relation| relation.to_u32());
    let mode = if scope == Scope::Preview {
        pg_sys::AccessShareLock
    } else {
        pg_sys::RowExclusiveLock
    };
    for relation in &relations {
        // SAFETY: takes a lock that the transaction holds to its end; a table that is dropped meanwhile is not found below.
        unsafe { pg_sys::LockRelationOid(*relation, mode as i32) };
    }
    Archived::read(session, &relations)
}

/// The rows that the deletion began with. Those of its root's table, as far as it has any left; else all.
fn roots_of(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    deletion: &Deletion,
) -> Outcome<Set> {
    let whole = &[deletion.id];
    let root = tables
        .iter()
        .find(|one| one.table.oid == deletion.root_table);
    let Some(root) = root else {
        return Ok(Set::of(tables, whole));
    };
    let of_table = Set::of(std::slice::from_ref(root), whole);
    let Some(key) = deletion.root_of(session, &root.table)? else {
        let there = unreadable::has_rows(session, root, &of_table.rows(root.table.oid))?;
        return Ok(if there {
            of_table
        } else {
            Set::of(tables, whole)
        });
    };
    let sql = format!(
        "SELECT t.keepsake_relation, t.keepsake_ctid FROM ({}) AS t WHERE {}",
        root.source(&of_table.rows(root.table.oid)),
        key.condition()
    );
    let mut roots = Set::default();
    for row in session.over_archives(&root.table, &sql, &[])? {
        if let Some(row) = RowId::read(&row, 1)? {
            roots.add(root.table.oid, row);
        }
    }
    // Restored before, while other rows were skipped: these stand in for it.
    Ok(if roots.is_empty() {
        Set::of(tables, whole)
    } else {
        roots
    })
}
