//! Takes the rows that hang on rows of their own table, at whatever depth, at once: to go from level to level takes two statements for each, and a chain
//! has as many levels as rows.

use pgrx::Uuid;
use pgrx::datum::DatumWithOid;

use crate::model::error::{Failure, Outcome};
use crate::model::reference::Reference;
use crate::model::row_id::{RowId, as_arguments};
use crate::model::sql::join;
use crate::model::table::Table;
use crate::postgres::column_type::is_hashable;
use crate::postgres::settings::no_whole_tables;
use crate::spi::session::Session;

/// How many levels are taken one by one before: most trees end there.
pub const LEVELS: usize = 4;

/// How many rows are taken at once, which are in memory meanwhile.
pub const MOST: usize = 10_000;

/// Where rows begin to hang: a source of rows `p`, the condition on them, and the arguments of both.
pub struct Above<'a> {
    pub source: String,
    pub condition: &'a str,
    pub arguments: Vec<DatumWithOid<'static>>,
}

/// Whether the rows that hang on each other by this reference can be found at once: PostgreSQL hashes them to know each again.
pub fn can_follow(reference: &Reference, table: &Table) -> bool {
    let mut referred = reference.pairs.iter().map(|pair| &pair.parent.0);
    referred.all(|column| is_hashable(table.oid, column))
}

/// Locks the live rows of `table` that hang on those above, and marks them: all of them or, of many, the upper ones. Answers with them; with none, and
/// nothing marked, where one of them has been changed while it was waited for: then what hangs on it can only be told level by level.
pub fn take(
    session: &mut Session<'_, '_>,
    (reference, table): (&Reference, &Table),
    above: &Above<'_>,
    deletion: Uuid,
) -> Outcome<Vec<RowId>> {
    let Some(rows) = lock(session, reference, table, above)? else {
        return Ok(Vec::new());
    };
    if rows.is_empty() {
        return Ok(rows);
    }
    let mark = format!(
        "UPDATE {rows} AS c SET deleted_at = pg_catalog.now(), deletion_id = $1
         FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS f (relation, row)
         WHERE c.ctid OPERATOR(pg_catalog.=) f.row AND c.tableoid OPERATOR(pg_catalog.=) f.relation
         RETURNING c.tableoid, c.ctid",
        rows = table.rows(),
    );
    let [relations, places] = as_arguments(&rows);
    let marked = session.write(table, &mark, &[deletion.into(), relations, places])?;
    let marked = RowId::read_all(marked)?;
    if marked.len() == rows.len() {
        return Ok(marked);
    }
    Err(Failure::Prevented {
        table: table.shown.clone(),
    })
}

/// Locks the rows, and answers with them; `None` where one is not what it was when it was found.
fn lock(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    table: &Table,
    above: &Above<'_>,
) -> Outcome<Option<Vec<RowId>>> {
    let rows = table.rows();
    // As the columns of a parent's row, whose names the condition of the reference has.
    let referred = |alias: &str| {
        let columns = reference.pairs.iter().map(|pair| &pair.parent);
        join(columns.map(|column| format!("{alias}.{column}")), ", ")
    };
    let names = join(reference.pairs.iter().map(|pair| &pair.parent), ", ");
    let joins = reference.joins("c", "p");
    let sql = format!(
        "WITH RECURSIVE found (keepsake_relation, keepsake_row, {names}) AS (
             SELECT c.tableoid, c.ctid, {columns} FROM {source} JOIN {rows} AS c ON {condition} AND {joins} AND c.deleted_at IS NULL
             UNION
             SELECT c.tableoid, c.ctid, {columns} FROM found AS p JOIN {rows} AS c ON {joins} AND c.deleted_at IS NULL),
         taken AS MATERIALIZED (SELECT keepsake_relation, keepsake_row FROM found LIMIT {MOST})
         SELECT c.tableoid, c.ctid, s.keepsake_relation, s.keepsake_row, (SELECT pg_catalog.count(*) FROM taken) FROM taken AS s
         JOIN {rows} AS c ON c.ctid OPERATOR(pg_catalog.=) s.keepsake_row AND c.tableoid OPERATOR(pg_catalog.=) s.keepsake_relation
         ORDER BY {key} FOR UPDATE OF c",
        columns = referred("c"),
        source = above.source,
        condition = above.condition,
        key = table.key_columns("c"),
    );
    // Level by level is how `found` finds them: what is left over by its limit hangs on rows that are taken, or above.
    let _plan = no_whole_tables();
    let mut locked = Vec::new();
    let mut found = 0;
    for row in session.as_owner(table, &sql, &above.arguments)? {
        // A statement that has waited for a row goes on with the latest version of it, and does not compare its address again.
        let (one, was) = (RowId::read(&row, 1)?, RowId::read(&row, 3)?);
        if one != was {
            return Ok(None);
        }
        locked.extend(one);
        found = row.get::<i64>(5)?.unwrap_or(0);
    }
    Ok((i64::try_from(locked.len()) == Ok(found)).then_some(locked))
}
