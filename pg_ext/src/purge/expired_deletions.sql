-- Deletions that are due, behind the deletion $2 if given, longest expired first; each is locked as it is fetched.
SELECT d.id,
       (SELECT sum(t.row_count - t.purged) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id)::bigint,
       d.root_table::oid
FROM keepsake.deletion d
WHERE {is_due}
  AND (d.expires_at, d.id) > (coalesce((SELECT a.expires_at FROM keepsake.deletion a WHERE a.id = $2), '-infinity'),
                              coalesce($2, '00000000-0000-0000-0000-000000000000'))
ORDER BY d.expires_at, d.id
FOR UPDATE OF d SKIP LOCKED
