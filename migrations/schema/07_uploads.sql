-- Declaring, completing and closing upload sets, as the worker asks for it. Each call is one transaction under the caller's
-- claims. The state machine: 05_upload_sets.sql.

-- Declaring --------------------------------------------------------------------------------------

-- A file of a set as the worker needs it, but for its upload in parts. Inlined, as describe() is.
CREATE FUNCTION attachments.describe_file(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'attachment_id', CASE a.state WHEN 'former' THEN a.version_of ELSE a.id END,
    'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
    'sha256', encode(a.sha256, 'hex'), 'object_key', a.object_key,
    'state', CASE a.state WHEN 'former' THEN 'available' ELSE a.state END);

-- The files of a set as the worker needs them: what was declared, and where the bytes are. Once it is complete, the file of a new version is
-- the attachment, whichever version it is by now.
CREATE FUNCTION attachments.files_of(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(attachments.describe_file(a) || jsonb_build_object('multipart', attachments.multipart_of(a.id))
            ORDER BY a.position), '[]')
        FROM attachments.attachment a WHERE a.upload_set_id = upload);
END
$$;

-- Names of the set that a live file of the entity bears already, as field errors.
-- Runs beyond the row policies, under which the index of live names cannot be used: the function in it is not leakproof, and all
-- files of the entity would be read. It reports only names that the set itself has, in the set's own tenant. OFFSET makes each
-- name be looked up by itself: without statistics the planner would join all there are. One plan serves all sets: PostgreSQL would
-- take one for just this set to be better, and to make that takes twenty times as long as to run it.
CREATE FUNCTION attachments.taken_names(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pointer', format('/files/%s/name', mine.position), 'code', 'name_taken',
            'detail', format('A file named %s already exists. Delete it, or choose another name.', mine.file_name))
            ORDER BY mine.position), '[]')
        FROM attachments.attachment mine
        WHERE mine.upload_set_id = upload AND EXISTS (
            SELECT FROM attachments.attachment other
            WHERE other.tenant_id = mine.tenant_id AND other.entity_type = mine.entity_type
              AND other.entity_id = mine.entity_id AND other.upload_set_id <> upload AND other.id IS DISTINCT FROM mine.version_of
              AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(mine.file_name)
              AND other.deleted_at IS NULL AND other.state = 'available'
            OFFSET 0));
END
$$;

REVOKE ALL ON FUNCTION attachments.taken_names FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.taken_names TO keepsake_api;

-- Which types of file may be uploaded. The row that fits best counts whole: that of the tenant and the entity type, of the tenant, of
-- the entity type, of everyone; without any, what the worker is set to. The operator writes this table; nothing else does.
CREATE TABLE attachments.file_type_rule (
    tenant_id   text,
    entity_type text REFERENCES attachments.entity_type (name),
    file_types  text NOT NULL CHECK (keepsake.is_file_types(file_types))
);
CREATE UNIQUE INDEX file_type_rule_of ON attachments.file_type_rule (coalesce(tenant_id, ''), coalesce(entity_type, ''));
COMMENT ON TABLE attachments.file_type_rule IS
    'Which types of file a tenant may attach to entities of a type: tenant_id NULL is every tenant, entity_type NULL every type.';
COMMENT ON COLUMN attachments.file_type_rule.file_types IS
    'Words that change the usual types, from left to right: +zip, -mov, +unknown, none.';
GRANT SELECT ON attachments.file_type_rule TO keepsake_api;

