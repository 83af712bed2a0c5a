-- Numbers for an operator, of all tenants together: now, and sampled over time.

-- One number a line, as keepsake.metrics has them. What is purged is counted in no state.
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
    VALUES ('pending'), ('uploaded'), ('scanning'), ('available'), ('rejected'), ('quarantined'), ('former'), ('deleted'))
SELECT 'keepsake_attachments', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.files, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_attachment_bytes', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.bytes, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_uploads_pending', '{}', pending::double precision FROM uploads
UNION ALL
SELECT 'keepsake_uploads_overdue', '{}', overdue::double precision FROM uploads
UNION ALL
SELECT 'keepsake_events', pg_catalog.jsonb_build_object('state', s.state), (
    SELECT pg_catalog.count(*) FROM attachments.event e WHERE (e.dead_at IS NOT NULL) = (s.state = 'dead'))::double precision
FROM (VALUES ('waiting'), ('dead')) AS s (state);
COMMENT ON VIEW attachments.metrics IS 'Metrics of attachments and their bytes by state, and of open uploads, one value per row, as in a Prometheus exposition.';

CREATE TABLE attachments.sample (
    taken_at          timestamptz PRIMARY KEY DEFAULT now(),
    -- Attachments and their bytes, by state.
    files             jsonb NOT NULL,
    bytes             jsonb NOT NULL,
    open_deletions    bigint NOT NULL,
    held_deletions    bigint NOT NULL,
    failed_deletions  bigint NOT NULL,
    expired_rows      bigint NOT NULL,
    outbox_waiting    bigint NOT NULL,
    outbox_dead       bigint NOT NULL,
    uploads_pending   bigint NOT NULL
);
COMMENT ON TABLE attachments.sample IS
    'Metrics that scheduled runs recorded: all of the last two days, one per hour for 30 days, one per day for two years; about 2000 rows in all.';

CREATE FUNCTION attachments_api.metrics() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_agg(
        jsonb_build_object('metric', m.metric, 'labels', m.labels, 'value', m.value) ORDER BY m.metric, m.labels))
    FROM (TABLE keepsake.metrics UNION ALL TABLE attachments.metrics) AS m (metric, labels, value)
    WHERE m.value IS NOT NULL
$$;

-- Keeps of old samples the first of each hour, of older ones the first of each day.
CREATE FUNCTION attachments.thin_samples() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM attachments.sample s USING (
        SELECT taken_at, row_number() OVER (
            PARTITION BY date_trunc(CASE WHEN taken_at < now() - interval '30 days' THEN 'day' ELSE 'hour' END, taken_at)
            ORDER BY taken_at) AS place
        FROM attachments.sample WHERE taken_at < now() - interval '2 days') AS old
    WHERE s.taken_at = old.taken_at AND (old.place > 1 OR old.taken_at < now() - interval '2 years')
$$;

REVOKE ALL ON FUNCTION attachments.thin_samples FROM PUBLIC;

-- Counting walks through all attachments, so runs that follow each other closely skip it.
CREATE FUNCTION attachments_api.take_sample(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM attachments.sample s WHERE s.taken_at > now() - interval '4 minutes') THEN
        RETURN attachments.ok('{"taken": 0}');
    END IF;
    INSERT INTO attachments.sample
    SELECT now(),
           jsonb_object_agg(m.labels ->> 'state', m.value::bigint) FILTER (WHERE m.metric = 'keepsake_attachments'),
           jsonb_object_agg(m.labels ->> 'state', m.value::bigint) FILTER (WHERE m.metric = 'keepsake_attachment_bytes'),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_open_deletions'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_held_deletions'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_failed_deletions'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_expired_rows'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_outbox_objects' AND m.labels ->> 'state' <> 'dead'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_outbox_objects' AND m.labels ->> 'state' = 'dead'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_uploads_pending'), 0)
    FROM (TABLE keepsake.metrics UNION ALL TABLE attachments.metrics) AS m (metric, labels, value)
    ON CONFLICT DO NOTHING;
    PERFORM attachments.thin_samples();
    RETURN attachments.ok('{"taken": 1}');
END
$$;

-- At most 500 of the samples between two moments: the last of each stretch.
CREATE FUNCTION attachments_api.get_history(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upto timestamptz := coalesce((request ->> 'to')::timestamptz, now());
    since timestamptz := coalesce((request ->> 'from')::timestamptz, upto - interval '7 days');
BEGIN
    IF since >= upto THEN
        RETURN attachments.fail('invalid_field', 'The field from must be a time before to.');
    END IF;
    RETURN attachments.ok(jsonb_build_object('from', since, 'to', upto, 'items', (
        SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.taken_at), '[]')
        FROM attachments.sample s
        WHERE s.taken_at IN (
            SELECT max(in_time.taken_at)
            FROM attachments.sample in_time
            WHERE in_time.taken_at BETWEEN since AND upto
            GROUP BY width_bucket(extract(epoch FROM in_time.taken_at)::double precision,
                                  extract(epoch FROM since)::double precision, extract(epoch FROM upto)::double precision, 499)))));
END
$$;

REVOKE ALL ON FUNCTION attachments_api.metrics, attachments_api.take_sample, attachments_api.get_history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.metrics, attachments_api.take_sample, attachments_api.get_history TO keepsake_worker;
