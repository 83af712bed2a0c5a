-- What entities and attachments are called. An item is {"kind", "entity_type", "id", "label"}; the kind of an entity is `entity`. All of it is
-- read with the rights of the API, under the application's own policies.

-- The entity type of a table; a row of NULLs when it is none.
CREATE FUNCTION attachments.entity_of(table_name text) RETURNS attachments.entity_type
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e FROM attachments.entity_type e WHERE e.relation::text = table_name
$$;

-- The label of row `t` as SQL: what fits in a line, however long the column's text is. The application may have dropped the column
-- without saying so here.
CREATE FUNCTION attachments.label_sql(entity attachments.entity_type) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT format('left(t.%I::text, 255)', a.attname) FROM pg_attribute a
        WHERE a.attrelid = entity.relation AND a.attname = entity.label_column AND NOT a.attisdropped), 'NULL::text')
$$;

-- The references of an entity type to others that are registered, as the column of row `t` and the type; by the constraint's name,
-- where there are several.
CREATE FUNCTION attachments.parent_kinds(entity attachments.entity_type)
RETURNS TABLE (child_column name, parent_type text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.attname, p.name
    FROM pg_constraint c
    JOIN attachments.entity_type p ON p.relation = c.confrelid
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    JOIN pg_attribute k ON k.attrelid = c.confrelid AND k.attnum = c.confkey[1]
    WHERE c.contype = 'f' AND c.conrelid = entity.relation AND cardinality(c.conkey) = 1 AND k.attname = p.key_column
    ORDER BY c.conname
$$;

CREATE FUNCTION attachments.thing_item(entity_type text, entity_id text, label text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('kind', 'entity', 'entity_type', entity_type, 'id', entity_id, 'label', label)
$$;

-- An entity, live or deleted; NULL when it is not there, or the caller may not see it.
CREATE FUNCTION attachments.show_thing(entity_type text, entity_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity := attachments.find_entity(entity_type, entity_id);
    label text;
BEGIN
    IF NOT entity.is_there THEN
        RETURN NULL;
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    IF entity.deletion_id IS NOT NULL THEN
        RETURN attachments.show_deleted_thing(known, entity_id, entity.deletion_id);
    END IF;
    EXECUTE format('SELECT %s FROM %s AS t WHERE t.%I = $1::%s',
                   attachments.label_sql(known), known.relation, known.key_column, known.key_type)
    INTO label USING entity_id;
    RETURN attachments.thing_item(entity_type, entity_id, label);
END
$$;

-- An entity as a deletion has it; NULL when that does not, or the caller may not see it.
CREATE FUNCTION attachments.show_deleted_thing(known attachments.entity_type, entity_id text, deletion uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_row record;
BEGIN
    EXECUTE format('SELECT true AS is_there, %s AS label FROM %s WHERE %s LIMIT 1',
                   attachments.label_sql(known), attachments.deleted_sql(known, '$2', '$1'), attachments.is_entity_sql(known))
    INTO found_row USING entity_id, deletion;
    RETURN CASE WHEN found_row.is_there THEN attachments.thing_item(known.name, entity_id, found_row.label) END;
END
$$;

-- An attachment, live or deleted; NULL when it is not there, or the caller may not see it.
CREATE FUNCTION attachments.show_file(attachment uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('kind', 'attachment', 'entity_type', a.entity_type, 'entity_id', a.entity_id,
                              'id', a.id, 'label', a.file_name)
    FROM attachments.find_deletable(attachment) AS a WHERE a.id IS NOT NULL
$$;

-- The entity or attachment that a row is.
CREATE FUNCTION attachments.show_row(table_name text, row_key jsonb) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN table_name = 'attachments.attachment' THEN attachments.show_file((row_key ->> 'id')::uuid)
           ELSE attachments.show_thing((e).name, row_key ->> (e).key_column::text) END
    FROM attachments.entity_of(table_name) AS e
$$;

-- How an answer names the entity of a request.
CREATE FUNCTION attachments.show_entity(request jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('%s %s', request ->> 'entity_type', request ->> 'entity_id');
END
$$;

-- An item in a sentence; NULL for one that the caller may not see.
CREATE FUNCTION attachments.in_words(item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN item ->> 'kind' = 'attachment' THEN format('the file “%s”', item ->> 'label')
           WHEN item ->> 'label' IS NULL THEN format('the %s %s', item ->> 'entity_type', item ->> 'id')
           ELSE format('the %s “%s” (%s)', item ->> 'entity_type', item ->> 'label', item ->> 'id') END
$$;

-- Listing and renaming entities --------------------------------------------------------------------

-- An entity as a listing shows it: with what it belongs to and the number and bytes of its attachments.
CREATE FUNCTION attachments.describe_thing(entity_type text, entity_id text, label text, parent_type text, parent_id text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'entity_type', describe_thing.entity_type, 'id', describe_thing.entity_id, 'label', label,
        'parent', attachments.show_thing(parent_type, parent_id),
        'attachments', (
            SELECT jsonb_build_object('count', count(*), 'bytes', coalesce(sum(a.byte_size), 0))
            FROM attachments.attachment a
            WHERE a.tenant_id = attachments.tenant() AND a.entity_type = describe_thing.entity_type
              AND a.entity_id = describe_thing.entity_id AND a.state = 'available' AND a.deleted_at IS NULL))
$$;

-- The live entities that a condition on row `t` leaves and whose ids a path can name, as SQL: number, id, label and the id of what they
-- belong to. `$1` is the tenant.
CREATE FUNCTION attachments.entities_sql(entity attachments.entity_type, condition text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT row_number() OVER (ORDER BY t.%1$I DESC) AS n, t.%1$I::text AS id, %2$s AS label, %3$s AS parent_id
                   FROM %4$s AS t WHERE %8$s t.%5$I = $1::%6$s AND t.%5$I::text = $1
                     AND t.%1$I::text ~ ''^[A-Za-z0-9_-]{1,64}$'' AND %7$s',
                  entity.key_column, attachments.label_sql(entity),
                  coalesce((SELECT format('t.%I::text', p.child_column) FROM attachments.parent_kinds(entity) AS p LIMIT 1), 'NULL::text'),
                  entity.relation, entity.tenant_column,
                  -- With its length: a char(n) without one has one character.
                  (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = entity.relation AND a.attname = entity.tenant_column),
                  condition, CASE WHEN NOT attachments.kept_apart(entity.relation) THEN 't.deleted_at IS NULL AND' END)
$$;

CREATE FUNCTION attachments_api.list_entities(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    size integer := (request ->> 'limit')::integer;
    -- Entities that are looked at for one page: no index finds a part of a label.
    at_most integer := CASE WHEN request ? 'q' THEN 2000 ELSE size + 1 END;
    parent_type text;
    page text[];
    looked_at bigint;
    last text;
    items jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', format('There is no entity type %s.', request ->> 'entity_type'));
    END IF;
    parent_type := (SELECT p.parent_type FROM attachments.parent_kinds(known) AS p LIMIT 1);
    EXECUTE format(
        'SELECT array_agg(ARRAY[id, label, parent_id] ORDER BY n) FILTER (WHERE $2 IS NULL OR position(lower(normalize($2, NFKC)) IN lower(normalize(label, NFKC))) > 0),
                count(*), (array_agg(id ORDER BY n DESC))[1]
         FROM (%s ORDER BY t.%I DESC LIMIT %s) AS entities',
        attachments.entities_sql(known, CASE WHEN request ->> 'cursor' IS NULL THEN 'true'
            ELSE format('t.%I < %L::%s', known.key_column, request ->> 'cursor', known.key_type) END),
        known.key_column, at_most)
    INTO page, looked_at, last USING attachments.tenant(), request ->> 'q';
    SELECT coalesce(jsonb_agg(attachments.describe_thing(known.name, page[n][1], page[n][2], parent_type, page[n][3]) ORDER BY n), '[]')
    INTO items
    FROM generate_series(1, least(coalesce(array_length(page, 1), 0), size)) AS n;
    RETURN attachments.ok(jsonb_build_object(
        'items', items,
        'next_cursor', CASE WHEN array_length(page, 1) > size THEN page[size][1] WHEN looked_at = at_most THEN last END));
EXCEPTION WHEN data_exception THEN
    -- A tenant that the column's type cannot hold has no entities.
    RETURN attachments.ok('{"items": [], "next_cursor": null}');
END
$$;

CREATE FUNCTION attachments_api.get_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
    found_row record;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    EXECUTE attachments.entities_sql(known, format('t.%I = $2::%s', known.key_column, known.key_type))
    INTO found_row USING attachments.tenant(), request ->> 'entity_id';
    -- It was deleted since it was found.
    IF found_row.id IS NULL THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    RETURN attachments.ok(attachments.describe_thing(
        known.name, found_row.id, found_row.label, (SELECT p.parent_type FROM attachments.parent_kinds(known) AS p LIMIT 1), found_row.parent_id));
END
$$;

-- Changes the label, by the policies of the entity's table.
CREATE FUNCTION attachments_api.rename_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
    changed bigint;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    PERFORM attachments.enter_tenant(attachments.tenant());
    entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
    IF NOT entity.is_there THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    IF attachments.label_sql(known) = 'NULL::text' THEN
        RETURN attachments.fail('invalid_field', format('Entities of type %s have no label that can be changed.', known.name));
    END IF;
    IF entity.deletion_id IS NOT NULL AND attachments.kept_apart(known.relation) THEN
        PERFORM keepsake.change_deleted(known.relation, entity.key, known.label_column, request ->> 'label');
        RETURN attachments.ok(attachments.show_thing(known.name, request ->> 'entity_id'));
    END IF;
    -- A literal, which is assigned to a column of any type. A cast would cut what is too long for the column (22001).
    EXECUTE format('UPDATE %s AS t SET %I = %L WHERE t.%I = $1::%s AND t.%I::text = attachments.tenant()',
                   known.relation, known.label_column, request ->> 'label', known.key_column, known.key_type, known.tenant_column)
    USING request ->> 'entity_id';
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed = 0 THEN
        RETURN attachments.fail('not_found', format('There is no %s that you may rename.', attachments.show_entity(request)));
    END IF;
    RETURN attachments.ok(attachments.show_thing(known.name, request ->> 'entity_id'));
EXCEPTION
    WHEN insufficient_privilege OR no_data_found THEN
        RETURN attachments.fail('not_found', format('There is no %s that you may rename.', attachments.show_entity(request)));
    WHEN unique_violation OR exclusion_violation THEN
        RETURN attachments.fail('name_taken', format(
            'Another %s is called “%s” already. Choose another name, or rename that one first.', known.name, request ->> 'label'));
    WHEN integrity_constraint_violation OR data_exception OR raise_exception OR generated_always OR object_not_in_prerequisite_state THEN
        RETURN attachments.fail('invalid_field', format('The application does not allow this label for a %s. Choose another.', known.name));
END
$$;

SELECT attachments.publish(ARRAY['list_entities', 'get_entity', 'rename_entity']);
