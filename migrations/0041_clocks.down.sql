CREATE OR REPLACE FUNCTION attachments_api.settle_multiparts(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    WITH given_up AS (
        SELECT m.attachment_id, s.expires_at + interval '1 minute' AS last_part
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

DROP TRIGGER outlast_clocks ON attachments.attachment;
DROP FUNCTION attachments.outlast_clocks();
DROP FUNCTION attachments.clock_tolerance();
