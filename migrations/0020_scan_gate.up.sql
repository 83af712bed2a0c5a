-- The scan gate: where scanning is asked for, a file is shut until a scanner has called it clean.

-- Whose files are scanned: the row of the tenant, else that of everyone (NULL).
CREATE TABLE attachments.scan_policy (
    tenant_id text,
    required  boolean NOT NULL
);
CREATE UNIQUE INDEX scan_policy_of ON attachments.scan_policy (coalesce(tenant_id, ''));
COMMENT ON TABLE attachments.scan_policy IS
    'Whether files are shut until a scanner has called them clean: of one tenant, or (tenant_id NULL) of every other.';
INSERT INTO attachments.scan_policy VALUES (NULL, false);

ALTER TABLE attachments.attachment
    DROP CONSTRAINT attachment_state_check,
    ADD CONSTRAINT attachment_state_check
        CHECK (state IN ('pending', 'uploaded', 'scanning', 'available', 'rejected', 'quarantined')),
    ADD COLUMN scan_verdict text CHECK (scan_verdict IN ('clean', 'infected', 'unsupported', 'access_denied', 'failed')),
    ADD COLUMN scanned_at timestamptz;
ALTER TABLE attachments.upload_set
    DROP CONSTRAINT upload_set_state_check,
    ADD CONSTRAINT upload_set_state_check
        CHECK (state IN ('pending', 'scanning', 'completed', 'rejected', 'aborted', 'expired'));
CREATE INDEX attachment_scanning ON attachments.attachment (created_at) WHERE state = 'scanning';

-- pending → uploaded → (scanning →) available | rejected | quarantined; nothing leads back.
CREATE OR REPLACE FUNCTION attachments.check_state_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('pending', 'uploaded'), ('pending', 'rejected'),
        ('uploaded', 'available'), ('uploaded', 'rejected'), ('uploaded', 'quarantined'),
        ('scanning', 'available'), ('scanning', 'rejected'), ('scanning', 'quarantined'),
        ('available', 'quarantined')) THEN
        RAISE EXCEPTION 'an attachment cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation',
                  DETAIL = format('Attachment %s.', OLD.id),
                  HINT = 'pending → uploaded → (scanning →) available | rejected | quarantined.';
    END IF;
    RETURN NEW;
END
$$;

-- BEFORE UPDATE, behind check_state_change: whatever makes a file available, it stops here first.
CREATE FUNCTION attachments.stop_for_scan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT p.required FROM attachments.scan_policy p
        WHERE p.tenant_id IS NULL OR p.tenant_id = NEW.tenant_id
        ORDER BY p.tenant_id NULLS LAST LIMIT 1) THEN
        NEW.state := 'scanning';
        NEW.available_at := NULL;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER stop_for_scan BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (OLD.state = 'uploaded' AND NEW.state = 'available')
    EXECUTE FUNCTION attachments.stop_for_scan();

-- What waits for a scanner, for a role of the operator's choice. Rows with a verdict were looked at, and are still shut.
CREATE VIEW attachments.scan_queue AS
    SELECT a.object_key, a.media_type, a.byte_size, encode(a.sha256, 'hex') AS sha256, a.created_at, a.scan_verdict, a.scanned_at
    FROM attachments.attachment a WHERE a.state = 'scanning' AND a.scan_verdict IS DISTINCT FROM 'clean'
    ORDER BY a.created_at;
COMMENT ON VIEW attachments.scan_queue IS 'Objects that no scanner has called clean yet, oldest first.';

-- Completing ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION attachments_api.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
    scanning jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ? 'idempotency_key' THEN
        answer := attachments.refuse_key('complete_upload', request);
        IF answer IS NOT NULL THEN
            RETURN answer;
        END IF;
    END IF;
    answer := attachments.complete_upload(claims, request);
    IF request ? 'idempotency_key' AND answer ? 'ok' THEN
        PERFORM attachments.remember_key('complete_upload', request, (request ->> 'upload_id')::uuid);
    END IF;
    SELECT jsonb_agg(attachments.describe(a) ORDER BY a.position) INTO scanning
    FROM attachments.attachment a
    WHERE a.upload_set_id = (request ->> 'upload_id')::uuid AND a.deleted_at IS NULL AND a.state = 'scanning';
    IF answer ? 'ok' AND scanning IS NOT NULL THEN
        UPDATE attachments.upload_set s SET state = 'scanning' WHERE s.id = (request ->> 'upload_id')::uuid AND s.state = 'completed';
        RETURN attachments.ok(answer -> 'ok' || jsonb_build_object('state', 'scanning', 'attachments', scanning));
    END IF;
    RETURN answer;
END
$$;

CREATE OR REPLACE FUNCTION attachments_api.abort_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF EXISTS (SELECT FROM attachments.upload_set s WHERE s.id = (request ->> 'upload_id')::uuid AND s.state = 'scanning') THEN
        RETURN attachments.fail('upload_closed', 'The upload is complete already, and is being scanned. Delete its attachments afterwards.');
    END IF;
    RETURN attachments.close_upload((request ->> 'upload_id')::uuid, 'aborted', NULL);
END
$$;

-- Verdicts --------------------------------------------------------------------------------------

