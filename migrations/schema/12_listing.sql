-- Listing and searching attachments.

-- The smallest id that can have been made at a time. Ids are made a moment after `now()`, never before.
CREATE FUNCTION attachments.first_id_at(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT rpad(lpad(to_hex(greatest(0, extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- What a listing asks of its rows: constants, and `$1`, the request. Only what is asked for stands there, so that each listing gets the
-- plan and the index that suit it.
CREATE FUNCTION attachments.listing_conditions(request jsonb) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY[
        'a.tenant_id = attachments.tenant()',
        CASE request ->> 'state'
            WHEN 'deleted' THEN 'a.state = ''available'' AND a.deleted_at IS NOT NULL'
            WHEN 'scanning' THEN 'a.state = ''scanning'' AND a.deleted_at IS NULL AND a.version_of IS NULL'
            WHEN 'quarantined' THEN 'a.state = ''quarantined'' AND a.deleted_at IS NULL'
            WHEN 'live' THEN 'a.state IN (''available'', ''scanning'', ''quarantined'') AND a.deleted_at IS NULL AND a.version_of IS NULL'
            ELSE 'a.state = ''available'' AND a.deleted_at IS NULL' END]
    || ARRAY(
        SELECT condition FROM (VALUES
            ('cursor', 'a.id < ($1 ->> ''cursor'')::uuid'),
            ('entity_type', 'a.entity_type = $1 ->> ''entity_type'' AND a.entity_id = $1 ->> ''entity_id'''),
            ('uploader', 'a.uploaded_by = $1 ->> ''uploader'''),
            ('media_type', 'a.media_type = $1 ->> ''media_type'''),
            ('created_after', 'a.created_at >= ($1 ->> ''created_after'')::timestamptz
                AND a.id >= attachments.first_id_at(($1 ->> ''created_after'')::timestamptz - interval ''1 hour'')'),
            ('created_before', 'a.created_at < ($1 ->> ''created_before'')::timestamptz
                AND a.id < attachments.first_id_at(($1 ->> ''created_before'')::timestamptz + interval ''1 hour'')')
        ) AS asked (name, condition) WHERE request ->> name IS NOT NULL)
$$;

-- The newest attachments of the tenant whose names have the words of `q`, of those that the listing asks for: at most 1000, in that
-- order. Whether the caller may see them is not asked here. Under row-level security no index over words could be used, as its
-- operators are not leakproof; hence with the rights of who migrates, and the tenant asked for.
CREATE FUNCTION attachments.find_named(request jsonb) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text[] := ARRAY(SELECT attachments.word_condition(attachments.tenant(), word)
                          FROM unnest(keepsake.search_words(request ->> 'q')) AS word);
    found uuid[];
BEGIN
    -- What holds no word at all finds nothing.
    IF words <> '{}' THEN
        EXECUTE format('SELECT ARRAY(SELECT a.id FROM attachments.attachment a WHERE %s ORDER BY a.id DESC LIMIT 1000)',
                       array_to_string(attachments.listing_conditions(request) || words, ' AND '))
        INTO found USING request;
    END IF;
    RETURN coalesce(found, '{}');
END
$$;

REVOKE ALL ON FUNCTION attachments.find_named FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.find_named TO keepsake_api;

-- The URL that the application kept itself, as an item of a listing, or NULL. Only what a browser may safely follow is a URL here.
CREATE FUNCTION attachments.legacy_item(entity_type text, entity_key jsonb, entity_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    url text;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type AND e.legacy_url_column IS NOT NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT t.%I::text FROM %s AS t WHERE t.%I = $1::%s',
                   known.legacy_url_column, known.relation, known.key_column, known.key_type)
    INTO url USING entity_key ->> known.key_column::text;
    IF url IS NULL OR url !~* '^https?://[^[:space:][:cntrl:]]+$' THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object(
        'id', NULL, 'legacy', true, 'entity_type', entity_type, 'entity_id', entity_id, 'state', 'available',
        'name', coalesce(substring(url FROM '^[^?#]*/([^/?#]+)(?:[?#]|$)'), url), 'content_url', url);
EXCEPTION WHEN undefined_column THEN
    -- The application dropped the column without saying so here: its listings go on.
    RETURN NULL;
END
$$;

-- When a deletion expires. Of deletions that the caller sees already.
CREATE FUNCTION attachments.expiry_of(deletion uuid) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT d.expires_at FROM keepsake.deletion d WHERE d.id = deletion);
END
$$;

REVOKE ALL ON FUNCTION attachments.expiry_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.expiry_of TO keepsake_api;

-- NULL for a moment that never comes.
CREATE FUNCTION attachments.days_until(moment timestamptz) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN isfinite(moment) THEN greatest(0, ceil(extract(epoch FROM moment - now()) / 86400))::integer END;
END
$$;

-- An attachment, and of a deleted one how long it can be restored.
CREATE FUNCTION attachments.describe_listed(a attachments.attachment) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.describe(a) || CASE WHEN a.deletion_id IS NULL THEN '{}' ELSE coalesce((
        SELECT jsonb_build_object('purge_after', expiry, 'days_left', attachments.days_until(expiry))
        FROM attachments.expiry_of(a.deletion_id) AS expiry WHERE isfinite(expiry)), '{}') END;
END
$$;

CREATE FUNCTION attachments_api.list_attachments(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := coalesce((request ->> 'limit')::integer, 50);
    entity attachments.found_entity;
    conditions text[] := attachments.listing_conditions(request);
    named uuid[];
    items jsonb;
    next_cursor jsonb;
    legacy jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ->> 'entity_type' IS NOT NULL THEN
        entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
        -- Of an entity that is deleted itself the bin can still be seen.
        IF entity.is_there IS NOT TRUE OR (entity.deletion_id IS NOT NULL AND request ->> 'state' IS DISTINCT FROM 'deleted') THEN
            RETURN attachments.fail('not_found', format('There is no %s %s.', request ->> 'entity_type', request ->> 'entity_id'));
        END IF;
    END IF;
    IF request ->> 'q' IS NOT NULL THEN
        named := attachments.find_named(request);
        conditions := conditions || 'a.id = ANY ($2)'::text;
    END IF;
    IF request ->> 'entity_type' IS NULL THEN
        -- The policies of the entity's table, for what is left.
        conditions := conditions || '(attachments.find_entity(a.entity_type, a.entity_id)).is_there'::text;
    END IF;
    -- Newest first: ids are made in the order of time. One more than asked says whether there are more.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(attachments.describe_listed(page) ORDER BY page.id DESC), ''[]'')
         FROM (SELECT a.* FROM attachments.attachment a WHERE %s ORDER BY a.id DESC LIMIT %s) AS page',
        array_to_string(conditions, ' AND '), size + 1)
    INTO items USING request, named;
    IF jsonb_array_length(items) > size THEN
        items := items - size;
        next_cursor := items -> (size - 1) -> 'id';
    ELSIF cardinality(named) = 1000 THEN
        -- The caller may not see some of them; there may be more after these.
        next_cursor := to_jsonb(named[1000]);
    ELSIF request ->> 'entity_type' IS NOT NULL AND NOT request ?| ARRAY['q', 'uploader', 'media_type', 'created_after', 'created_before']
          AND coalesce(request ->> 'state', 'available') IN ('available', 'live') THEN
        -- Older than all of them, so after the last.
        legacy := attachments.legacy_item(request ->> 'entity_type', entity.key, request ->> 'entity_id');
        items := items || CASE WHEN legacy IS NULL THEN '[]'::jsonb ELSE jsonb_build_array(legacy) END;
    END IF;
    RETURN attachments.ok(jsonb_build_object('items', items, 'next_cursor', next_cursor));
END
$$;

SELECT attachments.publish(ARRAY['list_attachments']);
