-- Leases up to $2 due objects under the lease $1 for $3.
WITH due AS MATERIALIZED (
    SELECT o.id FROM keepsake.outbox o
    WHERE o.dead_at IS NULL AND o.next_attempt_at <= now()
      AND (o.leased_until IS NULL OR o.leased_until <= now())
      AND o.lease IS DISTINCT FROM $1
    ORDER BY o.next_attempt_at, o.id
    LIMIT $2
    FOR UPDATE SKIP LOCKED)
UPDATE keepsake.outbox o
SET lease = $1, leased_until = now() + $3
FROM due
WHERE o.id = due.id
RETURNING o.id, o.object_key, o.relation::oid
