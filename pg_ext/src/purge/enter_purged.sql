-- Enters purged rows in the registry: $1 deletions, $2 tables, $3 how many rows, $4 and $5 who purges.
-- A deletion with no row left is done; the others can no longer be restored either, nor what let go of them.
WITH gone AS MATERIALIZED (
    SELECT g.deletion_id, g.relation, g.rows FROM unnest($1, $2, $3) AS g (deletion_id, relation, rows)),
entered AS (
    UPDATE keepsake.deletion_table d
    SET purged = d.purged + g.rows
    FROM gone g WHERE d.deletion_id = g.deletion_id AND d.relation = g.relation
    RETURNING 1),
forgotten AS (
    DELETE FROM keepsake.detached WHERE deletion_id = ANY ($1)),
forgotten_too AS (
    DELETE FROM keepsake.archive_undo WHERE deletion_id = ANY ($1))
UPDATE keepsake.deletion d
SET state = CASE WHEN r.left_over THEN 'purging' ELSE 'purged' END,
    settled_at = CASE WHEN r.left_over THEN NULL ELSE now() END,
    settled_role = $4::text::name, settled_session_role = $5::text::name,
    put_off_at = NULL
FROM (SELECT t.deletion_id, bool_or(t.purged + coalesce(g.rows, 0) < t.row_count) AS left_over
      FROM keepsake.deletion_table t
      LEFT JOIN gone g ON g.deletion_id = t.deletion_id AND g.relation = t.relation
      WHERE t.deletion_id = ANY ($1) GROUP BY t.deletion_id) AS r
WHERE d.id = r.deletion_id AND d.id = ANY ($1)
