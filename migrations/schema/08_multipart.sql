-- Files that are uploaded in parts. What belongs together (tenant, upload, key, part size, the store's id for it) stands here and is
-- never taken from a client.

CREATE TABLE attachments.multipart (
    -- Outlives the attachment's row until the store has given up its parts.
    attachment_id   uuid PRIMARY KEY,
    upload_set_id   uuid NOT NULL REFERENCES attachments.upload_set (id),
    tenant_id       text NOT NULL,
    object_key      text NOT NULL,
    storage_id      text NOT NULL CHECK (storage_id <> ''),
    part_size       bigint NOT NULL CHECK (part_size > 0),
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- When the parts of a closed upload are next given up.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    attempts        integer NOT NULL DEFAULT 0,
    last_error      text
);
CREATE INDEX multipart_of_set ON attachments.multipart (upload_set_id);
COMMENT ON TABLE attachments.multipart IS
    'Multipart uploads that are open in the store. Rows of completed sets are removed; rows of closed sets wait to be aborted.';

-- Parts that the worker took in itself: a bucket's binding cannot list them.
CREATE TABLE attachments.multipart_part (
    attachment_id uuid NOT NULL REFERENCES attachments.multipart ON DELETE CASCADE,
    number        integer NOT NULL CHECK (number BETWEEN 1 AND 10000),
    etag          text NOT NULL,
    byte_size     bigint NOT NULL CHECK (byte_size > 0),
    PRIMARY KEY (attachment_id, number)
);

ALTER TABLE attachments.multipart ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments.multipart_part ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments.multipart
    USING (tenant_id = attachments.tenant()) WITH CHECK (tenant_id = attachments.tenant());
CREATE POLICY own_tenant ON attachments.multipart_part
    USING (EXISTS (SELECT FROM attachments.multipart m WHERE m.attachment_id = multipart_part.attachment_id));
GRANT SELECT, INSERT ON attachments.multipart TO keepsake_api;
GRANT SELECT ON attachments.multipart_part TO keepsake_api;

-- NULL for a file that is not uploaded in parts, or of which no part has been signed yet.
CREATE FUNCTION attachments.multipart_of(attachment uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object('storage_id', m.storage_id, 'part_size', m.part_size, 'parts', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('number', p.number, 'etag', p.etag, 'size', p.byte_size) ORDER BY p.number), '[]')
            FROM attachments.multipart_part p WHERE p.attachment_id = m.attachment_id))
        FROM attachments.multipart m WHERE m.attachment_id = attachment);
END
$$;

-- Uploading, under the caller's claims -------------------------------------------------------------