-- The types that the caller's tenant may attach to entities of a type, or to some type where that is not known; `usual` is what the worker
-- is set to.
CREATE FUNCTION attachments.file_types_of(of_type text, usual text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((
        SELECT r.file_types FROM attachments.file_type_rule r
        WHERE (r.tenant_id IS NULL OR r.tenant_id = attachments.tenant())
          AND (r.entity_type IS NULL OR r.entity_type = of_type)
        ORDER BY r.tenant_id NULLS LAST, r.entity_type NULLS LAST
        LIMIT 1), usual, '');
END
$$;

-- Files of a request whose type is not allowed, as field errors. It names the choice that the worker is set to.
CREATE FUNCTION attachments.refused_types(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN keepsake.check_file_types(
        ARRAY(SELECT e.file ->> 'name' FROM jsonb_array_elements(request -> 'files') WITH ORDINALITY AS e (file, n) ORDER BY e.n),
        attachments.file_types_of(request ->> 'entity_type', request ->> 'file_types'));
END
$$;

CREATE FUNCTION attachments_api.get_limits(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.ok(jsonb_build_object(
        'file_types', attachments.file_types_of(request ->> 'entity_type', request ->> 'file_types'),
        'max_versions', attachments.max_versions(attachments.tenant(), request ->> 'entity_type')));
END
$$;

-- Makes the rows of a set, or none. `version_of` and `version` are those of a new version: see 24_versions.sql. The quota refuses by KS002
-- with the answer as its DETAIL: see 09_quota.sql.
CREATE FUNCTION attachments.declare_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text := attachments.tenant();
    who text := attachments.claim('sub');
    of_type text := request ->> 'entity_type';
    of_id text := request ->> 'entity_id';
    entity attachments.found_entity := attachments.lock_entity(of_type, of_id);
    upload uuid := keepsake.uuid_v7();
    expires timestamptz := (request ->> 'expires_at')::timestamptz;
    refused jsonb := attachments.refused_types(request);
    declared jsonb;
    taken jsonb;
    refusal text;
BEGIN
    IF refused <> '[]' THEN
        RETURN attachments.fail('media_type_not_allowed', 'Files of some kinds cannot be uploaded.',
            jsonb_build_object('errors', refused));
    END IF;
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN coalesce(attachments.refuse_change(of_type, of_id),
                        attachments.fail('not_found', format('There is no %s %s to attach files to.', of_type, of_id)));
    END IF;
    INSERT INTO attachments.upload_set (id, tenant_id, entity_type, entity_id, file_count, created_by, expires_at, version_of, one_request)
    VALUES (upload, tenant, of_type, of_id, jsonb_array_length(request -> 'files'), who, expires,
            (request ->> 'version_of')::uuid, request @> '{"one_request": true}');
    -- None of them is uploaded in parts yet.
    WITH made AS (
        INSERT INTO attachments.attachment AS a (
            id, tenant_id, upload_set_id, position, entity_type, entity_id,
            file_name, media_type, byte_size, sha256, object_key, writable_until, uploaded_by, version_of, version)
        SELECT f.id, tenant, upload, f.position - 1, of_type, of_id,
               f.file ->> 'name', f.file ->> 'media_type', (f.file ->> 'size')::bigint, decode(f.file ->> 'sha256', 'hex'),
               keepsake.object_key(tenant, of_type, of_id, f.id, f.file ->> 'name'),
               expires, who, (request ->> 'version_of')::uuid, coalesce((request ->> 'version')::integer, 1)
        FROM (SELECT keepsake.uuid_v7() AS id, file, position
              FROM jsonb_array_elements(request -> 'files') WITH ORDINALITY AS e (file, position)
              OFFSET 0) AS f
        RETURNING a.position, attachments.describe_file(a) || '{"multipart": null}' AS file)
    SELECT coalesce(jsonb_agg(m.file ORDER BY m.position), '[]') INTO declared FROM made m;
    taken := attachments.taken_names(upload);
    IF taken <> '[]' THEN
        -- Undoes what was inserted; handled below.
        RAISE EXCEPTION USING ERRCODE = 'KS001', MESSAGE = 'name taken';
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload, 'expires_at', expires, 'files', declared));
EXCEPTION
    WHEN SQLSTATE 'KS001' THEN
        RETURN attachments.fail('name_taken', 'A file of that name already exists.',
            jsonb_build_object('errors', taken));
    WHEN SQLSTATE 'KS002' THEN
        GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
        RETURN refusal::jsonb;
    WHEN foreign_key_violation THEN
        -- The entity, or the attachment, was deleted between the look and the writing.
        RETURN attachments.fail('not_found', format('There is no %s %s to attach files to.', of_type, of_id));
END
$$;

-- Declares a set; once for each key.
CREATE FUNCTION attachments.declare_once(operation text, claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
    declaration jsonb := request;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    IF request ? 'idempotency_key' THEN
        answer := coalesce(attachments.refuse_key(operation, request), attachments.declared_before(claims, request));
        IF answer IS NOT NULL THEN
            RETURN answer;
        END IF;
    END IF;
    IF operation = 'create_version' THEN
        declaration := attachments.declaration_of_version(request);
        IF declaration ? 'error' THEN
            RETURN declaration;
        END IF;
    END IF;
    answer := attachments.declare_upload(claims, declaration);
    IF request ? 'idempotency_key' AND answer ? 'ok' THEN
        PERFORM attachments.remember_key(operation, request, (answer -> 'ok' ->> 'id')::uuid);
    END IF;
    RETURN answer;
END
$$;

CREATE FUNCTION attachments_api.create_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.declare_once('create_upload', claims, request);
END
$$;

-- NULL when the caller may go on with an upload, and for one that is not there. Who declared it may; anybody else must be allowed to change
-- the entity. The schedule comes as the one who declared it, and has none of their other claims.
CREATE FUNCTION attachments.refuse_upload(upload attachments.upload_set) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF upload.created_by <> attachments.claim('sub') THEN
        RETURN attachments.refuse_change(upload.entity_type, upload.entity_id);
    END IF;
    RETURN NULL;
END
$$;

-- `to_complete` is asked before anything is done in the store.
CREATE FUNCTION attachments_api.get_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF request @> '{"to_complete": true}' THEN
        refusal := attachments.refuse_upload(upload);
    END IF;
    IF refusal IS NOT NULL THEN
        RETURN refusal;
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'id', upload.id, 'state', upload.state, 'expires_at', upload.expires_at,
        'files', coalesce(upload.files, attachments.files_of(upload.id)), 'report', upload.report));
