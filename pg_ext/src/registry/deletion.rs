//! The registry's record of a deletion.

use std::collections::HashSet;

use pgrx::{JsonB, Uuid, pg_sys};

use crate::access::{target_row, trust};
use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::table::Table;
use crate::registry::archived;
use crate::registry::stored_key::StoredKey;
use crate::spi::session::{Session, first_cell, first_column};

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its rows can be restored.
    Deleted,
    /// Its rows are live again, or passed to other deletions.
    Restored,
    /// Purge has begun: nothing can be restored.
    Purging,
    /// Its rows are gone.
    Purged,
}

/// One soft-delete operation.
#[derive(Debug)]
pub struct Deletion {
    /// Its id.
    pub id: Uuid,
    /// The table of its root row.
    pub root_table: pg_sys::Oid,
    root_key: Option<serde_json::Value>,
    /// What `root_of` found, where the root is kept in place and the caller was asked about.
    root: Option<StoredKey>,
    /// What became of it.
    pub state: State,
    /// Whether it was made under the claims of the caller's tenant.
    pub same_tenant: bool,
    /// The tenant under whose claims it was made.
    pub tenant: Option<String>,
}

/// Not the one that is being made: what it holds is not counted yet, and a trigger that it fires must
/// not settle it.
const READ: &str = "
    SELECT root_table::oid, root_key, state,
           tenant IS NOT DISTINCT FROM nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant',
           tenant
    FROM keepsake.deletion AS d
    WHERE id = $1 AND (state <> 'deleted' OR EXISTS (
        SELECT FROM keepsake.deletion_table AS t WHERE t.deletion_id = d.id))";

impl Deletion {
    /// Whether its rows are still deleted. Once their purge has begun they cannot be restored, which is an error.
    pub fn can_be_restored(&self) -> Outcome<bool> {
        match self.state {
            State::Deleted => Ok(true),
            State::Restored => Ok(false),
            State::Purging | State::Purged => Err(Failure::Purged {
                deletion: self.id.to_string(),
            }),
        }
    }

    /// The table of the root, unless its rows are archived.
    pub fn root_in_place<'graph>(&self, graph: &'graph Graph) -> Option<&'graph Table> {
        graph.table(self.root_table).filter(|root| root.managed)
    }

    /// Reads it for a caller who may act on it: who may delete its root row, or every one of its
    /// roots. To anyone else it does not exist. Locks it first when `lock` says so, against restore, purge and passing.
    pub fn authorised(
        session: &mut Session<'_, '_>,
        graph: &Graph,
        id: Uuid,
        lock: bool,
    ) -> Outcome<Self> {
        let not_found = || Failure::DeletionNotFound {
            deletion: id.to_string(),
        };
        let mut deletion = Self::read(session, id, lock)?.ok_or_else(not_found)?;
        trust::name_deletion(session, id)?;
        if let Some(may) =
            archived::may_act(session, deletion.root_table, deletion.tenant.as_deref())?
        {
            return if may { Ok(deletion) } else { Err(not_found()) };
        }
        // What is managed no longer, or not there, holds no deleted rows.
        let root = deletion.root_in_place(graph).ok_or_else(not_found)?;
        deletion.root = deletion.root_of(session, root)?;
        // Of a purged or restored deletion no root row is left to ask; its tenant is.
        let may = match deletion.state {
            State::Deleted | State::Purging => {
                deletion.may_delete_roots(session, root)?
                    || deletion.may_delete_the_rest(session, graph, root)?
            }
            State::Restored | State::Purged => deletion.same_tenant,
        };
        if may { Ok(deletion) } else { Err(not_found()) }
    }

    /// Reads it, whoever asks. Locks it first when `lock` says so.
    pub fn read(session: &mut Session<'_, '_>, id: Uuid, lock: bool) -> Outcome<Option<Self>> {
        let sql = format!("{READ}{}", if lock { " FOR UPDATE OF d" } else { "" });
        let mut rows = session.registry_planned_once(&sql, &[id.into()])?;
        let Some(row) = rows.next() else {
            return Ok(None);
        };
        let state = match row.get::<&str>(3)? {
            Some("restored") => State::Restored,
            Some("purging") => State::Purging,
            Some("purged") => State::Purged,
            _ => State::Deleted,
        };
        Ok(Some(Self {
            id,
            root_table: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
            root_key: row.get::<JsonB>(2)?.map(|key| key.0),
            root: None,
            state,
            same_tenant: row.get(4)?.unwrap_or(false),
            tenant: row.get(5)?,
        }))
    }

    fn may_delete_roots(&self, session: &mut Session<'_, '_>, root: &Table) -> Outcome<bool> {
        match &self.root {
            Some(key) => {
                let is_root = key.with_arguments(session, root)?;
                session.keep_plans(true);
                let may = target_row::may_delete_root(session, root, is_root, self.id);
                session.keep_plans(false);
                may
            }
            None => target_row::may_delete_all(session, root, self.id),
        }
    }

    /// When a restore has brought the roots back and skipped other rows, these stand in for them:
    /// the caller must be one who sees and may delete each.
    fn may_delete_the_rest(
        &self,
        session: &mut Session<'_, '_>,
        graph: &Graph,
        root: &Table,
    ) -> Outcome<bool> {
        let roots = format!(
            "SELECT 1 FROM {} AS t WHERE t.deletion_id OPERATOR(pg_catalog.=) $1 AND {}",
            root.rows(),
            self.is_root().unwrap_or_else(|| "true".into())
        );
        if session.exists(root, &roots, self.id)? {
            return Ok(false);
        }
        self.may_delete_rows(session, graph)
    }

    /// Whether rows that are kept in place belong to it, and the caller sees each and may delete it.
    pub fn may_delete_rows(&self, session: &mut Session<'_, '_>, graph: &Graph) -> Outcome<bool> {
        let rest = holding(session, graph, &[self.id])?;
        for table in rest.iter().flatten() {
            if !target_row::may_delete_all(session, table, self.id)? {
                return Ok(false);
            }
        }
        Ok(!rest.is_empty())
    }

    /// Whether it began with a single row.
    pub fn has_single_root(&self) -> bool {
        self.root_key.is_some()
    }

    /// The key of its root row in `table`, which is the root's. `None`: every row that it removed there is a root, or the key
    /// no longer says which.
    pub fn root_of(
        &self,
        session: &mut Session<'_, '_>,
        table: &Table,
    ) -> Outcome<Option<StoredKey>> {
        let key = self.root_key.as_ref();
        key.map_or(Ok(None), |key| StoredKey::read(session, table, key))
    }

    /// The condition that row `t` of the root's table is this deletion's root, where it has a single one that its key
    /// still tells; the key is written in as a constant.
    pub fn is_root(&self) -> Option<String> {
        self.root.as_ref().map(StoredKey::condition)
    }
}

