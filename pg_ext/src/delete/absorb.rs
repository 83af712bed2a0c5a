//! What becomes of deletions whose rows went over to another one of the same transaction.

use pgrx::Uuid;

use crate::model::error::Outcome;
use crate::model::table::Table;
use crate::registry::deletion_group;
use crate::spi::session::{Session, first_column};

const COUNT: &str = "
    UPDATE keepsake.deletion_table AS d SET row_count = coalesce(n.rows, 0)
    FROM unnest($1) AS o (id) LEFT JOIN unnest($2, $3) AS n (id, rows) USING (id)
    WHERE d.deletion_id = o.id AND d.relation = $4 AND d.row_count <> coalesce(n.rows, 0)
    RETURNING d.deletion_id";

/// What let go of rows of an empty deletion, and what holds it, goes over as well; then it is as if it had not been made.
const EMPTY: [&str; 3] = [
    "UPDATE keepsake.detached SET deletion_id = $2 WHERE deletion_id = ANY ($1)",
    "UPDATE keepsake.hold SET deletion_id = $2 WHERE deletion_id = ANY ($1) AND released_at IS NULL",
    "DELETE FROM keepsake.deletion WHERE id = ANY ($1) AND id <> $2",
];

/// Counts anew the rows of `table` in the transaction's other deletions, and gives up those that have none left in any table.
pub fn settle(session: &mut Session<'_, '_>, table: &Table, deletion: Uuid) -> Outcome<()> {
    let others = deletion_group::others_of(deletion, table.oid);
    if others.is_empty() {
        return Ok(());
    }
    let (mut ids, mut counts) = (Vec::new(), Vec::new());
    let left = format!(
        "SELECT t.deletion_id, count(*) FROM {} AS t WHERE t.deletion_id = ANY ($1) GROUP BY t.deletion_id",
        table.rows()
    );
    for row in session.as_owner(table, &left, &[others.clone().into()])? {
        ids.push(row.get::<Uuid>(1)?);
        counts.push(row.get::<i64>(2)?);
    }
    let counted = [
        others.clone().into(),
        ids.into(),
        counts.into(),
        table.oid.into(),
    ];
    if session.registry(COUNT, &counted)?.is_empty() {
        return Ok(());
    }
    let empty = session.registry(
        "SELECT id FROM keepsake.deletion AS d WHERE id = ANY ($1) AND state = 'deleted' AND NOT EXISTS (
             SELECT FROM keepsake.deletion_table AS t WHERE t.deletion_id = d.id AND t.row_count > 0)",
        &[others.into()],
    )?;
    let empty: Vec<Uuid> = first_column(empty)?;
    if !empty.is_empty() {
        for sql in EMPTY {
            session.registry(sql, &[empty.clone().into(), deletion.into()])?;
        }
    }
    Ok(())
}