END
$$;

-- Completing -------------------------------------------------------------------------------------

-- Beyond the policies, under which the set was locked before: they would look for its entity twice more.
CREATE FUNCTION attachments.mark_completed(upload uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.upload_set s SET state = 'completed', settled_at = now() WHERE s.id = upload;
END
$$;

REVOKE ALL ON FUNCTION attachments.mark_completed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.mark_completed TO keepsake_api;

-- Makes every file of a set visible, or hands all to the scanner, or changes nothing. Repeating it changes nothing.
CREATE FUNCTION attachments.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    current integer;
    completed integer;
    taken jsonb;
    visible jsonb;
    scanning jsonb;
    refusal jsonb;
BEGIN
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid FOR UPDATE;
    refusal := attachments.refuse_upload(upload);
    IF upload.id IS NULL THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF refusal IS NOT NULL THEN
        RETURN refusal;
    ELSIF upload.state = 'rejected' THEN
        RETURN attachments.fail('upload_rejected', 'The upload was rejected and its files were removed. Declare the files again.');
    ELSIF upload.state = 'expired' THEN
        RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again.');
    ELSIF upload.state = 'aborted' THEN
        RETURN attachments.fail('upload_closed', 'The upload was aborted. Declare the files again.');
    END IF;
    IF upload.state = 'pending' THEN
        -- The worker deletes what is stored more than 30 seconds after the URL's expiry: a set is not completed so
        -- late that it could name such an object.
        IF upload.expires_at < now() - interval '15 seconds' THEN
            RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again.');
        END IF;
        taken := attachments.taken_names(upload.id);
        IF taken <> '[]' THEN
            RETURN attachments.fail('name_taken', 'A file of that name already exists.',
                jsonb_build_object('errors', taken));
        END IF;
        -- The attachment before its new version, as whoever deletes them locks them. Others may have become current since.
        IF upload.version_of IS NOT NULL THEN
            SELECT a.version INTO current FROM attachments.attachment a WHERE a.id = upload.version_of FOR UPDATE;
            IF EXISTS (SELECT FROM attachments.attachment v WHERE v.upload_set_id = upload.id AND v.version <> current + 1) THEN
                RAISE EXCEPTION USING ERRCODE = 'KS005', MESSAGE = 'version conflict';
            END IF;
        END IF;
        -- All are pending. A condition that says so would make a database without statistics read every pending file.
        WITH done AS (
            UPDATE attachments.attachment AS a SET
                state = CASE WHEN version_of IS NULL THEN 'available' ELSE 'former' END, available_at = now(),
                download_only = coalesce(request -> 'download_only' ? id::text, false)
            WHERE upload_set_id = upload.id AND deleted_at IS NULL
            RETURNING a.position, a.state, attachments.describe(a) AS file)
        SELECT count(*), jsonb_agg(d.file ORDER BY d.position) FILTER (WHERE d.state = 'available'),
               jsonb_agg(d.file ORDER BY d.position) FILTER (WHERE d.state = 'scanning')
        INTO completed, visible, scanning
        FROM done d;
        IF completed <> upload.file_count THEN
            -- Undoes what was completed; handled below.
            RAISE EXCEPTION USING ERRCODE = 'KS003', MESSAGE = 'not the whole set';
        END IF;
        IF upload.version_of IS NOT NULL THEN
            PERFORM attachments.make_current(upload);
        END IF;
        PERFORM attachments.mark_completed(upload.id);
    END IF;
    -- Of a set that was complete before, and of a new version, which may have become another by now: as they are.
    IF upload.state <> 'pending' OR upload.version_of IS NOT NULL THEN
        SELECT coalesce(jsonb_agg(attachments.describe(a) ORDER BY a.position) FILTER (WHERE a.state = 'available'), '[]'),
               jsonb_agg(attachments.describe(a) ORDER BY a.position) FILTER (WHERE a.state = 'scanning')
        INTO visible, scanning
        FROM attachments.attachment m JOIN attachments.attachment a ON a.id = CASE m.state WHEN 'former' THEN m.version_of ELSE m.id END
        WHERE m.upload_set_id = upload.id AND a.deleted_at IS NULL AND a.state IN ('available', 'scanning');
    END IF;
    IF scanning IS NOT NULL THEN
        UPDATE attachments.upload_set SET state = 'scanning' WHERE id = upload.id AND state = 'completed';
        RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'scanning', 'attachments', scanning));
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'completed', 'attachments', visible));
EXCEPTION
    WHEN SQLSTATE 'KS003' THEN
        RETURN attachments.fail('upload_closed', format('%s was deleted in the meantime. Restore it first, or abort the upload.',
            CASE WHEN upload.version_of IS NULL THEN format('%s %s', upload.entity_type, upload.entity_id) ELSE 'The attachment' END));
    WHEN SQLSTATE 'KS005' THEN
        RETURN coalesce(attachments.refuse_shut(upload.version_of), attachments.fail('version_conflict',
            'Another version has become current since this one was declared. Look at it, then declare yours again.'));
    WHEN unique_violation THEN
        -- Another set with the same name was completed at the same moment.
        RETURN attachments.fail('name_taken', 'A file of that name already exists.',
            jsonb_build_object('errors', attachments.taken_names(upload.id)));
