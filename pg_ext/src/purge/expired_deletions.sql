-- Deletions expired at $1 (now, when NULL), behind the deletion $2 if given, longest expired first; each
-- is locked as it is fetched. OFFSET 0 keeps the checks of single deletions: joined as a whole they
-- would cost the order that the index gives.
SELECT d.id,
       (SELECT sum(t.row_count - t.purged) FROM keepsake.deletion_table t WHERE t.deletion_id = d.id)::bigint,
       d.root_table::oid
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging')
  AND d.expires_at <= coalesce($1, now()) AND d.expires_at < 'infinity'
  AND (d.expires_at, d.id) > (coalesce((SELECT a.expires_at FROM keepsake.deletion a WHERE a.id = $2), '-infinity'),
                              coalesce($2, '00000000-0000-0000-0000-000000000000'))
  AND (d.purge_failed_at <= coalesce($1, now()) - interval '1 hour') IS NOT FALSE
  AND (d.put_off_at <= coalesce($1, now()) - interval '10 minutes') IS NOT FALSE
  AND NOT EXISTS (SELECT FROM keepsake.hold h WHERE h.deletion_id = d.id AND h.released_at IS NULL OFFSET 0)
  AND NOT EXISTS (SELECT FROM keepsake.hold h WHERE h.tenant = d.tenant AND h.released_at IS NULL OFFSET 0)
ORDER BY d.expires_at, d.id
FOR UPDATE OF d SKIP LOCKED
