-- The worker's schedule: purging, how long bytes stay after it, draining the outbox, and what each run did. These cross tenants, so they run with the rights of
-- who migrates.

CREATE TABLE attachments.run (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    step        text NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('done', 'failed')),
    -- What was done, by name.
    counts      jsonb,
    -- Why it failed.
    error       text
);
CREATE INDEX run_age ON attachments.run (finished_at);
CREATE INDEX run_failed ON attachments.run (id) WHERE outcome = 'failed';
COMMENT ON TABLE attachments.run IS 'Each step of each scheduled run, kept for 30 days. Runs that were interrupted are missing.';

-- The row that a server locks while it does the scheduled work. Not an advisory lock, which any role that may connect can take.
CREATE TABLE attachments.schedule (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only)
);
COMMENT ON TABLE attachments.schedule IS 'One row, which is locked by the server that does the scheduled work.';
INSERT INTO attachments.schedule DEFAULT VALUES;

-- Bytes after the purge ----------------------------------------------------------------------------

-- How long the bytes of purged files stay, so that a database that is restored to a moment before the purge finds them.
CREATE TABLE attachments.object_grace (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    grace   interval NOT NULL DEFAULT '7 days' CHECK (grace >= '0')
);
COMMENT ON TABLE attachments.object_grace IS
    'How long the bytes of purged files stay in the bucket. Set it to how far back the database can be restored.';
INSERT INTO attachments.object_grace DEFAULT VALUES;

-- AFTER DELETE, which is the purge, behind the trigger that enters the objects (triggers fire by name). What was never visible is
-- missed by no earlier moment; what is erased is gone at once.
CREATE FUNCTION attachments.wait_for_backups() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept interval := (SELECT g.grace FROM attachments.object_grace g);
BEGIN
    IF kept > '0' AND current_setting('attachments.erasing', true) IS DISTINCT FROM 'on' THEN
        UPDATE keepsake.outbox o SET next_attempt_at = now() + kept
        FROM gone g
        WHERE o.object_key = g.object_key AND g.state IN ('available', 'quarantined', 'former') AND o.attempts = 0 AND o.lease IS NULL;
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION attachments.wait_for_backups FROM PUBLIC;
CREATE TRIGGER wait_for_backups AFTER DELETE ON attachments.attachment
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION attachments.wait_for_backups();

-- The schedule's calls -----------------------------------------------------------------------------

CREATE FUNCTION attachments_api.ping() RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT '{"ok": {}}'::jsonb
$$;

-- Whether the caller does the scheduled work: as long as its transaction lives, and nobody else meanwhile. Without the row (after a
-- TRUNCATE, or a restore of the schema alone) nobody could, and everybody would take it for locked.
CREATE FUNCTION attachments_api.lead_schedule(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM attachments.schedule FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        RETURN attachments.ok('{"leads": true}');
    END IF;
    IF NOT EXISTS (SELECT FROM attachments.schedule) THEN
        RAISE 'attachments.schedule has lost its row, so that no server can do the scheduled work'
            USING ERRCODE = 'no_data_found', HINT = 'INSERT INTO attachments.schedule DEFAULT VALUES';
    END IF;
    RETURN attachments.ok('{"leads": false}');
END
$$;

CREATE FUNCTION attachments_api.purge(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    report jsonb := keepsake.purge_batch((request ->> 'limit')::integer, whole_months => true);
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

CREATE FUNCTION attachments_api.record_run(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.run (step, started_at, finished_at, outcome, counts, error)
    SELECT r.step, to_timestamp(r.started), to_timestamp(r.finished),
           CASE WHEN r.error IS NULL AND coalesce((r.counts ->> 'failed')::bigint, 0) = 0 THEN 'done' ELSE 'failed' END,
           r.counts, r.error
    FROM jsonb_to_recordset(request -> 'steps') AS r (step text, started bigint, finished bigint, counts jsonb, error text);
    DELETE FROM attachments.run WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM attachments.run r WHERE r.finished_at < now() - interval '30 days' ORDER BY r.finished_at LIMIT 1000));
    RETURN attachments.ok('{}');
END
$$;

-- Newest first, all or those that failed, and how the audit stands. No key and no tenant is named.
CREATE FUNCTION attachments_api.list_runs(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    runs jsonb;
BEGIN
    EXECUTE format('SELECT coalesce(jsonb_agg(to_jsonb(r) - ''id'' ORDER BY r.id DESC), ''[]'')
                    FROM (SELECT * FROM attachments.run WHERE %s ORDER BY id DESC LIMIT $1) AS r',
                   CASE WHEN request ->> 'outcome' = 'failed' THEN 'outcome = ''failed''' ELSE 'true' END)
    INTO runs USING (request ->> 'limit')::integer;
    RETURN attachments.ok(jsonb_build_object('items', runs, 'audit', (
        SELECT jsonb_build_object(
            'pass', a.pass, 'pass_finished_at', a.pass_finished_at,
            'orphans', count(*) FILTER (WHERE f.kind = 'orphan'), 'missing', count(*) FILTER (WHERE f.kind = 'missing'))
        FROM attachments.audit a LEFT JOIN attachments.audit_finding f ON true GROUP BY a.is_only)));
END
$$;

REVOKE ALL ON FUNCTION
    attachments_api.ping, attachments_api.lead_schedule, attachments_api.purge, attachments_api.lease_objects, attachments_api.settle_objects,
    attachments_api.record_run, attachments_api.list_runs
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.ping, attachments_api.lead_schedule, attachments_api.purge, attachments_api.lease_objects, attachments_api.settle_objects,
    attachments_api.record_run, attachments_api.list_runs
TO keepsake_worker;