END
$$;

CREATE FUNCTION attachments_api.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
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

-- Closing ----------------------------------------------------------------------------------------

-- Removes a live row for good, its object to the outbox. The row is locked first: when somebody deletes it meanwhile, it is in that deletion
-- with others, which is not to be purged here. False when it stays: a row of the application's refers to it, or a hold covers it.
CREATE FUNCTION attachments.purge_live(attachment uuid, reason text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM attachments.attachment a WHERE a.id = attachment AND a.deleted_at IS NULL FOR UPDATE;
    IF FOUND THEN
        PERFORM keepsake.purge_deletion(keepsake.soft_delete('attachments.attachment', attachment, reason));
    END IF;
    RETURN true;
EXCEPTION WHEN integrity_constraint_violation OR object_not_in_prerequisite_state OR raise_exception THEN
    RETURN false;
END
$$;

-- Removes the row of a file that failed: never visible, so gone at once. Where it stays it is shut for ever by its state, and the
-- sweep retries.
CREATE FUNCTION attachments.remove_rejected(attachment uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.purge_live(attachment, 'upload not completed');
END
$$;

-- Removes the rows of a set that failed. Those that went with their entity stay in its deletion, shut for ever by their state;
-- should it be restored, the sweep removes them.
CREATE FUNCTION attachments.discard(upload uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file record;
BEGIN
    FOR file IN
        UPDATE attachments.attachment SET state = 'rejected'
        WHERE upload_set_id = upload AND state IN ('pending', 'uploaded')
        RETURNING id, deletion_id
    LOOP
        IF file.deletion_id IS NULL THEN
            PERFORM attachments.remove_rejected(file.id);
        END IF;
    END LOOP;
END
$$;

-- Ends a pending set without anything becoming visible. Repeating it changes nothing.
CREATE FUNCTION attachments.close_upload(upload_id uuid, outcome text, report jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    SELECT * INTO upload FROM attachments.upload_set s WHERE s.id = upload_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF upload.state = 'completed' THEN
        RETURN attachments.fail('upload_closed', 'The upload is already complete. Delete its attachments instead.');
    ELSIF upload.state = 'pending' THEN
        UPDATE attachments.upload_set s
        SET state = outcome, settled_at = now(), report = close_upload.report,
            files = (SELECT jsonb_agg(file || '{"state": "rejected"}' ORDER BY n)
                     FROM jsonb_array_elements(attachments.files_of(upload_id)) WITH ORDINALITY AS f (file, n))
        WHERE s.id = upload_id;
        PERFORM attachments.discard(upload_id);
        upload.state := outcome;
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', upload.state));
END
$$;

CREATE FUNCTION attachments_api.reject_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    SELECT s.* INTO upload FROM attachments.upload_set s WHERE s.id = (request ->> 'upload_id')::uuid;
    RETURN coalesce(attachments.refuse_upload(upload),
                    attachments.close_upload((request ->> 'upload_id')::uuid, 'rejected', request -> 'report'));
END
$$;

CREATE FUNCTION attachments_api.abort_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    SELECT s.* INTO upload FROM attachments.upload_set s WHERE s.id = (request ->> 'upload_id')::uuid;
    refusal := attachments.refuse_upload(upload);
    IF refusal IS NOT NULL THEN
        RETURN refusal;
    ELSIF EXISTS (SELECT FROM attachments.upload_set s WHERE s.id = upload.id AND s.state = 'scanning') THEN
        RETURN attachments.fail('upload_closed', 'The upload is already complete, and is being scanned. Delete its attachments after the scan.');
    END IF;
    RETURN attachments.close_upload((request ->> 'upload_id')::uuid, 'aborted', NULL);
END
$$;

-- Ends sets whose time ran out a minute ago, when none can be completed any more: their objects go to the outbox.
CREATE FUNCTION attachments_api.sweep_uploads(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Closing takes time by the file: this many fit in one call, well within the worker's time limit.
    files_left integer := 1000;
    overdue record;
    closed integer := 0;
    stuck bigint;
BEGIN
    FOR overdue IN
        SELECT s.id, s.tenant_id, s.file_count FROM attachments.upload_set s
        WHERE s.state = 'pending' AND s.expires_at < now() - interval '1 minute'
        ORDER BY s.expires_at
        LIMIT (request ->> 'limit')::integer
        FOR UPDATE SKIP LOCKED
    LOOP
        -- One whose tenant is being erased goes with it.
        CONTINUE WHEN NOT pg_try_advisory_xact_lock_shared(attachments.tenant_lock(overdue.tenant_id));
        PERFORM attachments.close_upload(overdue.id, 'expired', NULL);
        closed := closed + 1;
        files_left := files_left - overdue.file_count;
        EXIT WHEN files_left <= 0;
    END LOOP;
    -- Files that failed while their entity was deleted came back with it; others could not be removed yet. In
    -- random order, so that those that still cannot be removed do not block the rest.
    SELECT count(*) FILTER (WHERE CASE
        WHEN pg_try_advisory_xact_lock_shared(attachments.tenant_lock(rejected.tenant_id)) THEN NOT attachments.remove_rejected(rejected.id)
        ELSE false END) INTO stuck
    FROM (SELECT r.id, r.tenant_id FROM attachments.attachment r
          WHERE r.state = 'rejected' AND r.deleted_at IS NULL
          ORDER BY random()
          LIMIT (request ->> 'limit')::integer) AS rejected;
    RETURN attachments.ok(jsonb_build_object('expired', closed, 'failed', stuck));
END
$$;

-- Sets whose client has gone -----------------------------------------------------------------------

-- The open upload that ends next, of those that end soon and are due for a look: who declared it, in whose name the worker then
-- completes it; null when none is due. The next look comes when half of what is left of its time has passed, so that there are
-- few of them and the last is near the end; until then no other run takes it. What one request was to upload is its own to complete:
-- its client was told that nothing came of it, or nothing at all.
CREATE FUNCTION attachments_api.lease_open_upload(request jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT s.id FROM attachments.upload_set s
        WHERE s.state = 'pending' AND NOT s.one_request AND s.expires_at > now()
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

-- Whose open upload an object belongs to, for a store that reports what was stored. The worker completes it as the one who
-- declared it.
CREATE FUNCTION attachments_api.find_open_upload(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(coalesce((
        SELECT jsonb_build_object('upload_id', s.id, 'tenant', s.tenant_id, 'subject', s.created_by)
        FROM attachments.attachment a JOIN attachments.upload_set s ON s.id = a.upload_set_id
        WHERE a.object_key = request ->> 'object_key' AND a.state = 'pending' AND s.state = 'pending' AND NOT s.one_request), 'null'))
$$;

SELECT attachments.publish(ARRAY['get_limits', 'create_upload', 'get_upload', 'complete_upload', 'reject_upload', 'abort_upload']);
-- The two that run inside of those, as the same role.
ALTER FUNCTION attachments.declare_upload OWNER TO keepsake_api;
ALTER FUNCTION attachments.complete_upload OWNER TO keepsake_api;
REVOKE ALL ON FUNCTION attachments.declare_upload, attachments.complete_upload FROM PUBLIC;

-- The schedule's cross tenants, so they run with the rights of who migrates.
REVOKE ALL ON FUNCTION attachments_api.sweep_uploads, attachments_api.lease_open_upload, attachments_api.find_open_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.sweep_uploads, attachments_api.lease_open_upload, attachments_api.find_open_upload TO keepsake_worker;
