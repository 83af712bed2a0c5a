//! Who may restore what was archived.
//!
//! The privileges are asked before anything is looked at. What row-level policies say can only be asked of rows that are
//! there, with their parents: after the insert, in the same subtransaction.

use crate::access::privileges::Privileges;
use crate::access::trust::is_trusted;
use crate::model::error::{Failure, Outcome};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::restore_archived::archived_rows::{Archived, Rows};
use crate::spi::owners_rows::ROWS;
use crate::spi::session::Session;

const POLICIES: &str = include_str!("read_policies.sql");

/// A kind of statement that policies are for (`pg_policy.polcmd`).
#[derive(Clone, Copy, Debug)]
enum Command {
    Select,
    Delete,
    Insert,
    Update,
}

impl Command {
    const fn code(self) -> &'static str {
        match self {
            Self::Select => "r",
            Self::Delete => "d",
            Self::Insert => "a",
            Self::Update => "w",
        }
    }
}

/// Refuses a caller without the privileges to delete from the table and to insert into it.
pub fn refuse_unless_may(session: &mut Session<'_, '_>, table: &Table) -> Outcome<()> {
    Privileges::of(session, table)?.refuse_unless_deletes(table)?;
    let may = session
        .catalog_kept(
            "SELECT pg_catalog.has_table_privilege($1, 'INSERT')",
            &[table.oid.into()],
        )?
        .first()
        .get_one::<bool>()?;
    if may == Some(true) {
        return Ok(());
    }
    Err(Failure::MayNotInsert {
        table: table.shown.clone(),
    })
}

/// Whether policies bind the caller, or he may not read the table at all.
pub fn is_bound(session: &Session<'_, '_>, table: &Table) -> Outcome<bool> {
    Ok(!Privileges::of(session, table)?.sees_all())
}

/// Whether the caller, under the policies that bind him, sees each of the rows, which are live again and still in the
/// archive, and may have deleted and inserted it.
pub fn passes_live(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<bool> {
    let table = &one.table;
    if !is_bound(session, table)? {
        return Ok(true);
    }
    if table.key.is_empty() || !is_trusted(session, table)? {
        return Ok(false);
    }
    let name = &table.name.name;
    let same = table
        .key
        .iter()
        .map(|key| format!("{name}.{0} {1} s.{0}", key.name, key.equals));
    let sql = format!(
        "WITH s AS MATERIALIZED (SELECT * FROM {ROWS})
         SELECT (SELECT pg_catalog.count(*) FROM s) OPERATOR(pg_catalog.-) pg_catalog.count(*)
         FROM {rows} AS {name} WHERE EXISTS (SELECT FROM s WHERE {same}) AND ({delete}) AND ({insert})",
        rows = table.rows(),
        delete = policies(session, table, Command::Delete)?,
        insert = policies(session, table, Command::Insert)?,
        same = join(same, " AND "),
    );
    counts_none(session, table, &one.source(rows), &sql)
}

/// The condition on a row, its columns named without the table, that the caller could see it in the archive's table were
/// it live: as far as that can be said of a row that is not there.
pub fn would_see(session: &Session<'_, '_>, table: &Table) -> Outcome<String> {
    policies(session, table, Command::Select)
}

/// Whether the caller could see and delete each of the archived rows, were they live.
pub fn would_pass(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<bool> {
    if !is_bound(session, &one.table)? {
        return Ok(true);
    }
    if !is_trusted(session, &one.table)? {
        return Ok(false);
    }
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {ROWS} AS {name} WHERE (({select}) AND ({delete})) IS NOT TRUE",
        name = one.table.name.name,
        select = policies(session, &one.table, Command::Select)?,
        delete = policies(session, &one.table, Command::Delete)?,
    );
    counts_none(session, &one.table, &one.whole_query(rows), &sql)
}

/// Whether the caller could see and update each of the archived rows, were they live.
pub fn would_update(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<bool> {
    let policies = [(Command::Select, false), (Command::Update, false)];
    all_pass(session, one, rows, policies)
}

/// Whether he could have made the archived rows by an update, were they live.
pub fn would_be_let(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<bool> {
    let policies = [(Command::Select, false), (Command::Update, true)];
    all_pass(session, one, rows, policies)
}

fn all_pass(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    [first, second]: [(Command, bool); 2],
) -> Outcome<bool> {
    if !is_bound(session, &one.table)? {
        return Ok(true);
    }
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {ROWS} AS {name} WHERE (({first}) AND ({second})) IS NOT TRUE",
        name = one.table.name.name,
        first = policies_of(session, &one.table, first)?,
        second = policies_of(session, &one.table, second)?,
    );
    counts_none(session, &one.table, &one.whole_query(rows), &sql)
}

/// Whether a query that counts rows of [`ROWS`], under policies that bind the caller, counts none. The rows are computed as the owner of
/// the table: no setting of the caller's changes what the policies are asked about.
fn counts_none(
    session: &mut Session<'_, '_>,
    table: &Table,
    rows: &str,
    sql: &str,
) -> Outcome<bool> {
    let count: Option<i64> = session.with_owners_rows(table, rows, |session| {
        let counted = session.as_caller_under_policies(sql, &[])?;
        Ok(counted.first().get_one()?)
    })?;
    Ok(count == Some(0))
}

/// The table's policies for a kind of statement that bind the caller, as one condition on a row.
fn policies(session: &Session<'_, '_>, table: &Table, command: Command) -> Outcome<String> {
    policies_of(
        session,
        table,
        (command, matches!(command, Command::Insert)),
    )
}

/// The same; with `checks` as they check a row that is written.
fn policies_of(
    session: &Session<'_, '_>,
    table: &Table,
    (command, checks): (Command, bool),
) -> Outcome<String> {
    let rows = session
        .catalog_in_callers_path(
            POLICIES,
            &[table.oid.into(), command.code().into(), checks.into()],
        )?
        .first();
    if rows.get_by_name::<bool, _>("active")? == Some(false) {
        return Ok("true".into());
    }
    let permissive: Option<String> = rows.get_by_name("permissive")?;
    let restrictive: Option<String> = rows.get_by_name("restrictive")?;
    Ok(format!(
        "({}) AND ({})",
        permissive.unwrap_or_else(|| "false".into()),
        restrictive.unwrap_or_else(|| "true".into())
    ))
}
