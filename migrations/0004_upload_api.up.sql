-- What the worker calls for uploads. Each call is one transaction under the caller's claims.

CREATE FUNCTION attachments.describe(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'id', a.id, 'entity_type', a.entity_type, 'entity_id', a.entity_id,
        'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
        'sha256', encode(a.sha256, 'hex'), 'state', a.state, 'uploaded_by', a.uploaded_by,
        'created_at', a.created_at, 'deleted_at', a.deleted_at)
$$;

-- The files of a set as the worker needs them: what was declared, and where the bytes are.
CREATE FUNCTION attachments.files_of(upload uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'attachment_id', a.id, 'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
        'sha256', encode(a.sha256, 'hex'), 'object_key', a.object_key, 'state', a.state)
        ORDER BY a.position), '[]')
    FROM attachments.attachment a WHERE a.upload_set_id = upload
$$;

-- Names of the set that a live file of the entity bears already, as field errors.
CREATE FUNCTION attachments.taken_names(upload uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'pointer', format('/files/%s/name', mine.position), 'code', 'name_taken',
        'detail', format('A file named %s is there already. Delete it or choose another name.', mine.file_name))
        ORDER BY mine.position), '[]')
    FROM attachments.attachment mine
    WHERE mine.upload_set_id = upload AND EXISTS (
        SELECT FROM attachments.attachment other
        WHERE other.tenant_id = mine.tenant_id AND other.entity_type = mine.entity_type
          AND other.entity_id = mine.entity_id AND other.upload_set_id <> upload
          AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(mine.file_name)
          AND other.deleted_at IS NULL AND other.state = 'available')
$$;

-- Removes the row of a file that failed: never visible, so gone at once, its object to the outbox. False when
-- something of the application's still refers to it: it stays, shut for ever by its state, and is tried again.
CREATE FUNCTION attachments.remove_rejected(attachment uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.purge_deletion(
        keepsake.soft_delete('attachments.attachment', attachment, 'upload not completed'));
    RETURN true;
EXCEPTION WHEN integrity_constraint_violation OR raise_exception THEN
    RETURN false;
END
$$;

-- Removes the rows of a set that failed. Those that went with their entity stay in its deletion, shut for
-- ever by their state; should it be restored, the sweep removes them.
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

CREATE FUNCTION attachments_api.create_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity attachments.found_entity;
    upload uuid := keepsake.uuid_v7();
    expires timestamptz := (request ->> 'expires_at')::timestamptz;
    taken jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN attachments.fail('not_found', format('There is no %s %s to attach files to.',
            request ->> 'entity_type', request ->> 'entity_id'));
    END IF;
    INSERT INTO attachments.upload_set (id, tenant_id, entity_type, entity_id, file_count, created_by, expires_at)
    VALUES (upload, attachments.tenant(), request ->> 'entity_type', request ->> 'entity_id',
            jsonb_array_length(request -> 'files'), attachments.claim('sub'), expires);
    INSERT INTO attachments.attachment (
        id, tenant_id, upload_set_id, position, entity_type, entity_id,
        file_name, media_type, byte_size, sha256, object_key, writable_until, uploaded_by)
    SELECT f.id, attachments.tenant(), upload, f.position - 1, request ->> 'entity_type', request ->> 'entity_id',
           f.file ->> 'name', f.file ->> 'media_type', (f.file ->> 'size')::bigint, decode(f.file ->> 'sha256', 'hex'),
           keepsake.object_key(attachments.tenant(), request ->> 'entity_type', request ->> 'entity_id', f.id, f.file ->> 'name'),
           expires, attachments.claim('sub')
    FROM (SELECT keepsake.uuid_v7() AS id, file, position
          FROM jsonb_array_elements(request -> 'files') WITH ORDINALITY AS e (file, position)
          OFFSET 0) AS f;
    taken := attachments.taken_names(upload);
    IF taken <> '[]' THEN
        -- Undoes what was inserted; caught below.
        RAISE EXCEPTION USING ERRCODE = 'KS001', MESSAGE = 'name taken';
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload, 'expires_at', expires, 'files', attachments.files_of(upload)));
EXCEPTION
    WHEN SQLSTATE 'KS001' THEN
        RETURN attachments.fail('name_taken', 'A file of that name is there already.',
            jsonb_build_object('errors', taken));
    WHEN foreign_key_violation THEN
        -- The entity went between the look and the writing.
        RETURN attachments.fail('not_found', format('There is no %s %s to attach files to.',
            request ->> 'entity_type', request ->> 'entity_id'));
END
$$;

CREATE FUNCTION attachments_api.get_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'id', upload.id, 'state', upload.state, 'expires_at', upload.expires_at,
        'files', coalesce(upload.files, attachments.files_of(upload.id)), 'report', upload.report));
END
$$;

-- Makes the whole set available. The worker has looked at every object before it calls this.
CREATE FUNCTION attachments_api.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    taken jsonb;
    visible jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid FOR UPDATE;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF upload.state = 'rejected' THEN
        RETURN attachments.fail('upload_rejected', 'The upload was rejected; its files are gone. Declare them again.');
    ELSIF upload.state = 'expired' THEN
        RETURN attachments.fail('upload_expired', 'The time to upload has run out. Declare the files again.');
    ELSIF upload.state = 'aborted' THEN
        RETURN attachments.fail('upload_closed', 'The upload was given up. Declare the files again.');
    END IF;
    IF upload.state = 'pending' THEN
        -- The worker deletes what is stored more than 30 seconds after the URL's expiry: a set is not completed so
        -- late that it could name such an object.
        IF upload.expires_at < now() - interval '15 seconds' THEN
            RETURN attachments.fail('upload_expired', 'The time to upload has run out. Declare the files again.');
        END IF;
        IF upload.file_count <> (SELECT count(*) FROM attachments.attachment
                                 WHERE upload_set_id = upload.id AND deleted_at IS NULL) THEN
            RETURN attachments.fail('upload_closed', format('%s %s was deleted meanwhile. Restore it first, or give the upload up.',
                upload.entity_type, upload.entity_id));
        END IF;
        taken := attachments.taken_names(upload.id);
        IF taken <> '[]' THEN
            RETURN attachments.fail('name_taken', 'A file of that name is there already.',
                jsonb_build_object('errors', taken));
        END IF;
        UPDATE attachments.attachment SET state = 'uploaded' WHERE upload_set_id = upload.id AND state = 'pending';
        UPDATE attachments.attachment SET state = 'available', available_at = now()
        WHERE upload_set_id = upload.id AND state = 'uploaded';
        UPDATE attachments.upload_set SET state = 'completed', settled_at = now() WHERE id = upload.id;
    END IF;
    SELECT coalesce(jsonb_agg(attachments.describe(a) ORDER BY a.position), '[]') INTO visible
    FROM attachments.attachment a WHERE a.upload_set_id = upload.id AND a.deleted_at IS NULL AND a.state = 'available';
    RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'completed', 'attachments', visible));
EXCEPTION WHEN unique_violation THEN
    -- Another set with the same name was completed at the same moment.
    RETURN attachments.fail('name_taken', 'A file of that name is there already.');
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
        RETURN attachments.fail('upload_closed', 'The upload is complete already. Delete its attachments instead.');
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
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.close_upload((request ->> 'upload_id')::uuid, 'rejected', request -> 'report');
END
$$;

CREATE FUNCTION attachments_api.abort_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.close_upload((request ->> 'upload_id')::uuid, 'aborted', NULL);
END
$$;

SELECT attachments.publish(ARRAY['create_upload', 'get_upload', 'complete_upload', 'reject_upload', 'abort_upload']);
