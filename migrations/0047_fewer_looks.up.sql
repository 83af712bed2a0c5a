-- The same with less: a set is declared with one look at its thing, and completed with one UPDATE of its files.

-- Its plans are kept, as those of 0031.
CREATE OR REPLACE FUNCTION attachments.search_words(folded text) RETURNS SETOF text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT word
    FROM regexp_split_to_table(
        regexp_replace(normalize(folded, NFKD), '[\u0300-\u036f]', '', 'g') COLLATE "C",
        -- Whatever is no letter, digit or mark in ASCII, Latin-1 and the blocks of punctuation.
        '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+') AS word
    WHERE word <> '';
END
$$;

CREATE OR REPLACE FUNCTION attachments.search_terms(tenant text, word text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The tenant's mark keeps its terms apart in the index; that a row is the tenant's is asked for besides.
    mark text := left(md5(tenant), 6);
BEGIN
    RETURN (
        SELECT array_agg(mark || substr('  ' || word, place, 3) ORDER BY place)
        FROM generate_series(1, char_length(word)) AS place);
END
$$;

CREATE OR REPLACE FUNCTION attachments.name_terms(tenant text, file_name text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce(array_agg(DISTINCT term), '{}')
        FROM attachments.search_words(keepsake.filename_comparison_key(file_name)) AS word,
             unnest(attachments.search_terms(tenant, word)) AS term);
END
$$;

-- Looking for a thing ------------------------------------------------------------------------------------

-- The query for a thing of one kind by its id, which counts in the one spelling that the key's type prints: '07' is not 7.
CREATE FUNCTION attachments.entity_query(known attachments.entity_type) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(
        'SELECT jsonb_build_object(%1$L, t.%1$I), true, t.deletion_id FROM %3$s AS t
         WHERE t.%1$I = $1::%2$s AND t.%1$I::text = $1 AND t.%4$I::text = attachments.tenant()',
        known.key_column, known.key_type, known.relation, known.tenant_column);
END
$$;

CREATE OR REPLACE FUNCTION attachments.find_entity(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    IF NOT FOUND THEN
        RETURN (NULL, NULL, false, NULL)::attachments.found_entity;
    END IF;
    EXECUTE attachments.entity_query(known) INTO entity.key, entity.is_there, entity.deletion_id USING entity_id;
    IF entity.is_there IS NULL THEN
        entity.is_there := false;
        EXECUTE format(
            'SELECT jsonb_build_object(%1$L, $1::%2$s) WHERE ($1::%2$s)::text = $1',
            known.key_column, known.key_type)
        INTO entity.key USING entity_id;
    END IF;
    entity.relation := known.relation;
    RETURN entity;
EXCEPTION WHEN data_exception THEN
    RETURN (known.relation, NULL, false, NULL)::attachments.found_entity;
END
$$;

-- The same for whoever the policies let update the thing, which then does not go before the transaction ends.
CREATE FUNCTION attachments.lock_entity(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    IF FOUND THEN
        EXECUTE attachments.entity_query(known) || ' FOR KEY SHARE'
        INTO entity.key, entity.is_there, entity.deletion_id USING entity_id;
    END IF;
    entity.is_there := coalesce(entity.is_there, false);
    RETURN entity;
EXCEPTION WHEN data_exception THEN
    RETURN (NULL, NULL, false, NULL)::attachments.found_entity;
END
$$;

CREATE OR REPLACE FUNCTION attachments.refuse_change(entity_type text, entity_id text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (attachments.lock_entity(entity_type, entity_id)).is_there
       OR (attachments.find_entity(entity_type, entity_id)).is_there IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    RETURN attachments.fail('not_found', format('There is no %s %s whose files you may change.', entity_type, entity_id));
END
$$;

-- Declaring ----------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION attachments.declare_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    type text := request ->> 'entity_type';
    thing text := request ->> 'entity_id';
    entity attachments.found_entity := attachments.lock_entity(type, thing);
    upload uuid := keepsake.uuid_v7();
    expires timestamptz := (request ->> 'expires_at')::timestamptz;
    taken jsonb;
BEGIN
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN coalesce(attachments.refuse_change(type, thing),
                        attachments.fail('not_found', format('There is no %s %s to attach files to.', type, thing)));
    END IF;
    INSERT INTO attachments.upload_set (id, tenant_id, entity_type, entity_id, file_count, created_by, expires_at)
    VALUES (upload, attachments.tenant(), type, thing, jsonb_array_length(request -> 'files'), attachments.claim('sub'), expires);
    INSERT INTO attachments.attachment (
        id, tenant_id, upload_set_id, position, entity_type, entity_id,
        file_name, media_type, byte_size, sha256, object_key, writable_until, uploaded_by)
    SELECT f.id, attachments.tenant(), upload, f.position - 1, type, thing,
           f.file ->> 'name', f.file ->> 'media_type', (f.file ->> 'size')::bigint, decode(f.file ->> 'sha256', 'hex'),
           keepsake.object_key(attachments.tenant(), type, thing, f.id, f.file ->> 'name'),
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
        RETURN attachments.fail('not_found', format('There is no %s %s to attach files to.', type, thing));
END
$$;

CREATE OR REPLACE FUNCTION attachments_api.create_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
    refusal text;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ? 'idempotency_key' THEN
        answer := coalesce(attachments.refuse_key('create_upload', request), attachments.declared_before(request));
        IF answer IS NOT NULL THEN
            RETURN answer;
        END IF;
    END IF;
    answer := attachments.declare_upload(claims, request);
    IF request ? 'idempotency_key' AND answer ? 'ok' THEN
        PERFORM attachments.remember_key('create_upload', request, (answer -> 'ok' ->> 'id')::uuid);
    END IF;
    RETURN answer;
EXCEPTION WHEN SQLSTATE 'KS002' THEN
    GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
    RETURN refusal::jsonb;
END
$$;

-- Completing ---------------------------------------------------------------------------------------------

-- As before; each name is looked up by itself, as OFFSET keeps a database without statistics from joining all there are.
CREATE OR REPLACE FUNCTION attachments.taken_names(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
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
              AND other.deleted_at IS NULL AND other.state = 'available'
            OFFSET 0));
END
$$;

-- What is completed was looked at in the same transaction, so that nobody ever saw it merely uploaded.
CREATE OR REPLACE FUNCTION attachments.check_state_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('pending', 'uploaded'), ('pending', 'available'), ('pending', 'rejected'),
        ('uploaded', 'available'), ('uploaded', 'rejected'), ('uploaded', 'quarantined'),
        ('scanning', 'available'), ('scanning', 'rejected'), ('scanning', 'quarantined'),
        ('available', 'quarantined')) THEN
        RAISE EXCEPTION 'an attachment cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation',
                  DETAIL = format('Attachment %s.', OLD.id),
                  HINT = 'pending → (uploaded →) (scanning →) available | rejected | quarantined.';
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER stop_for_scan BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (OLD.state IN ('pending', 'uploaded') AND NEW.state = 'available')
    EXECUTE FUNCTION attachments.stop_for_scan();

-- Beyond the policies, under which the set was locked before: they would look for its thing twice more.
CREATE FUNCTION attachments.mark_completed(upload uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.upload_set s SET state = 'completed', settled_at = now() WHERE s.id = upload;
END
$$;
REVOKE ALL ON FUNCTION attachments.mark_completed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.mark_completed TO keepsake_api;

CREATE OR REPLACE FUNCTION attachments.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    completed integer;
    taken jsonb;
    visible jsonb;
    scanning jsonb;
BEGIN
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
        taken := attachments.taken_names(upload.id);
        IF taken <> '[]' THEN
            RETURN attachments.fail('name_taken', 'A file of that name is there already.',
                jsonb_build_object('errors', taken));
        END IF;
        -- All are pending. To ask for that would lead a database without statistics through everything that is.
        UPDATE attachments.attachment SET state = 'available', available_at = now()
        WHERE upload_set_id = upload.id AND deleted_at IS NULL;
        GET DIAGNOSTICS completed = ROW_COUNT;
        IF completed <> upload.file_count THEN
            -- Undoes what was completed; caught below.
            RAISE EXCEPTION USING ERRCODE = 'KS003', MESSAGE = 'not the whole set';
        END IF;
        PERFORM attachments.mark_completed(upload.id);
    END IF;
    SELECT coalesce(jsonb_agg(attachments.describe(a) ORDER BY a.position) FILTER (WHERE a.state = 'available'), '[]'),
           jsonb_agg(attachments.describe(a) ORDER BY a.position) FILTER (WHERE a.state = 'scanning')
    INTO visible, scanning
    FROM attachments.attachment a
    WHERE a.upload_set_id = upload.id AND a.deleted_at IS NULL AND a.state IN ('available', 'scanning');
    IF scanning IS NOT NULL THEN
        UPDATE attachments.upload_set SET state = 'scanning' WHERE id = upload.id AND state = 'completed';
        RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'scanning', 'attachments', scanning));
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'completed', 'attachments', visible));
EXCEPTION
    WHEN SQLSTATE 'KS003' THEN
        RETURN attachments.fail('upload_closed', format('%s %s was deleted meanwhile. Restore it first, or give the upload up.',
            upload.entity_type, upload.entity_id));
    WHEN unique_violation THEN
        -- Another set with the same name was completed at the same moment.
        RETURN attachments.fail('name_taken', 'A file of that name is there already.',
            jsonb_build_object('errors', attachments.taken_names(upload.id)));
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