-- A pending file and what its upload in parts is, before any is signed or listed.
CREATE FUNCTION attachments_api.find_multipart(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    file jsonb;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid;
    refusal := attachments.refuse_upload(upload);
    SELECT f INTO file FROM jsonb_array_elements(attachments.files_of(upload.id)) AS f
    WHERE f ->> 'attachment_id' = request ->> 'attachment_id';
    IF upload.id IS NULL THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF refusal IS NOT NULL THEN
        RETURN refusal;
    ELSIF upload.state = 'expired' OR (upload.state = 'pending' AND upload.expires_at <= now()) THEN
        RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again.');
    ELSIF upload.state <> 'pending' THEN
        RETURN attachments.fail('upload_closed', format('The upload is %s, and accepts no more parts.', upload.state));
    ELSIF file IS NULL THEN
        RETURN attachments.fail('not_found', 'The upload has no such file.');
    END IF;
    RETURN attachments.ok(jsonb_build_object('expires_at', upload.expires_at, 'file', file));
END
$$;

-- Keeps what the store calls an upload in parts. Of two that begin at once the first stays, and both are answered with it.
CREATE FUNCTION attachments_api.begin_multipart(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    -- Nobody closes the set meanwhile: whoever does looks for parts to give up.
    SELECT s.* INTO upload FROM attachments.upload_set s
    WHERE s.id = (request ->> 'upload_id')::uuid AND s.state = 'pending' FOR UPDATE;
    refusal := attachments.refuse_upload(upload);
    IF upload.id IS NULL THEN
        RETURN attachments.fail('upload_closed', 'The upload accepts no more parts.');
    ELSIF refusal IS NOT NULL THEN
        RETURN refusal;
    END IF;
    INSERT INTO attachments.multipart (attachment_id, upload_set_id, tenant_id, object_key, storage_id, part_size)
    SELECT a.id, a.upload_set_id, a.tenant_id, a.object_key, request ->> 'storage_id', (request ->> 'part_size')::bigint
    FROM attachments.attachment a
    WHERE a.id = (request ->> 'attachment_id')::uuid AND a.upload_set_id = (request ->> 'upload_id')::uuid
    ON CONFLICT (attachment_id) DO NOTHING;
    RETURN attachments.ok(attachments.multipart_of((request ->> 'attachment_id')::uuid));
END
$$;

SELECT attachments.publish(ARRAY['find_multipart', 'begin_multipart']);

-- A part that the worker has taken in by its signed URL, which is the permission. False when the upload is closed.
CREATE FUNCTION attachments_api.record_part(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.multipart_part (attachment_id, number, etag, byte_size)
    SELECT m.attachment_id, (request ->> 'number')::integer, request ->> 'etag', (request ->> 'size')::bigint
    FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
    WHERE m.attachment_id = (request ->> 'attachment_id')::uuid AND m.storage_id = request ->> 'storage_id'
      AND s.state = 'pending'
    ON CONFLICT (attachment_id, number) DO UPDATE SET etag = excluded.etag, byte_size = excluded.byte_size;
    RETURN attachments.ok(jsonb_build_object('recorded', FOUND));
END
$$;

-- A part that the store has no longer: others were sent in its place that were not what was declared. It has to be sent again.
CREATE FUNCTION attachments_api.forget_part(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM attachments.multipart_part p USING attachments.multipart m
    WHERE p.attachment_id = (request ->> 'attachment_id')::uuid AND p.number = (request ->> 'number')::integer
      AND m.attachment_id = p.attachment_id AND m.storage_id = request ->> 'storage_id';
    RETURN attachments.ok('{}');
END
$$;

-- Giving up the parts of closed sets ---------------------------------------------------------------

-- The store has made the parts of a completed set into objects: nothing is left to give up.
CREATE FUNCTION attachments.forget_multiparts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM attachments.multipart m WHERE m.upload_set_id = NEW.id;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION attachments.forget_multiparts FROM PUBLIC;
CREATE TRIGGER forget_multiparts AFTER UPDATE ON attachments.upload_set
    FOR EACH ROW WHEN (NEW.state = 'completed' AND OLD.state <> 'completed')
    EXECUTE FUNCTION attachments.forget_multiparts();

-- Uploads in parts whose set was closed: the store is to give up their parts. Leased, so that two runs share them.
CREATE FUNCTION attachments_api.lease_multiparts(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    leased jsonb;
BEGIN
    WITH due AS (
        SELECT m.attachment_id FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
        WHERE s.state <> 'pending' AND m.next_attempt_at <= now()
        ORDER BY m.next_attempt_at
        LIMIT (request ->> 'limit')::integer
        FOR UPDATE OF m SKIP LOCKED
    ), taken AS (
        UPDATE attachments.multipart m
        SET next_attempt_at = now() + make_interval(secs => (request ->> 'lease_seconds')::double precision)
        FROM due WHERE m.attachment_id = due.attachment_id
        RETURNING m.attachment_id, m.object_key, m.storage_id
    )
    SELECT coalesce(jsonb_agg(to_jsonb(taken)), '[]') INTO leased FROM taken;
    RETURN attachments.ok(jsonb_build_object('multiparts', leased));
END
$$;

-- A part may still arrive by a URL that was signed before: they are given up once more when no URL works any longer.
CREATE FUNCTION attachments_api.settle_multiparts(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sets uuid[] := ARRAY(
        SELECT m.upload_set_id FROM attachments.multipart m
        WHERE m.attachment_id = ANY (ARRAY(SELECT jsonb_array_elements_text(request -> 'given_up')::uuid)));
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
    -- What an erasure left for the sake of its parts goes with the last of them.
    DELETE FROM attachments.upload_set s
    WHERE s.id = ANY (sets) AND s.tenant_id = ''
      AND NOT EXISTS (SELECT FROM attachments.multipart m WHERE m.upload_set_id = s.id);

    UPDATE attachments.multipart m
    SET attempts = m.attempts + 1, last_error = left(f ->> 'error', 500),
        next_attempt_at = now() + least(interval '10 seconds' * (2 ^ least(m.attempts, 20)), interval '1 hour')
    FROM jsonb_array_elements(request -> 'failed') AS f
    WHERE m.attachment_id = (f ->> 'attachment_id')::uuid;
    RETURN attachments.ok('{}');
END
$$;

REVOKE ALL ON FUNCTION
    attachments_api.record_part, attachments_api.forget_part, attachments_api.lease_multiparts, attachments_api.settle_multiparts
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.record_part, attachments_api.forget_part, attachments_api.lease_multiparts, attachments_api.settle_multiparts
TO keepsake_worker;
