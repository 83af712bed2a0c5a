-- What a deletion d must be to be purged as of $1 (now, when NULL). OFFSET 0 keeps the checks of single deletions: joined as a whole they
-- would cost the order that an index gives.
d.state IN ('deleted', 'purging')
  AND d.expires_at <= coalesce($1, now()) AND d.expires_at < 'infinity'
  AND (d.purge_failed_at <= coalesce($1, now()) - interval '1 hour') IS NOT FALSE
  AND (d.put_off_at <= coalesce($1, now()) - interval '10 minutes') IS NOT FALSE
  AND NOT EXISTS (SELECT FROM keepsake.hold h WHERE h.deletion_id = d.id AND h.released_at IS NULL OFFSET 0)
  AND NOT EXISTS (SELECT FROM keepsake.hold h WHERE h.tenant = d.tenant AND h.released_at IS NULL OFFSET 0)
