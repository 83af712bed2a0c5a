-- Files that are shut, for who may read what they hang on: listed as what they are, and quarantined ones can be deleted.
-- `scanning` and `quarantined` are states that a person meets; `pending` and `rejected` are those of an upload, and
-- `uploaded` is seen by no other transaction.

CREATE INDEX attachment_shut ON attachments.attachment (tenant_id, state, id)
    WHERE state IN ('scanning', 'quarantined') AND deleted_at IS NULL;

-- What a listing asks of its rows: constants, and `$1`, the request. Only what is asked for stands there, so that each
-- listing gets the plan and the index that suit it.
CREATE OR REPLACE FUNCTION attachments.listing_conditions(request jsonb) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY[
        'a.tenant_id = attachments.tenant()',
        CASE request ->> 'state'
            WHEN 'deleted' THEN 'a.state = ''available'' AND a.deleted_at IS NOT NULL'
            WHEN 'scanning' THEN 'a.state = ''scanning'' AND a.deleted_at IS NULL'
            WHEN 'quarantined' THEN 'a.state = ''quarantined'' AND a.deleted_at IS NULL'
            WHEN 'live' THEN 'a.state IN (''available'', ''scanning'', ''quarantined'') AND a.deleted_at IS NULL'
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

CREATE OR REPLACE FUNCTION attachments_api.list_attachments(claims jsonb, request jsonb) RETURNS jsonb
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
        -- Some were not the caller's to see; behind them there may be more.
        next_cursor := to_jsonb(named[1000]);
    ELSIF request ->> 'entity_type' IS NOT NULL AND NOT request ?| ARRAY['q', 'uploader', 'media_type', 'created_after', 'created_before']
          AND coalesce(request ->> 'state', 'available') IN ('available', 'live') THEN
        -- Older than all of them, so behind the last.
        legacy := attachments.legacy_item(request ->> 'entity_type', entity.key, request ->> 'entity_id');
        items := items || CASE WHEN legacy IS NULL THEN '[]'::jsonb ELSE jsonb_build_array(legacy) END;
    END IF;
    RETURN attachments.ok(jsonb_build_object('items', items, 'next_cursor', next_cursor));
END
$$;

-- Deleting what is in quarantine ------------------------------------------------------------------

-- A file that can be deleted and restored, deleted or not, of an entity that the caller may see: one that was made visible
-- once, or one that malware was found in. In the bin and out of it the latter stays shut.
CREATE FUNCTION attachments.find_deletable(attachment uuid) RETURNS attachments.attachment
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a FROM attachments.attachment a
    WHERE a.id = attachment AND a.state IN ('available', 'quarantined')
      AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
$$;

-- An attachment in the shape of an entity: both are deleted and restored by the same functions.
CREATE OR REPLACE FUNCTION attachments.attachment_row(attachment uuid) RETURNS attachments.found_entity
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ('attachments.attachment', jsonb_build_object('id', attachment), found.id IS NOT NULL, found.deletion_id)::attachments.found_entity
    FROM attachments.find_deletable(attachment) AS found
$$;

CREATE OR REPLACE FUNCTION attachments.show_file(attachment uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('kind', 'attachment', 'entity_type', a.entity_type, 'entity_id', a.entity_id,
                              'id', a.id, 'label', a.file_name)
    FROM attachments.find_deletable(attachment) AS a WHERE a.id IS NOT NULL
$$;

-- What a deletion holds that the caller may see, by kind; of each kind 1000 are counted at most.
CREATE OR REPLACE FUNCTION attachments.count_deleted(deletion uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant integer := 1000;
    known attachments.entity_type;
    files record;
    counted bigint;
    things jsonb := '[]';
    files_counted bigint := 0;
    capped boolean := false;
BEGIN
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE e.relation IN (SELECT attachments.tables_of_deletion(deletion)) ORDER BY e.name
    LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s AS t WHERE t.deletion_id = $1 AND t.%I::text = attachments.tenant() LIMIT $2) AS few',
                       known.relation, known.tenant_column)
        INTO counted USING deletion, at_most + 1;
        capped := capped OR counted > at_most;
        IF counted > 0 THEN
            things := things || jsonb_build_object('entity_type', known.name, 'count', least(counted, at_most));
        END IF;
    END LOOP;
    FOR files IN
        SELECT few.entity_type, array_agg(few.entity_id) AS ids, sum(count(*)) OVER () > at_most AS more
        FROM (SELECT a.entity_type, a.entity_id FROM attachments.attachment a
              WHERE a.deletion_id = deletion AND a.state IN ('available', 'quarantined') LIMIT at_most + 1) AS few
        GROUP BY few.entity_type
    LOOP
        SELECT * INTO known FROM attachments.entity_type e WHERE e.name = files.entity_type;
        EXECUTE format('SELECT count(*) FROM unnest($1) AS of_file (id) JOIN %s AS t ON t.%I = of_file.id::%s WHERE t.%I::text = attachments.tenant()',
                       known.relation, known.key_column, known.key_type, known.tenant_column)
        INTO counted USING files.ids;
        files_counted := files_counted + counted;
        capped := capped OR files.more;
    END LOOP;
    RETURN jsonb_build_object('things', things, 'attachments', least(files_counted, at_most), 'capped', capped);
END
$$;

-- What a deletion holds that the caller may see: things before attachments. `ref` names a node, `parents` the things it
-- refers to.
CREATE OR REPLACE FUNCTION attachments.nodes_of_deletion(deletion uuid, at_most integer)
RETURNS TABLE (node jsonb, ref text, parents text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    room integer := at_most;
    taken integer;
BEGIN
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE e.relation IN (SELECT attachments.tables_of_deletion(deletion)) ORDER BY e.name
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT attachments.thing_item(%L, t.%I::text, %s), %L || t.%I::text, ARRAY[%s]::text[]
             FROM %s AS t WHERE t.deletion_id = $1 AND t.%I::text = attachments.tenant() ORDER BY t.%I LIMIT $2',
            known.name, known.key_column, attachments.label_sql(known), known.name || '/', known.key_column,
            (SELECT string_agg(format('%L || t.%I::text', p.parent_type || '/', p.child_column), ', ') FROM attachments.parent_kinds(known) AS p),
            known.relation, known.tenant_column, known.key_column)
        USING deletion, room;
        GET DIAGNOSTICS taken = ROW_COUNT;
        room := room - taken;
    END LOOP;
    RETURN QUERY
        SELECT attachments.show_file(a.id) || jsonb_build_object('size', a.byte_size, 'media_type', a.media_type),
               a.id::text, ARRAY[a.entity_type || '/' || a.entity_id]
        FROM attachments.attachment a
        WHERE a.deletion_id = deletion AND a.state IN ('available', 'quarantined')
          AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
        ORDER BY a.id LIMIT room;
END
$$;