/// The tables that hold rows of these deletions, in groups, referring tables first. Nothing is done
/// to any other table: its triggers are none of a stranger's business.
pub fn holding<'graph>(
    session: &mut Session<'_, '_>,
    graph: &'graph Graph,
    deletions: &[Uuid],
) -> Outcome<Vec<Vec<&'graph Table>>> {
    let held: HashSet<pg_sys::Oid> = first_column(session.registry_planned_once(
        "SELECT DISTINCT relation::oid FROM keepsake.deletion_table
         WHERE deletion_id = ANY ($1) AND purged < row_count",
        &[deletions.to_vec().into()],
    )?)?;
    let of_them = |table: &&Table| table.managed && held.contains(&table.oid);
    let holding: Vec<Vec<&Table>> = graph
        .groups_children_first()
        .map(|group| group.into_iter().filter(of_them).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect();
    holding
        .iter()
        .flatten()
        .try_for_each(|table| table.check_marks())?;
    Ok(holding)
}

/// How many rows a deletion still holds.
pub fn rows_of(session: &mut Session<'_, '_>, deletion: Uuid) -> Outcome<i64> {
    let rows = session.registry_planned_once(
        "SELECT sum(row_count - purged)::bigint FROM keepsake.deletion_table WHERE deletion_id = $1",
        &[deletion.into()],
    )?;
    Ok(first_cell(rows)?.unwrap_or(0))
}

/// Notes that rows of these deletions could not be purged: held, or still referred to. They are
/// passed over for ten minutes, or until something happens that may have freed them.
pub fn postpone(session: &mut Session<'_, '_>, deletions: Vec<Uuid>) -> Outcome<()> {
    if !deletions.is_empty() {
        session.registry_kept(
            "UPDATE keepsake.deletion SET put_off_at = now() WHERE id = ANY ($1)",
            &[deletions.into()],
        )?;
    }
    Ok(())
}

/// Retries what was postponed.
pub fn retry_postponed(session: &mut Session<'_, '_>) -> Outcome<()> {
    session.registry_kept(
        "UPDATE keepsake.deletion SET put_off_at = NULL WHERE id IN (
             SELECT id FROM keepsake.deletion WHERE put_off_at IS NOT NULL FOR UPDATE SKIP LOCKED)",
        &[],
    )?;
    Ok(())
}

/// The same for those of one tenant, or of none: all are locked until the transaction ends, which may be a long one here.
pub fn retry_postponed_of(session: &mut Session<'_, '_>, tenant: Option<String>) -> Outcome<()> {
    session.registry_kept(
        "UPDATE keepsake.deletion SET put_off_at = NULL WHERE id IN (
             SELECT id FROM keepsake.deletion WHERE put_off_at IS NOT NULL AND tenant IS NOT DISTINCT FROM $1 FOR UPDATE SKIP LOCKED)",
        &[tenant.into()],
    )?;
    Ok(())
}
