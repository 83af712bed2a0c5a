UPDATE keepsake.deletion_table d
SET purged = d.purged + g.rows
FROM unnest($1, $2) AS g (deletion_id, rows)
WHERE d.deletion_id = g.deletion_id AND d.relation = $3
