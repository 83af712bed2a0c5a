-- Completion by the schedule: uploads whose client never said that it was done are looked at before their time is over.

ALTER TABLE attachments.upload_set ADD COLUMN next_look_at timestamptz;
COMMENT ON COLUMN attachments.upload_set.next_look_at IS
    'When the schedule looks again whether the files of an open upload are there; NULL: it has not looked yet.';

-- The open upload that ends next, of those that end soon and are due for a look: who declared it, in whose name the worker
-- then completes it; null when none is due. The next look comes when half of what is left of its time has passed, so that
-- there are few of them and the last is near the end; until then no other run takes it.
CREATE FUNCTION attachments_api.lease_open_upload(request jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT s.id FROM attachments.upload_set s
        WHERE s.state = 'pending' AND s.expires_at > now()
          AND s.expires_at <= now() + make_interval(secs => (request ->> 'lead_seconds')::double precision)
          AND coalesce(s.next_look_at, '-infinity') <= now()
        ORDER BY s.expires_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE attachments.upload_set s
        SET next_look_at = now() + greatest(
            make_interval(secs => (request ->> 'lease_seconds')::double precision), (s.expires_at - now()) / 2)
        FROM due WHERE s.id = due.id
        RETURNING jsonb_build_object('upload_id', s.id, 'tenant', s.tenant_id, 'subject', s.created_by) AS upload
    )
    SELECT attachments.ok(coalesce((SELECT t.upload FROM taken t), 'null'))
$$;
REVOKE ALL ON FUNCTION attachments_api.lease_open_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.lease_open_upload TO keepsake_worker;
