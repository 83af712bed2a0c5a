//! What the caller may do with a table, by privileges and row-level policies.

use std::collections::HashSet;

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::spi::SpiTupleTable;

use crate::access::trust::is_trusted;
use crate::model::error::{Failure, Outcome};
use crate::model::row_id::{RowId, is_among};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::run_as::archive_reading::Judging;
use crate::spi::including_deleted::including_deleted;
use crate::spi::session::Session;

/// What the caller may do with a table by his privileges, and whether its policies bind him.
#[derive(Clone, Copy, Debug)]
pub struct Privileges {
    deletes: bool,
    selects: bool,
    reads_key: bool,
    is_bound: bool,
}

const PRIVILEGES: &str = "
    SELECT has_table_privilege(c.oid, 'DELETE'),
           may.select_all AND may.enter,
           may.enter AND (may.select_all OR (SELECT bool_and(has_column_privilege(c.oid, key.name, 'SELECT')) FROM unnest($2::text[]) AS key (name))),
           row_security_active(c.oid)
    FROM pg_class c
    CROSS JOIN LATERAL (SELECT has_table_privilege(c.oid, 'SELECT') AS select_all, has_schema_privilege(c.relnamespace, 'USAGE') AS enter) AS may
    WHERE c.oid = $1";

const OTHER_POLICIES: &str =
    "SELECT FROM pg_policy WHERE polrelid = $1 AND NOT starts_with(polname::text, 'keepsake_')";

impl Privileges {
    /// The caller's to `table`.
    pub fn of(session: &Session<'_, '_>, table: &Table) -> Outcome<Self> {
        let key: Vec<&str> = table
            .key
            .iter()
            .map(|column| column.name.0.as_str())
            .collect();
        let rows = session.catalog_kept(PRIVILEGES, &[table.oid.into(), key.into()])?;
        if rows.is_empty() {
            return Err(Failure::RowNotFound {
                table: table.shown.clone(),
            });
        }
        let row = rows.first();
        let may = |ordinal| -> Outcome<bool> { Ok(row.get(ordinal)?.unwrap_or(false)) };
        Ok(Self {
            deletes: may(1)?,
            selects: may(2)?,
            reads_key: may(3)?,
            is_bound: may(4)?,
        })
    }

    /// Whether he may read the table, and no policy keeps a row from him.
    pub fn sees_all(self) -> bool {
        self.selects && !self.is_bound
    }

    /// Whether he may read the table, as far as its policies let him.
    pub fn selects(self) -> bool {
        self.selects
    }

    /// Whether policies of the application's bind him. Keepsake's own keep no live row from him.
    pub fn is_bound_by_application(
        self,
        session: &Session<'_, '_>,
        table: &Table,
    ) -> Outcome<bool> {
        if !self.is_bound {
            return Ok(false);
        }
        let found = session.catalog_kept(OTHER_POLICIES, &[table.oid.into()])?;
        Ok(!found.is_empty())
    }

    /// Refuses a caller without the DELETE privilege.
    pub fn refuse_unless_deletes(self, table: &Table) -> Outcome<()> {
        if self.deletes {
            return Ok(());
        }
        Err(Failure::MayNotDelete {
            table: table.shown.clone(),
        })
    }

    /// Runs `select`, whose WHERE clause is its last, over the rows `t` that the caller sees and may delete, of which he is to read the key, as for a
    /// DELETE that names it. Whom no policy binds sees what the owner sees: then it runs as the owner, so that not even what the planner computes of
    /// an index expression runs with the rights of a superuser who calls. Whose policies are not to run as the caller, of his tables the caller sees nothing.
    pub fn read_deletable<'conn>(
        self,
        session: &mut Session<'_, 'conn>,
        table: &Table,
        select: &str,
        args: &[DatumWithOid<'_>],
    ) -> Outcome<SpiTupleTable<'conn>> {
        if self.reads_key && !self.is_bound {
            return session.as_owner(table, select, args);
        }
        // Not even planned as the caller, which evaluates what is constant in policies.
        if self.is_bound && !is_trusted(session, table)? {
            return session.as_owner(table, &format!("{select} AND false"), args);
        }
        let _hidden = including_deleted();
        let policies = if self.is_bound {
            delete_policies(session, table)?
        } else {
            "true".into()
        };
        let sql = format!("{select} AND {policies}");
        let _judging = self.reads_key.then(|| Judging::rows_of(table.oid));
        session.as_caller_under_policies(&sql, args)
    }

    /// How many rows of a deletion the caller, whom policies bind, sees and may delete. PostgreSQL asks of him no right to read the columns that
    /// policies name.
    pub fn count_deletable(
        session: &mut Session<'_, '_>,
        table: &Table,
        deletion: Uuid,
    ) -> Outcome<Option<i64>> {
        let _hidden = including_deleted();
        let sql = format!(
            "SELECT pg_catalog.count(t.deletion_id) FROM {} AS t WHERE t.deletion_id OPERATOR(pg_catalog.=) $1 AND {}",
            table.rows(),
            delete_policies(session, table)?,
        );
        let _judging = Judging::rows_of(table.oid);
        let counted = session.as_caller_under_policies(&sql, &[deletion.into()])?;
        Ok(counted.first().get_one()?)
    }
}

const POLICIES: &str = include_str!("delete_policies.sql");

/// The table's DELETE policies that bind the caller, as one condition on row `t`. PostgreSQL
/// applies them to a `DELETE` only, and a soft delete is none.
/// <https://www.postgresql.org/docs/current/ddl-rowsecurity.html>
fn delete_policies(session: &Session<'_, '_>, table: &Table) -> Outcome<String> {
    let rows = session
        .catalog_in_callers_path(POLICIES, &[table.oid.into()])?
        .first();
    let permissive: Option<String> = rows.get_by_name("permissive")?;
    let restrictive: Option<String> = rows.get_by_name("restrictive")?;
    // The expressions name columns without their table, so they are read inside a row of their own.
    let condition = format!(
        "({}) AND ({})",
        permissive.unwrap_or_else(|| "false".into()),
        restrictive.unwrap_or_else(|| "true".into())
    );
    let columns = join(
        table
            .columns
            .iter()
            .map(|column| format!("t.{column} AS {column}")),
        ", ",
    );
    Ok(format!(
        "EXISTS (SELECT FROM (SELECT {columns}) AS {name} WHERE {condition})",
        name = table.name.name
    ))
}

/// Those of the rows that the caller could read himself, all columns of them: privileges and policies decide.
pub fn readable(
    session: &mut Session<'_, '_>,
    table: &Table,
    rows: HashSet<RowId>,
) -> Outcome<HashSet<RowId>> {
    let privileges = Privileges::of(session, table)?;
    if !privileges.selects || rows.is_empty() {
        return Ok(HashSet::new());
    }
    if !privileges.is_bound {
        return Ok(rows);
    }
    if !is_trusted(session, table)? {
        return Ok(HashSet::new());
    }
    let sql = format!(
        "SELECT t.tableoid, t.ctid FROM {} AS t WHERE {}",
        table.rows(),
        is_among(&rows, "t")
    );
    let _hidden = including_deleted();
    let found = session.as_caller_under_policies(&sql, &[])?;
    Ok(RowId::read_all(found)?.into_iter().collect())
}
