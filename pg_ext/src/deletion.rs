//! The registry's record of a deletion.

use pgrx::{JsonB, Uuid, pg_sys};

use crate::error::{Failure, Outcome};
use crate::graph::{Graph, Table};
use crate::root_row;
use crate::session::Session;

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
    /// The key of its root row, as JSON.
    pub root_key: serde_json::Value,
    /// What became of it.
    pub state: State,
    /// Whether it was made under the claims of the caller's tenant.
    pub same_tenant: bool,
}

const READ: &str = "
    SELECT root_table::oid, root_key, state,
           tenant IS NOT DISTINCT FROM nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant'
    FROM keepsake.deletion WHERE id = $1";

impl Deletion {
    /// Reads it for a caller who may act on it: who may delete its root row. To anyone else it does
    /// not exist. Locks it first when `lock` says so, against restore, purge and passing.
    pub fn authorised(
        session: &mut Session<'_, '_>,
        graph: &Graph,
        id: Uuid,
        lock: bool,
    ) -> Outcome<Self> {
        let not_found = || Failure::DeletionNotFound {
            deletion: id.to_string(),
        };
        let deletion = Self::read(session, id, lock)?.ok_or_else(not_found)?;
        let root = graph.managed(session, deletion.root_table)?;
        // Of a purged or restored deletion no root row is left to ask; its tenant is.
        let may = if deletion.state == State::Deleted || deletion.state == State::Purging {
            root_row::authorise(session, root, JsonB(deletion.root_key.clone()), id)?
        } else {
            deletion.same_tenant
        };
        if may { Ok(deletion) } else { Err(not_found()) }
    }

    fn read(session: &mut Session<'_, '_>, id: Uuid, lock: bool) -> Outcome<Option<Self>> {
        let sql = format!("{READ}{}", if lock { " FOR UPDATE" } else { "" });
        let mut rows = session.registry(&sql, &[id.into()])?;
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
            root_key: row
                .get::<JsonB>(2)?
                .map_or(serde_json::Value::Null, |key| key.0),
            state,
            same_tenant: row.get(4)?.unwrap_or(false),
        }))
    }

    /// The condition that row `t` is this deletion's root; the key is written in as a constant.
    pub fn root_condition(&self, root: &Table) -> String {
        let terms = root.key.iter().map(|column| {
            format!(
                "t.{name} {equals} k.{name}",
                name = column.name,
                equals = column.equals
            )
        });
        format!(
            "EXISTS (SELECT FROM jsonb_populate_record(NULL::{table}, {key}::jsonb) AS k WHERE {terms})",
            table = root.name,
            key = crate::sql::Literal(&self.root_key.to_string()),
            terms = crate::sql::join(terms, " AND "),
        )
    }
}
