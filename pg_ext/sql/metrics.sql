-- What an operator watches, one line a number, read from the registry alone.
CREATE VIEW keepsake.metrics (metric, labels, value) AS
WITH expired AS MATERIALIZED (
    SELECT t.relation, pg_catalog.sum(t.row_count OPERATOR(pg_catalog.-) t.purged) AS rows, pg_catalog.min(d.expires_at) AS oldest
    FROM keepsake.deletion d
    JOIN keepsake.deletion_table t ON t.deletion_id OPERATOR(pg_catalog.=) d.id
    WHERE d.state IN ('deleted', 'purging') AND d.expires_at OPERATOR(pg_catalog.<=) pg_catalog.now()
      AND t.purged OPERATOR(pg_catalog.<) t.row_count
    GROUP BY t.relation),
queue AS MATERIALIZED (
    SELECT CASE WHEN dead_at IS NOT NULL THEN 'dead'
                WHEN leased_until OPERATOR(pg_catalog.>) pg_catalog.now() THEN 'leased' ELSE 'waiting' END AS state,
           -- What is kept for a while waits from then on.
           CASE WHEN attempts OPERATOR(pg_catalog.=) 0 THEN next_attempt_at ELSE enqueued_at END AS since
    FROM keepsake.outbox),
last_run AS (
    SELECT rows, extract(epoch FROM last_batch_at OPERATOR(pg_catalog.-) started_at)::double precision AS seconds
    FROM keepsake.purge_run WHERE rows OPERATOR(pg_catalog.>) 0 AND pid IS NOT NULL ORDER BY id DESC LIMIT 1)
SELECT 'keepsake_expired_rows', pg_catalog.jsonb_build_object('table', relation::text), rows::double precision FROM expired
UNION ALL
SELECT 'keepsake_oldest_expired_seconds', pg_catalog.jsonb_build_object('table', relation::text),
       extract(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) oldest)::double precision FROM expired
UNION ALL
SELECT 'keepsake_open_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion WHERE state IN ('deleted', 'purging')
UNION ALL
SELECT 'keepsake_failed_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion WHERE state IN ('deleted', 'purging') AND purge_failed_at IS NOT NULL
UNION ALL
SELECT 'keepsake_put_off_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion WHERE put_off_at IS NOT NULL
UNION ALL
SELECT 'keepsake_holds', pg_catalog.jsonb_build_object('on', k.kind),
       pg_catalog.count(h.id)::double precision
FROM (VALUES ('row'), ('deletion'), ('tenant')) AS k (kind)
LEFT JOIN keepsake.hold h ON h.released_at IS NULL AND k.kind OPERATOR(pg_catalog.=)
    CASE WHEN h.row_key IS NOT NULL THEN 'row' WHEN h.deletion_id IS NOT NULL THEN 'deletion' ELSE 'tenant' END
GROUP BY k.kind
UNION ALL
SELECT 'keepsake_held_deletions', '{}', pg_catalog.count(*)::double precision
FROM keepsake.deletion d
WHERE d.state IN ('deleted', 'purging')
  AND EXISTS (SELECT FROM keepsake.hold h WHERE h.released_at IS NULL AND
      (h.deletion_id OPERATOR(pg_catalog.=) d.id OR h.tenant OPERATOR(pg_catalog.=) d.tenant))
UNION ALL
SELECT 'keepsake_purged_rows_total', '{}', coalesce(pg_catalog.sum(rows), 0)::double precision FROM keepsake.purge_run
UNION ALL
SELECT 'keepsake_purge_failures_total', '{}', coalesce(pg_catalog.sum(failed), 0)::double precision FROM keepsake.purge_run
UNION ALL
SELECT 'keepsake_last_purge_rows_per_second', '{}', rows OPERATOR(pg_catalog./) nullif(seconds, 0) FROM last_run
UNION ALL
SELECT 'keepsake_outbox_objects', pg_catalog.jsonb_build_object('state', s.state), pg_catalog.count(q.state)::double precision
FROM (VALUES ('waiting'), ('leased'), ('dead')) AS s (state)
LEFT JOIN queue q ON q.state OPERATOR(pg_catalog.=) s.state
GROUP BY s.state
UNION ALL
SELECT 'keepsake_outbox_oldest_seconds', '{}',
       greatest(coalesce(extract(epoch FROM pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.min(since))::double precision, 0), 0)
FROM queue WHERE state OPERATOR(pg_catalog.=) 'waiting';
COMMENT ON VIEW keepsake.metrics IS 'Metrics of the purge backlog, holds, purges and the outbox, one value per row, as in a Prometheus exposition.';
