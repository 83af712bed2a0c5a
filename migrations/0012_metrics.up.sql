-- What an operator watches, of all tenants at once: the numbers of the extension and of the attachments.

-- One number a line, as keepsake.metrics has them. What is gone for good is counted in no state.
CREATE VIEW attachments.metrics (metric, labels, value) AS
WITH files AS MATERIALIZED (
    SELECT CASE WHEN a.deleted_at IS NOT NULL THEN 'deleted' ELSE a.state END AS state,
           pg_catalog.count(*) AS files, pg_catalog.sum(a.byte_size) AS bytes
    FROM attachments.attachment a
    GROUP BY 1),
uploads AS MATERIALIZED (
    SELECT pg_catalog.count(*) AS pending,
           pg_catalog.count(*) FILTER (WHERE s.expires_at < pg_catalog.now()) AS overdue
    FROM attachments.upload_set s
    WHERE s.state = 'pending'),
states (state) AS (
    VALUES ('pending'), ('uploaded'), ('available'), ('rejected'), ('quarantined'), ('deleted'))
SELECT 'keepsake_attachments', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.files, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_attachment_bytes', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.bytes, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_uploads_pending', '{}', pending::double precision FROM uploads
UNION ALL
SELECT 'keepsake_uploads_overdue', '{}', overdue::double precision FROM uploads;
COMMENT ON VIEW attachments.metrics IS 'Attachments and their bytes by state, and open uploads, one number a line, as a Prometheus page has them.';

CREATE FUNCTION attachments_api.metrics() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_agg(
        jsonb_build_object('metric', m.metric, 'labels', m.labels, 'value', m.value) ORDER BY m.metric, m.labels))
    FROM (TABLE keepsake.metrics UNION ALL TABLE attachments.metrics) AS m (metric, labels, value)
    WHERE m.value IS NOT NULL
$$;
REVOKE ALL ON FUNCTION attachments_api.metrics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.metrics() TO keepsake_worker;