-- Messages that were taken, by their MAC, for as long as their time would be: the same again does nothing.
CREATE TABLE attachments.scan_message (
    mac      text PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX scan_message_age ON attachments.scan_message (taken_at);

-- All clean: the set becomes visible, whole. False when a name was taken meanwhile.
CREATE FUNCTION attachments.open_scanned(upload uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.attachment SET state = 'available', available_at = now()
    WHERE upload_set_id = upload AND state = 'scanning';
    UPDATE attachments.upload_set SET state = 'completed' WHERE id = upload;
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RETURN false;
END
$$;

-- A set that can never become visible: what is left of it goes, as of any set that was rejected.
CREATE FUNCTION attachments.reject_scanned(upload uuid, why jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file record;
BEGIN
    UPDATE attachments.upload_set s
    SET state = 'rejected', report = why, files = (
        SELECT jsonb_agg(f || CASE WHEN f ->> 'state' = 'quarantined' THEN '{}'::jsonb ELSE '{"state": "rejected"}' END ORDER BY n)
        FROM jsonb_array_elements(attachments.files_of(upload)) WITH ORDINALITY AS l (f, n))
    WHERE s.id = upload;
    FOR file IN
        UPDATE attachments.attachment SET state = 'rejected' WHERE upload_set_id = upload AND state = 'scanning'
        RETURNING id, deletion_id
    LOOP
        IF file.deletion_id IS NULL THEN
            PERFORM attachments.remove_rejected(file.id);
        END IF;
    END LOOP;
END
$$;

-- Takes a verdict. Only `clean` opens; `infected` shuts for ever, also what was open; anything else leaves the file
-- shut, until another verdict comes. Nothing opens what is in quarantine.
CREATE FUNCTION attachments.take_verdict(object text, verdict text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload uuid;
    file attachments.attachment;
BEGIN
    -- The set first, as everyone locks it first: verdicts on its files come one after another.
    SELECT a.upload_set_id INTO upload FROM attachments.attachment a WHERE a.object_key = object;
    PERFORM FROM attachments.upload_set s WHERE s.id = upload FOR UPDATE;
    UPDATE attachments.attachment a SET scan_verdict = verdict, scanned_at = now()
    WHERE a.object_key = object AND a.state IN ('scanning', 'available')
    RETURNING a.* INTO file;
    IF verdict = 'infected' AND file.id IS NOT NULL THEN
        UPDATE attachments.attachment a SET state = 'quarantined' WHERE a.id = file.id;
        IF file.state = 'scanning' THEN
            PERFORM attachments.reject_scanned(upload, jsonb_build_array(jsonb_build_object(
                'attachment_id', file.id, 'problems', jsonb_build_array(jsonb_build_object(
                    'code', 'file_quarantined', 'detail', 'the scanner found malware in the file')))));
        END IF;
    ELSIF verdict = 'clean' AND file.state = 'scanning' AND NOT EXISTS (
        SELECT FROM attachments.attachment a
        WHERE a.upload_set_id = upload AND a.state = 'scanning' AND a.scan_verdict IS DISTINCT FROM 'clean') THEN
        IF NOT attachments.open_scanned(upload) THEN
            PERFORM attachments.reject_scanned(upload, (
                SELECT jsonb_agg(jsonb_build_object('attachment_id', a.id, 'problems', jsonb_build_array(jsonb_build_object(
                    'code', 'name_taken', 'detail', 'a file of that name came while this one was scanned'))))
                FROM attachments.attachment a
                WHERE a.upload_set_id = upload AND a.state = 'scanning' AND EXISTS (
                    SELECT FROM attachments.attachment other
                    WHERE other.tenant_id = a.tenant_id AND other.entity_type = a.entity_type AND other.entity_id = a.entity_id
                      AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(a.file_name)
                      AND other.deleted_at IS NULL AND other.state = 'available')));
        END IF;
    END IF;
END
$$;

CREATE FUNCTION attachments_api.record_scan(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_new boolean;
BEGIN
    DELETE FROM attachments.scan_message m WHERE m.taken_at < now() - interval '1 hour';
    IF NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.object_key = request ->> 'object_key') THEN
        RETURN attachments.fail('not_found', 'There is no attachment with this object.');
    END IF;
    INSERT INTO attachments.scan_message (mac) VALUES (request ->> 'mac') ON CONFLICT DO NOTHING RETURNING true INTO is_new;
    IF is_new THEN
        PERFORM attachments.take_verdict(request ->> 'object_key', request ->> 'verdict');
    END IF;
    RETURN attachments.ok('{}');
END
$$;
REVOKE ALL ON FUNCTION attachments.stop_for_scan, attachments.open_scanned, attachments.reject_scanned, attachments.take_verdict FROM PUBLIC;
REVOKE ALL ON FUNCTION attachments_api.record_scan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.record_scan TO keepsake_worker;

-- Reading ---------------------------------------------------------------------------------------

-- Why an attachment of an entity that the caller may see is shut; NULL when it is not, or is not there.
CREATE FUNCTION attachments.refuse_shut(attachment uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE a.state
        WHEN 'scanning' THEN attachments.fail('file_scanning', 'The file is being scanned and is shut until it is found clean. Ask again later.')
        ELSE attachments.fail('file_quarantined', 'Malware was found in the file. It is shut for good.') END
    FROM attachments.attachment a
    WHERE a.id = attachment AND a.deleted_at IS NULL AND a.state IN ('scanning', 'quarantined')
      AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
$$;

CREATE OR REPLACE FUNCTION attachments_api.get_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    IF file.id IS NULL OR file.deleted_at IS NOT NULL THEN
        RETURN coalesce(attachments.refuse_shut((request ->> 'attachment_id')::uuid),
                        attachments.fail('not_found', 'There is no such attachment.'));
    END IF;
    RETURN attachments.ok(attachments.describe(file));
END
$$;

CREATE OR REPLACE FUNCTION attachments_api.attachment_content(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    IF file.id IS NULL OR file.deleted_at IS NOT NULL THEN
        RETURN coalesce(attachments.refuse_shut((request ->> 'attachment_id')::uuid),
                        attachments.fail('not_found', 'There is no such attachment.'));
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'object_key', file.object_key, 'name', file.file_name, 'media_type', file.media_type, 'size', file.byte_size));
END
$$;
