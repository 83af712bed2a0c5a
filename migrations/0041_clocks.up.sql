-- Clocks that differ: the worker's decides when an upload URL has run out, the database's when its upload is given up.
-- Where the worker's is behind, a URL still works when the database calls it over. So what is given up is deleted for the
-- last time, and its quota given back, when no URL can store it by a clock that is five minutes off.

CREATE FUNCTION attachments.clock_tolerance() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT interval '5 minutes'
$$;

-- BEFORE UPDATE, of what is given up for whatever reason.
CREATE FUNCTION attachments.outlast_clocks() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.writable_until := NEW.writable_until + attachments.clock_tolerance();
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION attachments.outlast_clocks FROM PUBLIC;
CREATE TRIGGER outlast_clocks BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (NEW.state = 'rejected' AND OLD.state <> 'rejected')
    EXECUTE FUNCTION attachments.outlast_clocks();

-- A part may still arrive by a URL that was signed before: they are given up once more when none works any longer.
CREATE OR REPLACE FUNCTION attachments_api.settle_multiparts(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH given_up AS (
        SELECT m.attachment_id, s.expires_at + attachments.clock_tolerance() + interval '1 minute' AS last_part
        FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
        WHERE m.attachment_id = ANY (ARRAY(SELECT jsonb_array_elements_text(request -> 'given_up')::uuid))
    ), gone AS (
        DELETE FROM attachments.multipart m USING given_up g
        WHERE m.attachment_id = g.attachment_id AND g.last_part < now()
    )
    UPDATE attachments.multipart m SET next_attempt_at = g.last_part, attempts = 0, last_error = NULL
    FROM given_up g WHERE m.attachment_id = g.attachment_id AND g.last_part >= now();

    UPDATE attachments.multipart m
    SET attempts = m.attempts + 1, last_error = left(f ->> 'error', 500),
        next_attempt_at = now() + least(interval '10 seconds' * (2 ^ least(m.attempts, 20)), interval '1 hour')
    FROM jsonb_array_elements(request -> 'failed') AS f
    WHERE m.attachment_id = (f ->> 'attachment_id')::uuid;
    RETURN attachments.ok('{}');
END
$$;
