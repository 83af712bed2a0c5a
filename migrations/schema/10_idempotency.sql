-- Idempotency keys: requests that are safe to repeat for 24 hours.

-- What a key stood for: the operation with its request, as a hash, and the upload that came of it.
CREATE TABLE attachments.idempotency (
    tenant_id   text NOT NULL,
    subject     text NOT NULL,
    key         text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,
    upload_id   uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subject, key)
);
CREATE INDEX idempotency_age ON attachments.idempotency (created_at);
ALTER TABLE attachments.idempotency ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_keys ON attachments.idempotency
    USING (tenant_id = attachments.tenant() AND subject = attachments.claim('sub'));
GRANT SELECT, INSERT, UPDATE ON attachments.idempotency TO keepsake_api;

-- The moment at which a URL ends is the worker's to choose, as is what it is set to allow and what it found, and no part of what was
-- asked for.
CREATE FUNCTION attachments.fingerprint(operation text, request jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN sha256(convert_to(operation || (request - 'idempotency_key' - 'expires_at' - 'file_types' - 'download_only')::text, 'UTF8'));
END
$$;

-- Why a request with a key is refused; NULL when it is not. Until the transaction ends no other with the same key begins.
CREATE FUNCTION attachments.refuse_key(operation text, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known bytea;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(jsonb_build_array(
            'keepsake idempotency', attachments.tenant(), attachments.claim('sub'), request ->> 'idempotency_key')::text, 0)) THEN
        RETURN attachments.fail('idempotency_in_flight', 'The first request with this Idempotency-Key is still in progress. Retry in a moment.');
    END IF;
    SELECT i.fingerprint INTO known FROM attachments.idempotency i
    WHERE i.tenant_id = attachments.tenant() AND i.subject = attachments.claim('sub')
      AND i.key = request ->> 'idempotency_key' AND i.created_at > now() - interval '24 hours';
    IF known <> attachments.fingerprint(operation, request) THEN
        RETURN attachments.fail('idempotency_mismatch', 'This Idempotency-Key was already used for a different request. Use a new key for a new request.');
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION attachments.remember_key(operation text, request jsonb, upload uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.idempotency AS i (tenant_id, subject, key, fingerprint, upload_id)
    VALUES (attachments.tenant(), attachments.claim('sub'), request ->> 'idempotency_key',
            attachments.fingerprint(operation, request), upload)
    ON CONFLICT (tenant_id, subject, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, upload_id = excluded.upload_id, created_at = excluded.created_at
    WHERE i.created_at <= now() - interval '24 hours' OR i.upload_id <> excluded.upload_id;
END
$$;

-- What came of an earlier request that had all bytes with it, as they come again with this one: what it answered; a set whose time
-- suffices, to go on with; or NULL when nothing came of it, to begin anew.
CREATE FUNCTION attachments.uploaded_before(claims jsonb, upload attachments.upload_set) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    IF upload.state IN ('aborted', 'expired')
        OR (upload.state = 'pending' AND upload.expires_at <= now() + interval '30 seconds') THEN
        RETURN NULL;
    ELSIF upload.state = 'pending' THEN
        RETURN attachments.ok(jsonb_build_object(
            'id', upload.id, 'expires_at', upload.expires_at, 'files', attachments.files_of(upload.id)));
    END IF;
    answer := attachments.complete_upload(claims, jsonb_build_object('upload_id', upload.id));
    IF answer ? 'ok' THEN
        RETURN attachments.ok(jsonb_build_object(
            'id', upload.id, 'expires_at', upload.expires_at, 'files', '[]'::jsonb, 'completed', answer -> 'ok'));
    END IF;
    RETURN answer;
END
$$;

-- The upload that a key made, as it was answered then. NULL when the key is new.
CREATE FUNCTION attachments.declared_before(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    SELECT s.* INTO upload
    FROM attachments.idempotency i JOIN attachments.upload_set s ON s.id = i.upload_id
    WHERE i.tenant_id = attachments.tenant() AND i.subject = attachments.claim('sub')
      AND i.key = request ->> 'idempotency_key' AND i.created_at > now() - interval '24 hours';
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF upload.one_request THEN
        RETURN attachments.uploaded_before(claims, upload);
    ELSIF upload.expires_at <= now() OR upload.state = 'expired' THEN
        RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again, with a new Idempotency-Key.');
    ELSIF upload.state <> 'pending' THEN
        RETURN attachments.fail('upload_closed', format('This Idempotency-Key created the upload %s, which accepts no more files.', upload.id));
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'id', upload.id, 'expires_at', upload.expires_at, 'files', attachments.files_of(upload.id)));
END
$$;

-- Removes keys after 24 hours and events after 30 days, and settles usage that was given back: the schedule's. A tenant whose usage
-- somebody has locked waits for the next run: otherwise everybody else's would be locked as long. Who has waited longest comes first.
CREATE FUNCTION attachments_api.tidy(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    forgotten bigint;
    due record;
    settled bigint := 0;
    dropped bigint;
BEGIN
    WITH gone AS (
        DELETE FROM attachments.idempotency WHERE ctid = ANY (ARRAY(
            SELECT i.ctid FROM attachments.idempotency i
            WHERE i.created_at <= now() - interval '24 hours' ORDER BY i.created_at LIMIT size FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) INTO forgotten FROM gone;
    FOR due IN
        SELECT oldest.tenant_id FROM (
            SELECT r.tenant_id FROM attachments.usage_release r WHERE r.due_at <= now()
            GROUP BY r.tenant_id ORDER BY min(r.due_at), r.tenant_id LIMIT size) AS oldest
        ORDER BY oldest.tenant_id
    LOOP
        PERFORM FROM attachments.usage u WHERE u.tenant_id = due.tenant_id AND u.subject = '' FOR UPDATE SKIP LOCKED;
        IF FOUND OR NOT EXISTS (SELECT FROM attachments.usage u WHERE u.tenant_id = due.tenant_id AND u.subject = '') THEN
            PERFORM attachments.settle_usage(due.tenant_id);
            settled := settled + 1;
        END IF;
    END LOOP;
    dropped := attachments.forget_events(size);
    RETURN attachments.ok(jsonb_build_object('forgotten', forgotten, 'settled', settled, 'events_removed', dropped));
END
$$;

REVOKE ALL ON FUNCTION attachments_api.tidy FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.tidy TO keepsake_worker;
