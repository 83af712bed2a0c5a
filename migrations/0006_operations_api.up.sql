-- What the worker's schedule calls. These cross tenants, so they run with the rights of who migrates.

CREATE FUNCTION attachments_api.ping() RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT '{"ok": {}}'::jsonb
$$;

-- Ends sets whose time ran out a minute ago, when none can be completed any more: what was uploaded of them
-- goes to the outbox.
CREATE FUNCTION attachments_api.sweep_uploads(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Closing takes time by the file: enough for one call, well within the worker's patience.
    files_left integer := 1000;
    overdue record;
    closed integer := 0;
    stuck bigint;
BEGIN
    FOR overdue IN
        SELECT s.id, s.file_count FROM attachments.upload_set s
        WHERE s.state = 'pending' AND s.expires_at < now() - interval '1 minute'
        ORDER BY s.expires_at
        LIMIT (request ->> 'limit')::integer
        FOR UPDATE SKIP LOCKED
    LOOP
        PERFORM attachments.close_upload(overdue.id, 'expired', NULL);
        closed := closed + 1;
        files_left := files_left - overdue.file_count;
        EXIT WHEN files_left <= 0;
    END LOOP;
    -- Files that failed while their entity was deleted came back with it; others could not be removed yet. In
    -- no order, so that those that still cannot do not stand before the rest.
    SELECT count(*) FILTER (WHERE NOT attachments.remove_rejected(rejected.id)) INTO stuck
    FROM (SELECT r.id FROM attachments.attachment r
          WHERE r.state = 'rejected' AND r.deleted_at IS NULL
          ORDER BY random()
          LIMIT (request ->> 'limit')::integer) AS rejected;
    RETURN attachments.ok(jsonb_build_object('expired', closed, 'failed', stuck));
END
$$;

CREATE FUNCTION attachments_api.purge(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    report jsonb := keepsake.purge_batch((request ->> 'limit')::integer);
BEGIN
    RETURN attachments.ok(jsonb_build_object(
        'purged', report -> 'rows', 'failed', report -> 'failed', 'tables', report -> 'tables', 'more', report -> 'more'));
END
$$;

CREATE FUNCTION attachments_api.lease_objects(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    leased jsonb;
BEGIN
    SELECT jsonb_build_object(
        'lease', min(o.lease::text),
        'objects', coalesce(jsonb_agg(jsonb_build_object('id', o.id, 'object_key', o.object_key) ORDER BY o.id), '[]'))
    INTO leased
    FROM keepsake.lease_objects(
        (request ->> 'limit')::integer, make_interval(secs => (request ->> 'lease_seconds')::double precision)) AS o;
    RETURN attachments.ok(leased);
END
$$;

CREATE FUNCTION attachments_api.settle_objects(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lease uuid := (request ->> 'lease')::uuid;
    failure record;
BEGIN
    PERFORM keepsake.ack_objects(lease, ARRAY(SELECT jsonb_array_elements_text(request -> 'deleted')::bigint));
    FOR failure IN
        SELECT f ->> 'error' AS error, array_agg((f ->> 'id')::bigint) AS ids
        FROM jsonb_array_elements(request -> 'failed') AS f GROUP BY 1
    LOOP
        PERFORM keepsake.nack_objects(lease, failure.ids, coalesce(failure.error, 'unknown'));
    END LOOP;
    RETURN attachments.ok('{}');
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA attachments_api FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.ping, attachments_api.sweep_uploads, attachments_api.purge,
    attachments_api.lease_objects, attachments_api.settle_objects
TO keepsake_worker;
