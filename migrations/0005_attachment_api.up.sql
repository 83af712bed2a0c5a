-- What the worker calls for attachments and their entities: list, read, delete, restore.

-- A file that was made visible once, deleted or not, of an entity that the caller may see: the policies of
-- the entity's table decide for its attachments too.
CREATE FUNCTION attachments.find_attachment(attachment uuid) RETURNS attachments.attachment
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a FROM attachments.attachment a
    WHERE a.id = attachment AND a.state = 'available'
      AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
$$;

CREATE FUNCTION attachments_api.list_attachments(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := coalesce((request ->> 'limit')::integer, 50);
    after uuid := (request ->> 'cursor')::uuid;
    deleted boolean := request ->> 'state' = 'deleted';
    entity attachments.found_entity;
    items jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ? 'entity_type' THEN
        entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
        IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
            RETURN attachments.fail('not_found', format('There is no %s %s.', request ->> 'entity_type', request ->> 'entity_id'));
        END IF;
    END IF;
    -- Newest first: ids are made in the order of time. One more than asked says whether there are more.
    SELECT coalesce(jsonb_agg(attachments.describe(page) ORDER BY page.id DESC), '[]') INTO items
    FROM (SELECT a.* FROM attachments.attachment a
          WHERE a.tenant_id = attachments.tenant() AND a.state = 'available'
            AND (a.deleted_at IS NOT NULL) = deleted
            AND (after IS NULL OR a.id < after)
            AND CASE WHEN request ? 'entity_type'
                THEN a.entity_type = request ->> 'entity_type' AND a.entity_id = request ->> 'entity_id'
                ELSE (attachments.find_entity(a.entity_type, a.entity_id)).is_there END
          ORDER BY a.id DESC LIMIT size + 1) AS page;
    RETURN attachments.ok(jsonb_build_object(
        'items', CASE WHEN jsonb_array_length(items) > size THEN items - size ELSE items END,
        'next_cursor', CASE WHEN jsonb_array_length(items) > size THEN items -> (size - 1) -> 'id' END));
END
$$;

CREATE FUNCTION attachments_api.get_attachment(claims jsonb, request jsonb) RETURNS jsonb
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

-- The only way to a download: of an available attachment, in the caller's tenant.
CREATE FUNCTION attachments_api.attachment_content(claims jsonb, request jsonb) RETURNS jsonb
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

-- A deletion of the caller's tenant. The API's role reads no registry of its own right.
CREATE FUNCTION attachments.find_deletion(deletion uuid) RETURNS keepsake.deletion
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d FROM keepsake.deletion d WHERE d.id = deletion AND d.tenant = attachments.tenant()
$$;

-- What was purged is told apart from what never was: only to the tenant whose it was.
CREATE FUNCTION attachments.missing(relation regclass, key jsonb, detail text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (
        SELECT FROM keepsake.deletion d
        WHERE d.root_table = relation AND d.root_key = key AND d.tenant = attachments.tenant()
          AND d.state IN ('purging', 'purged') AND d.reason IS DISTINCT FROM 'upload not completed')
    THEN attachments.fail('purged', 'Its retention ran out; it is gone for good.')
    ELSE attachments.fail('not_found', detail) END
$$;
REVOKE ALL ON FUNCTION attachments.find_deletion, attachments.missing FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.find_deletion, attachments.missing TO keepsake_api;

-- An attachment in the shape of an entity: both are deleted and restored by the same functions.
CREATE FUNCTION attachments.attachment_row(attachment uuid) RETURNS attachments.found_entity
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ('attachments.attachment', jsonb_build_object('id', attachment), found.id IS NOT NULL, found.deletion_id)::attachments.found_entity
    FROM attachments.find_attachment(attachment) AS found
$$;

CREATE FUNCTION attachments.delete_row(target attachments.found_entity, shown text, reason text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF target.is_there IS NOT TRUE THEN
        RETURN attachments.missing(target.relation, target.key, format('There is no %s.', shown));
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'deletion_id', coalesce(target.deletion_id, keepsake.soft_delete(target.relation, target.key, reason)),
        'already', target.deletion_id IS NOT NULL));
EXCEPTION
    WHEN foreign_key_violation THEN
        RETURN attachments.fail('delete_blocked', 'Something that cannot be deleted with it still refers to it.');
    WHEN no_data_found THEN
        RETURN attachments.fail('not_found', 'It is not there any more.');
END
$$;

-- Conflicts without the keys of rows that are not of the caller's tenant: its tables may have no policies.
CREATE FUNCTION attachments.of_tenant(conflicts jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_agg(CASE
        WHEN c ->> 'table' = 'attachments.attachment' OR EXISTS (
            SELECT FROM attachments.entity_type e
            WHERE e.relation::text = c ->> 'table'
              AND (attachments.find_entity(e.name, c -> 'holder' ->> e.key_column::text)).is_there)
        THEN c ELSE c || '{"holder": null}' END ORDER BY n)
    FROM jsonb_array_elements(conflicts) WITH ORDINALITY AS l (c, n)
$$;

-- Undoes the deletion that began with this row. A row that went with another is brought back with that one.
CREATE FUNCTION attachments.restore_row(target attachments.found_entity, shown text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    root keepsake.deletion;
    sql_state text;
    message text;
    conflicts text;
BEGIN
    IF target.is_there IS NOT TRUE THEN
        RETURN attachments.missing(target.relation, target.key, format('There is no %s.', shown));
    END IF;
    IF target.deletion_id IS NULL THEN
        RETURN attachments.ok('{"deletion_id": null, "restored": [], "passed": []}');
    END IF;
    root := attachments.find_deletion(target.deletion_id);
    IF root.state IN ('purging', 'purged') THEN
        RETURN attachments.fail('purged', 'Its retention ran out; it is gone for good.');
    END IF;
    IF root.id IS NULL THEN
        -- Deleted by somebody who worked without this tenant's claims.
        RETURN attachments.fail('restore_conflict', 'It was deleted by an operator, who alone can bring it back.',
            '{"conflicts": []}');
    END IF;
    IF root.root_table <> target.relation OR root.root_key <> target.key THEN
        RETURN attachments.fail('restore_conflict',
            format('It was deleted together with %s; restore that.', root.root_table),
            jsonb_build_object('conflicts', jsonb_build_array(jsonb_build_object(
                'kind', 'parent_deleted', 'table', target.relation::text, 'key', target.key, 'constraint', NULL,
                'values', '{}'::jsonb, 'holder', root.root_key, 'holder_table', root.root_table::text))));
    END IF;
    RETURN attachments.ok(keepsake.restore(target.deletion_id));
EXCEPTION
    -- Races that PostgreSQL itself decided, before the class that they belong to.
    WHEN unique_violation OR exclusion_violation OR foreign_key_violation THEN
        RETURN attachments.fail('restore_conflict',
            'Something took its place at this very moment. Look at it and try again; nothing was changed.',
            '{"conflicts": []}');
    WHEN integrity_constraint_violation THEN
        GET STACKED DIAGNOSTICS sql_state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, conflicts = PG_EXCEPTION_DETAIL;
        IF sql_state <> '23000' OR message NOT LIKE 'cannot restore the deletion: %' THEN
            RETURN attachments.fail('restore_conflict',
                'A rule of the application forbids what would come back; nothing was changed.', '{"conflicts": []}');
        END IF;
        RETURN attachments.fail('restore_conflict',
            'Bringing it back would clash with what is there now. Each conflict is listed; nothing was changed.',
            jsonb_build_object('conflicts', attachments.of_tenant(conflicts::jsonb)));
    WHEN object_not_in_prerequisite_state THEN
        RETURN attachments.fail('purged', 'Its retention ran out; it is gone for good.');
    WHEN no_data_found THEN
        RETURN attachments.missing(target.relation, target.key, 'It is not there any more.');
END
$$;

CREATE FUNCTION attachments.show_entity(request jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('%s %s', request ->> 'entity_type', request ->> 'entity_id')
$$;

CREATE FUNCTION attachments_api.delete_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.delete_row(attachments.attachment_row((request ->> 'attachment_id')::uuid), 'such attachment', request ->> 'reason');
END
$$;

CREATE FUNCTION attachments_api.restore_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.restore_row(attachments.attachment_row((request ->> 'attachment_id')::uuid), 'such attachment');
END
$$;

CREATE FUNCTION attachments_api.delete_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.delete_row(attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id'), attachments.show_entity(request), request ->> 'reason');
END
$$;

CREATE FUNCTION attachments_api.restore_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.restore_row(attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id'), attachments.show_entity(request));
END
$$;

SELECT attachments.publish(ARRAY[
    'list_attachments', 'get_attachment', 'attachment_content',
    'delete_attachment', 'restore_attachment', 'delete_entity', 'restore_entity']);
