-- The scan gate: where scanning is required, a file is shut until a scanner has called it clean. The states: 06_attachments.sql.

-- Whose files are scanned: the row of the tenant, else that of everyone (NULL).
CREATE TABLE attachments.scan_policy (
    tenant_id text,
    required  boolean NOT NULL
);
CREATE UNIQUE INDEX scan_policy_of ON attachments.scan_policy (coalesce(tenant_id, ''));
COMMENT ON TABLE attachments.scan_policy IS
    'Whether files of a tenant stay locked until a scanner reports them clean. tenant_id NULL applies to all other tenants.';
INSERT INTO attachments.scan_policy VALUES (NULL, false);

-- Messages that were taken, by their MAC, for as long as their time would be: the same again does nothing.
CREATE TABLE attachments.scan_message (
    mac      text PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX scan_message_age ON attachments.scan_message (taken_at);

-- What waits for a scanner, for a role of the operator's choice. Rows with a verdict were looked at, and are still shut.
CREATE VIEW attachments.scan_queue AS
    SELECT a.object_key, a.media_type, a.byte_size, encode(a.sha256, 'hex') AS sha256, a.created_at, a.scan_verdict, a.scanned_at
    FROM attachments.attachment a WHERE a.state = 'scanning' AND a.scan_verdict IS DISTINCT FROM 'clean'
    ORDER BY a.created_at;
COMMENT ON VIEW attachments.scan_queue IS 'Objects that no scanner has reported clean yet, oldest first.';

-- BEFORE UPDATE, after check_state_change (triggers fire by name): whatever makes a file available, it stops here first.
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
    FOR EACH ROW WHEN (OLD.state IN ('pending', 'uploaded') AND NEW.state IN ('available', 'former'))
    EXECUTE FUNCTION attachments.stop_for_scan();

-- Verdicts ---------------------------------------------------------------------------------------

-- All clean: the set becomes visible, whole. False when a name was taken meanwhile, or another version became current.
CREATE FUNCTION attachments.open_scanned(upload uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.attachment SET state = CASE WHEN version_of IS NULL THEN 'available' ELSE 'former' END, available_at = now()
    WHERE upload_set_id = upload AND state = 'scanning';
    UPDATE attachments.upload_set SET state = 'completed' WHERE id = upload;
    PERFORM attachments.make_current(s) FROM attachments.upload_set s WHERE s.id = upload AND s.version_of IS NOT NULL;
    RETURN true;
EXCEPTION WHEN unique_violation OR SQLSTATE 'KS005' THEN
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

-- Why the files of a set that were found clean cannot become visible, as the report of a rejected set.
CREATE FUNCTION attachments.scan_conflicts(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_agg(jsonb_build_object('attachment_id', a.id, 'problems', jsonb_build_array(CASE WHEN found.is_taken
            THEN '{"code": "name_taken", "detail": "a file of that name came while this one was scanned"}'::jsonb
            ELSE '{"code": "version_conflict", "detail": "the attachment was replaced or deleted while this version was scanned"}' END)))
        FROM attachments.attachment a, LATERAL (SELECT EXISTS (
            SELECT FROM attachments.attachment other
            WHERE other.tenant_id = a.tenant_id AND other.entity_type = a.entity_type AND other.entity_id = a.entity_id
              AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(a.file_name)
              AND other.deleted_at IS NULL AND other.state = 'available' AND other.id IS DISTINCT FROM a.version_of)) AS found (is_taken)
        WHERE a.upload_set_id = upload AND a.state = 'scanning' AND (found.is_taken OR a.version_of IS NOT NULL));
END
$$;

-- Takes a verdict. Only `clean` opens; `infected` shuts for ever, also what was open; anything else leaves the file shut, until
-- another verdict comes. Nothing opens what is in quarantine. An infected new version is rejected; the attachment stays as it was. A former one
-- keeps the verdict, which shuts it.
CREATE FUNCTION attachments.take_verdict(object text, verdict text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload uuid;
    tenant text;
    current_row uuid;
    file attachments.attachment;
BEGIN
    -- The set first, as everybody locks it first: verdicts on its files are taken one after another.
    SELECT a.upload_set_id, a.tenant_id, coalesce(a.version_of, a.id) INTO upload, tenant, current_row FROM attachments.attachment a WHERE a.object_key = object;
    PERFORM attachments.enter_tenant(tenant);
    PERFORM FROM attachments.upload_set s WHERE s.id = upload FOR UPDATE;
    -- The attachment before its new version, as whoever deletes them locks them; and so that this object is in the same row until the end: a
    -- version that becomes current exchanges it.
    PERFORM FROM attachments.attachment a WHERE a.id = current_row FOR UPDATE;
    UPDATE attachments.attachment a SET scan_verdict = verdict, scanned_at = now()
    WHERE a.object_key = object AND (a.state IN ('scanning', 'available') OR a.state = 'former' AND a.scan_verdict IS DISTINCT FROM 'infected')
    RETURNING a.* INTO file;
    IF verdict = 'infected' AND file.state IN ('scanning', 'available') THEN
        UPDATE attachments.attachment a SET state = 'quarantined' WHERE a.id = file.id AND a.version_of IS NULL;
        IF file.state = 'scanning' THEN
            PERFORM attachments.reject_scanned(upload, jsonb_build_array(jsonb_build_object(
                'attachment_id', file.id, 'problems', jsonb_build_array(jsonb_build_object(
                    'code', 'file_quarantined', 'detail', 'the scanner found malware in the file')))));
        END IF;
    ELSIF verdict = 'clean' AND file.state = 'scanning' AND NOT EXISTS (
        SELECT FROM attachments.attachment a
        WHERE a.upload_set_id = upload AND a.state = 'scanning' AND a.scan_verdict IS DISTINCT FROM 'clean') THEN
        IF NOT attachments.open_scanned(upload) THEN
            PERFORM attachments.reject_scanned(upload, attachments.scan_conflicts(upload));
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

REVOKE ALL ON FUNCTION
    attachments.stop_for_scan, attachments.open_scanned, attachments.reject_scanned, attachments.scan_conflicts, attachments.take_verdict
FROM PUBLIC;
REVOKE ALL ON FUNCTION attachments_api.record_scan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.record_scan TO keepsake_worker;
