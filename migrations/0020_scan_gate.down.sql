-- Files that are still scanned have no way to become visible without the gate: they go, as rejected ones.
CREATE OR REPLACE FUNCTION attachments_api.get_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    IF file.id IS NULL OR file.deleted_at IS NOT NULL THEN
        RETURN attachments.fail('not_found', 'There is no such attachment.');
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
        RETURN attachments.fail('not_found', 'There is no such attachment.');
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'object_key', file.object_key, 'name', file.file_name, 'media_type', file.media_type, 'size', file.byte_size));
END
$$;

DROP FUNCTION attachments.refuse_shut(uuid);
DROP FUNCTION attachments_api.record_scan(jsonb);
DROP FUNCTION attachments.take_verdict(text, text);
SELECT attachments.reject_scanned(s.id, NULL) FROM attachments.upload_set s WHERE s.state = 'scanning';
DROP FUNCTION attachments.reject_scanned(uuid, jsonb);
DROP FUNCTION attachments.open_scanned(uuid);
DROP TABLE attachments.scan_message;

CREATE OR REPLACE FUNCTION attachments_api.abort_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.close_upload((request ->> 'upload_id')::uuid, 'aborted', NULL);
END
$$;

CREATE OR REPLACE FUNCTION attachments_api.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
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
    RETURN answer;
END
$$;

DROP VIEW attachments.scan_queue;
DROP TRIGGER stop_for_scan ON attachments.attachment;
DROP FUNCTION attachments.stop_for_scan();

CREATE OR REPLACE FUNCTION attachments.check_state_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('pending', 'uploaded'), ('pending', 'rejected'),
        ('uploaded', 'available'), ('uploaded', 'rejected'), ('uploaded', 'quarantined'),
        ('available', 'quarantined')) THEN
        RAISE EXCEPTION 'an attachment cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation',
                  DETAIL = format('Attachment %s.', OLD.id),
                  HINT = 'pending → uploaded → available | rejected | quarantined.';
    END IF;
    RETURN NEW;
END
$$;

DROP INDEX attachments.attachment_scanning;
ALTER TABLE attachments.upload_set
    DROP CONSTRAINT upload_set_state_check,
    ADD CONSTRAINT upload_set_state_check CHECK (state IN ('pending', 'completed', 'rejected', 'aborted', 'expired'));
ALTER TABLE attachments.attachment
    DROP COLUMN scanned_at,
    DROP COLUMN scan_verdict,
    DROP CONSTRAINT attachment_state_check,
    ADD CONSTRAINT attachment_state_check CHECK (state IN ('pending', 'uploaded', 'available', 'rejected', 'quarantined'));
DROP TABLE attachments.scan_policy;
