-- What a page for people needs: things by what they are called, the bin, what a deletion took with it, restoring it by
-- its id, and names that can be changed.

-- Labels ----------------------------------------------------------------------------------------

ALTER TABLE attachments.entity_type ADD COLUMN label_column name;
COMMENT ON COLUMN attachments.entity_type.label_column IS
    'The column that says what people call a thing, such as its title; NULL: things are shown by their id alone.';

-- Things are listed by tenant, in the order of their keys.
CREATE FUNCTION attachments.index_listing(entity attachments.entity_type) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = entity.relation AND pg_get_expr(i.indpred, i.indrelid) = '(deleted_at IS NULL)'
          AND i.indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = entity.relation AND attname = entity.tenant_column)
          AND i.indkey[1] = (SELECT attnum FROM pg_attribute WHERE attrelid = entity.relation AND attname = entity.key_column)) THEN
        EXECUTE format('CREATE INDEX ON %s (%I, %I) WHERE deleted_at IS NULL',
                       entity.relation, entity.tenant_column, entity.key_column);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION attachments.index_listing FROM PUBLIC;
SELECT attachments.index_listing(e) FROM attachments.entity_type e;

CREATE FUNCTION attachments.show_label(entity text, label_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no entity type %', entity
            USING ERRCODE = 'undefined_object', HINT = 'Register it with attachments.register_entity() first.';
    ELSIF label_column IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = known.relation AND a.attname = label_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% has no column %', known.relation, label_column
            USING ERRCODE = 'undefined_column', HINT = 'Name the column that says what people call a thing, or NULL for none.';
    END IF;
    UPDATE attachments.entity_type e SET label_column = show_label.label_column WHERE e.name = entity;
    IF label_column IS NOT NULL THEN
        EXECUTE format('GRANT UPDATE (%I) ON %s TO keepsake_api', label_column, known.relation);
    END IF;
END
$$;
COMMENT ON FUNCTION attachments.show_label IS
    'Shows the things of an entity by this column, and lets them be renamed through it under the table''s own policies; NULL stops it.';
REVOKE ALL ON FUNCTION attachments.show_label FROM PUBLIC;

DROP FUNCTION attachments.register_entity(text, regclass, name);
-- Gives an application's table attachments. Run by a role that owns both, such as the one that migrates.
CREATE FUNCTION attachments.register_entity(name text, relation regclass, tenant_column name, label_column name DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity_key record;
    entity attachments.entity_type;
BEGIN
    SELECT a.attname, a.atttypid::regtype AS type INTO entity_key
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = relation AND i.indisprimary AND i.indnkeyatts = 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% cannot have attachments: its primary key is not one column', relation
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Attachments name their entity by one id. Give the table a single-column key.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute a
                   WHERE a.attrelid = relation AND a.attname = tenant_column AND NOT a.attisdropped) THEN
        RAISE EXCEPTION '% has no column %', relation, tenant_column
            USING ERRCODE = 'undefined_column',
                  HINT = 'Name the column that says which tenant a row belongs to.';
    END IF;
    PERFORM keepsake.manage(relation);
    INSERT INTO attachments.entity_type AS e (name, relation, key_column, key_type, tenant_column)
    VALUES (name, relation, entity_key.attname, entity_key.type, tenant_column)
    RETURNING e.* INTO entity;
    PERFORM keepsake.declare_reference('attachments.attachment', 'entity_type', 'entity_id', name, relation);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO keepsake_api', relation);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO keepsake_api',
                   (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation));
    PERFORM attachments.show_label(name, label_column);
    PERFORM attachments.index_listing(entity);
END
$$;
COMMENT ON FUNCTION attachments.register_entity IS
    'Gives the rows of a table attachments: manages it, declares the reference, lets the API find its rows under the table''s own policies, by the label that a column holds.';
REVOKE ALL ON FUNCTION attachments.register_entity FROM PUBLIC;

-- What things and attachments are called --------------------------------------------------------
-- An item is {"kind", "entity_type", "id", "label"}. All of it is read with the rights of the API, under the
-- application's own policies.

CREATE FUNCTION attachments.entity_of(table_name text) RETURNS attachments.entity_type
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e FROM attachments.entity_type e WHERE e.relation::text = table_name
$$;

-- The label of row `t` as SQL. The application may have taken the column away and told nobody.
CREATE FUNCTION attachments.label_sql(entity attachments.entity_type) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT format('t.%I::text', a.attname) FROM pg_attribute a
        WHERE a.attrelid = entity.relation AND a.attname = entity.label_column AND NOT a.attisdropped), 'NULL::text')
$$;

-- The reference of a kind of thing to another that is registered, as the column of row `t` and the kind; the first by
-- name, where there are several.
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
    SELECT jsonb_build_object('kind', 'thing', 'entity_type', entity_type, 'id', entity_id, 'label', label)
$$;

-- A thing, live or deleted; NULL when it is not there, or not for the caller.
CREATE FUNCTION attachments.show_thing(entity_type text, entity_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    label text;
BEGIN
    IF NOT (attachments.find_entity(entity_type, entity_id)).is_there THEN
        RETURN NULL;
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    EXECUTE format('SELECT %s FROM %s AS t WHERE t.%I = $1::%s',
                   attachments.label_sql(known), known.relation, known.key_column, known.key_type)
    INTO label USING entity_id;
    RETURN attachments.thing_item(entity_type, entity_id, label);
END
$$;

CREATE FUNCTION attachments.show_file(attachment uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('kind', 'attachment', 'entity_type', a.entity_type, 'entity_id', a.entity_id,
                              'id', a.id, 'label', a.file_name)
    FROM attachments.find_attachment(attachment) AS a WHERE a.id IS NOT NULL
$$;

-- The thing or attachment that a row is.
CREATE FUNCTION attachments.show_row(table_name text, row_key jsonb) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN table_name = 'attachments.attachment' THEN attachments.show_file((row_key ->> 'id')::uuid)
           ELSE attachments.show_thing((e).name, row_key ->> (e).key_column::text) END
    FROM attachments.entity_of(table_name) AS e
$$;

CREATE FUNCTION attachments.in_words(item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN item ->> 'kind' = 'attachment' THEN format('the file “%s”', item ->> 'label')
           WHEN item ->> 'label' IS NULL THEN format('the %s %s', item ->> 'entity_type', item ->> 'id')
           ELSE format('the %s “%s” (%s)', item ->> 'entity_type', item ->> 'label', item ->> 'id') END
$$;

-- Conflicts of a restore for a person ------------------------------------------------------------

-- The table of a conflict's holder: that of the row itself, or of its deleted parent.
CREATE FUNCTION attachments.holder_table(conflict jsonb, item jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN conflict ? 'holder_table' THEN conflict ->> 'holder_table'
           WHEN conflict ->> 'kind' <> 'parent_deleted' THEN conflict ->> 'table'
           WHEN item ->> 'kind' = 'attachment' THEN (
               SELECT e.relation::text FROM attachments.entity_type e WHERE e.name = item ->> 'entity_type')
           ELSE (SELECT min(c.confrelid::regclass::text) FROM pg_constraint c
                 WHERE c.contype = 'f' AND c.conrelid::regclass::text = conflict ->> 'table' AND c.conname = conflict ->> 'constraint') END
$$;

CREATE FUNCTION attachments.conflict_in_words(conflict jsonb, item jsonb, holder jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT upper(left(said, 1)) || substr(said, 2)
    FROM (SELECT format(CASE conflict ->> 'kind'
            WHEN 'parent_deleted' THEN '%s cannot come back, because %s is deleted. Restore that first.'
            WHEN 'parent_missing' THEN '%s cannot come back, because what it belongs to is gone for good. Skip it.'
            ELSE '%s cannot come back, because %s has its place now. Rename one of the two and try again, or skip it.' END,
        coalesce(attachments.in_words(item), format('a row of %s', conflict ->> 'table')),
        coalesce(attachments.in_words(holder), 'something you may not see')) AS said) AS sentence
$$;

-- Conflicts with what they are about. The keys of rows that the caller may not see are left out: the application's
-- tables may have no policies.
CREATE FUNCTION attachments.explain_conflicts(conflicts jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(c || jsonb_build_object(
        'item', item, 'holder_item', holder, 'holder_table', holder_table,
        'holder', CASE WHEN holder IS NOT NULL THEN c -> 'holder' END,
        'detail', attachments.conflict_in_words(c, item, holder)) ORDER BY n), '[]')
    FROM jsonb_array_elements(conflicts) WITH ORDINALITY AS l (c, n),
         LATERAL attachments.show_row(c ->> 'table', c -> 'key') AS item,
         LATERAL attachments.holder_table(c, item) AS holder_table,
         LATERAL attachments.show_row(holder_table, c -> 'holder') AS holder
$$;

-- Restoring -------------------------------------------------------------------------------------

-- Restores a deletion with the caller's rights; what stands in the way is explained.
CREATE FUNCTION attachments.undo_deletion(deletion uuid, on_conflict text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    report jsonb;
    sql_state text;
    message text;
    conflicts text;
BEGIN
    report := keepsake.restore(deletion, on_conflict);
    RETURN attachments.ok(report || CASE WHEN report ? 'conflicts'
        THEN jsonb_build_object('conflicts', attachments.explain_conflicts(report -> 'conflicts')) ELSE '{}' END);
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
            jsonb_build_object('conflicts', attachments.explain_conflicts(conflicts::jsonb)));
    WHEN insufficient_privilege THEN
        RETURN attachments.fail('restore_conflict', 'An operator alone can bring back what is left of it; nothing was changed.',
            '{"conflicts": []}');
    WHEN object_not_in_prerequisite_state THEN
        RETURN attachments.fail('purged', 'Its retention ran out; it is gone for good.');
    WHEN no_data_found THEN
        RETURN attachments.fail('not_found', 'There is no such deletion.');
END
$$;

-- Undoes the deletion that began with this row. A row that went with another is brought back with that one.
CREATE OR REPLACE FUNCTION attachments.restore_row(target attachments.found_entity, shown text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    root keepsake.deletion;
    answer jsonb;
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
            jsonb_build_object('conflicts', attachments.explain_conflicts(jsonb_build_array(jsonb_build_object(
                'kind', 'parent_deleted', 'table', target.relation::text, 'key', target.key, 'constraint', NULL,
                'values', '{}'::jsonb, 'holder', root.root_key, 'holder_table', root.root_table::text)))));
    END IF;
    answer := attachments.undo_deletion(target.deletion_id, 'fail');
    IF answer #>> '{error,code}' = 'not_found' THEN
        RETURN attachments.missing(target.relation, target.key, 'It is not there any more.');
    END IF;
    RETURN answer;
END
$$;
DROP FUNCTION attachments.of_tenant(jsonb);

-- Deletions -------------------------------------------------------------------------------------

-- How long is left until a time, for a person; nothing of what is kept for ever.
CREATE FUNCTION attachments.days_until(moment timestamptz) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN isfinite(moment) THEN greatest(0, ceil(extract(epoch FROM moment - now()) / 86400))::integer END
$$;

CREATE OR REPLACE FUNCTION attachments.describe_listed(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.describe(a) || CASE WHEN a.deletion_id IS NULL THEN '{}' ELSE coalesce((
        SELECT jsonb_build_object('purge_after', expiry, 'days_left', attachments.days_until(expiry))
        FROM attachments.expiry_of(a.deletion_id) AS expiry WHERE isfinite(expiry)), '{}') END
$$;

-- The tenant's deletions that can be restored, behind one of them, newest first. That the caller may see their roots is
-- asked besides.
CREATE FUNCTION attachments.deletions_behind(after uuid, at_most integer) RETURNS SETOF keepsake.deletion
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.* FROM keepsake.deletion d
    WHERE d.tenant = attachments.tenant() AND d.state = 'deleted'
      AND d.id < coalesce(after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      AND d.root_table IN (SELECT 'attachments.attachment'::regclass UNION ALL SELECT e.relation FROM attachments.entity_type e)
    ORDER BY d.id DESC LIMIT at_most
$$;

-- The tables that a deletion holds rows of. Of deletions that the caller sees already.
CREATE FUNCTION attachments.tables_of_deletion(deletion uuid) RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = deletion AND t.row_count > t.purged
$$;

-- Which of these deletions a legal hold keeps: on them, their tenant, or a row in them. Of deletions that the caller
-- sees already.
CREATE FUNCTION attachments.held_deletions(deletions uuid[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held uuid[];
    of_rows record;
    by_row uuid[];
BEGIN
    held := ARRAY(
        SELECT h.deletion_id FROM keepsake.hold h WHERE h.released_at IS NULL AND h.deletion_id = ANY (deletions)
        UNION ALL
        SELECT d.id FROM keepsake.deletion d JOIN keepsake.hold h ON h.tenant = d.tenant AND h.released_at IS NULL
        WHERE d.id = ANY (deletions));
    FOR of_rows IN
        SELECT h.relation, array_agg(h.row_key) AS keys
        FROM keepsake.hold h
        WHERE h.released_at IS NULL AND h.relation IN (
            SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = ANY (deletions))
        GROUP BY h.relation
    LOOP
        EXECUTE (
            SELECT format('SELECT array_agg(DISTINCT t.deletion_id) FROM unnest($2) AS held (key) JOIN %s AS t ON %s WHERE t.deletion_id = ANY ($1)',
                          of_rows.relation,
                          string_agg(format('t.%I = (held.key ->> %L)::%s', a.attname, a.attname, format_type(a.atttypid, a.atttypmod)), ' AND '))
            FROM jsonb_object_keys(of_rows.keys[1]) AS name
            JOIN pg_attribute a ON a.attrelid = of_rows.relation AND a.attname = name AND NOT a.attisdropped)
        INTO by_row USING deletions, of_rows.keys;
        held := held || by_row;
    END LOOP;
    RETURN held;
END
$$;
REVOKE ALL ON FUNCTION attachments.deletions_behind, attachments.tables_of_deletion, attachments.held_deletions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.deletions_behind, attachments.tables_of_deletion, attachments.held_deletions TO keepsake_api;

-- What was asked to be deleted, as an item; NULL when the caller may not see it. Of several rows that one statement
-- deleted: the kind alone, if the caller sees one of them.
CREATE FUNCTION attachments.show_root(deletion keepsake.deletion) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type := attachments.entity_of(deletion.root_table::text);
    sees_one boolean;
BEGIN
    IF deletion.root_key IS NOT NULL THEN
        RETURN attachments.show_row(deletion.root_table::text, deletion.root_key);
    ELSIF deletion.root_table = 'attachments.attachment'::regclass THEN
        sees_one := EXISTS (
            SELECT FROM attachments.attachment a
            WHERE a.deletion_id = deletion.id AND attachments.show_file(a.id) IS NOT NULL);
        RETURN CASE WHEN sees_one THEN '{"kind": "attachment", "entity_type": "attachments", "id": null, "label": null}'::jsonb END;
    ELSIF known.name IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s AS t WHERE t.deletion_id = $1 AND t.%I::text = attachments.tenant())',
                       known.relation, known.tenant_column)
        INTO sees_one USING deletion.id;
        RETURN CASE WHEN sees_one THEN attachments.thing_item(known.name, NULL, NULL) END;
    END IF;
    RETURN NULL;
END
$$;

-- What a deletion holds that the caller may see, by kind; of each kind 1000 are counted at most.
CREATE FUNCTION attachments.count_deleted(deletion uuid) RETURNS jsonb
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
              WHERE a.deletion_id = deletion AND a.state = 'available' LIMIT at_most + 1) AS few
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

CREATE FUNCTION attachments.describe_deletion(deletion keepsake.deletion, root jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'id', deletion.id, 'root', root, 'actor', deletion.actor, 'reason', deletion.reason, 'deleted_at', deletion.deleted_at,
        'expires_at', CASE WHEN isfinite(deletion.expires_at) THEN deletion.expires_at END,
        'days_left', attachments.days_until(deletion.expires_at), 'state', deletion.state,
        'counts', attachments.count_deleted(deletion.id))
$$;

-- Whoever asks for what is deleted sees it, also where a policy of the extension's hides deleted rows from ordinary
-- reads.
CREATE FUNCTION attachments.begin_recovery(claims jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true), set_config('keepsake.include_deleted', 'on', true);
END
$$;

CREATE FUNCTION attachments_api.list_deletions(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Deletions that are looked at for one page: those whose roots the caller may not see are passed over.
    at_most constant integer := 1000;
    size integer := (request ->> 'limit')::integer;
    one keepsake.deletion;
    root jsonb;
    items jsonb := '[]';
    looked_at integer := 0;
    last uuid;
    next_cursor uuid;
    held uuid[];
BEGIN
    PERFORM attachments.begin_recovery(claims);
    FOR one IN SELECT * FROM attachments.deletions_behind((request ->> 'cursor')::uuid, at_most) LOOP
        looked_at := looked_at + 1;
        root := attachments.show_root(one);
        IF root IS NOT NULL THEN
            IF jsonb_array_length(items) = size THEN
                next_cursor := last;
                EXIT;
            END IF;
            items := items || attachments.describe_deletion(one, root);
        END IF;
        last := one.id;
    END LOOP;
    IF looked_at = at_most THEN
        next_cursor := last;
    END IF;
    held := attachments.held_deletions(ARRAY(SELECT (item ->> 'id')::uuid FROM jsonb_array_elements(items) AS item));
    RETURN attachments.ok(jsonb_build_object(
        'items', (
            SELECT coalesce(jsonb_agg(item || jsonb_build_object('held', (item ->> 'id')::uuid = ANY (held)) ORDER BY n), '[]')
            FROM jsonb_array_elements(items) WITH ORDINALITY AS l (item, n)),
        'next_cursor', next_cursor));
END
$$;

-- The tree of a deletion -------------------------------------------------------------------------

-- What a deletion holds that the caller may see: things before attachments. `ref` names a node, `parents` the things it
-- refers to.
CREATE FUNCTION attachments.nodes_of_deletion(deletion uuid, at_most integer)
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
        WHERE a.deletion_id = deletion AND a.state = 'available'
          AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
        ORDER BY a.id LIMIT room;
END
$$;

-- The first nodes as trees, and whether there are more. A node hangs on the first thing it refers to that is among
-- them; the root on nothing.
CREATE FUNCTION attachments.tree_of_deletion(deletion uuid, root_ref text, at_most integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nodes jsonb[];
    refs text[];
    parents jsonb[];
    place jsonb;
    truncated boolean;
    parent integer[] := '{}';
    depth integer[] := '{}';
    children jsonb[] := '{}';
    above integer;
    next integer;
    top jsonb := '[]';
BEGIN
    SELECT array_agg(n.node ORDER BY n.place) FILTER (WHERE n.place <= at_most), array_agg(n.ref ORDER BY n.place),
           array_agg(to_jsonb(n.parents) ORDER BY n.place), jsonb_object_agg(n.ref, n.place) FILTER (WHERE n.place <= at_most),
           count(*) > at_most
    INTO nodes, refs, parents, place, truncated
    FROM attachments.nodes_of_deletion(deletion, at_most + 1) WITH ORDINALITY AS n (node, ref, parents, place);
    FOR i IN 1 .. coalesce(cardinality(nodes), 0) LOOP
        parent[i] := CASE WHEN refs[i] = root_ref THEN 0 ELSE coalesce((
            SELECT (place ->> p.ref)::integer FROM jsonb_array_elements_text(parents[i]) WITH ORDINALITY AS p (ref, n)
            WHERE place ? p.ref ORDER BY p.n LIMIT 1), 0) END;
    END LOOP;
    FOR i IN 1 .. coalesce(cardinality(nodes), 0) LOOP
        above := parent[i];
        depth[i] := 0;
        WHILE above <> 0 LOOP
            depth[i] := depth[i] + 1;
            above := parent[above];
            IF above = i OR depth[i] > at_most THEN
                -- Things that refer to each other in a ring: it is opened here.
                parent[i] := 0;
                depth[i] := 0;
                EXIT;
            END IF;
        END LOOP;
    END LOOP;
    FOR next IN SELECT n FROM unnest(depth) WITH ORDINALITY AS d (depth, n) ORDER BY d.depth DESC, n LOOP
        nodes[next] := nodes[next] || jsonb_build_object('children', coalesce(children[next], '[]'));
        IF parent[next] = 0 THEN
            top := top || nodes[next];
        ELSE
            children[parent[next]] := coalesce(children[parent[next]], '[]') || nodes[next];
        END IF;
    END LOOP;
    RETURN jsonb_build_object('tree', top, 'truncated', truncated);
END
$$;

-- What a restore would meet now, the first hundred.
CREATE FUNCTION attachments.conflicts_of(deletion uuid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.explain_conflicts((
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'kind', c.kind, 'table', c.table_name, 'key', c.key, 'constraint', c.constraint_name,
            'values', c.key_values, 'holder', c.holder)), '[]')
        FROM (SELECT * FROM keepsake.restore_conflicts(deletion) LIMIT 100) AS c));
EXCEPTION WHEN no_data_found OR insufficient_privilege OR object_not_in_prerequisite_state THEN
    -- Settled at this very moment, or an operator's alone to restore.
    RETURN '[]';
END
$$;

-- A deletion that the caller may see, or why not. Of what was purged no row is left to ask: its tenant is told.
CREATE FUNCTION attachments.refuse_deletion(deletion keepsake.deletion, root jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN deletion.state IN ('purging', 'purged') AND deletion.reason IS DISTINCT FROM 'upload not completed'
                THEN attachments.fail('purged', 'Its retention ran out; it is gone for good.')
                WHEN root IS NULL THEN attachments.fail('not_found', 'There is no such deletion.') END
$$;

CREATE FUNCTION attachments_api.get_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one keepsake.deletion;
    root jsonb;
    refused jsonb;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    root := attachments.show_root(one);
    refused := attachments.refuse_deletion(one, root);
    IF refused IS NOT NULL THEN
        RETURN refused;
    END IF;
    RETURN attachments.ok(
        attachments.describe_deletion(one, root)
        || attachments.tree_of_deletion(one.id, CASE root ->> 'kind'
            WHEN 'thing' THEN concat_ws('/', root ->> 'entity_type', root ->> 'id') ELSE root ->> 'id' END, 500)
        || jsonb_build_object(
            'held', one.id = ANY (attachments.held_deletions(ARRAY[one.id])),
            'conflicts', CASE WHEN one.state = 'deleted' THEN attachments.conflicts_of(one.id) ELSE '[]' END));
END
$$;

CREATE FUNCTION attachments_api.restore_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one keepsake.deletion;
    refused jsonb;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    -- Rows that one statement deleted no longer say so once they are restored: its tenant may ask again.
    refused := attachments.refuse_deletion(one, CASE
        WHEN one.state = 'restored' AND one.root_key IS NULL THEN '{}' ELSE attachments.show_root(one) END);
    RETURN coalesce(refused, attachments.undo_deletion(one.id, request ->> 'on_conflict'));
END
$$;

-- Things ----------------------------------------------------------------------------------------

-- Things as a listing shows them: with what they belong to and their attachments.
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

-- The live things, with ids that a path can name, that a condition on row `t` leaves, as SQL: number, id, label and the id of what they belong to.
-- `$1` is the tenant.
CREATE FUNCTION attachments.things_sql(entity attachments.entity_type, condition text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT row_number() OVER (ORDER BY t.%1$I DESC) AS n, t.%1$I::text AS id, %2$s AS label, %3$s AS parent_id
                   FROM %4$s AS t WHERE t.deleted_at IS NULL AND t.%5$I = $1::%6$s AND t.%5$I::text = $1
                     AND t.%1$I::text ~ ''^[A-Za-z0-9_-]{1,64}$'' AND %7$s',
                  entity.key_column, attachments.label_sql(entity),
                  coalesce((SELECT format('t.%I::text', p.child_column) FROM attachments.parent_kinds(entity) AS p LIMIT 1), 'NULL::text'),
                  entity.relation, entity.tenant_column,
                  (SELECT a.atttypid::regtype FROM pg_attribute a WHERE a.attrelid = entity.relation AND a.attname = entity.tenant_column),
                  condition)
$$;

CREATE FUNCTION attachments_api.list_entities(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    size integer := (request ->> 'limit')::integer;
    -- Things that are looked at for one page: no index finds a part of a label.
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
        RETURN attachments.fail('not_found', format('There are no things of the kind %s.', request ->> 'entity_type'));
    END IF;
    parent_type := (SELECT p.parent_type FROM attachments.parent_kinds(known) AS p LIMIT 1);
    EXECUTE format(
        'SELECT array_agg(ARRAY[id, label, parent_id] ORDER BY n) FILTER (WHERE $2 IS NULL OR position(lower(normalize($2, NFKC)) IN lower(normalize(label, NFKC))) > 0),
                count(*), (array_agg(id ORDER BY n DESC))[1]
         FROM (%s ORDER BY t.%I DESC LIMIT %s) AS things',
        attachments.things_sql(known, CASE WHEN request ->> 'cursor' IS NULL THEN 'true'
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
    -- A tenant that the column's type cannot hold has no things.
    RETURN attachments.ok('{"items": [], "next_cursor": null}');
END
$$;

CREATE FUNCTION attachments_api.get_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
    thing record;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    EXECUTE attachments.things_sql(known, format('t.%I = $2::%s', known.key_column, known.key_type))
    INTO thing USING attachments.tenant(), request ->> 'entity_id';
    RETURN attachments.ok(attachments.describe_thing(
        known.name, thing.id, thing.label, (SELECT p.parent_type FROM attachments.parent_kinds(known) AS p LIMIT 1), thing.parent_id));
END
$$;

-- Names that change ------------------------------------------------------------------------------

GRANT UPDATE (file_name) ON attachments.attachment TO keepsake_api;

CREATE FUNCTION attachments_api.rename_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
    new_name text := request ->> 'name';
    problem jsonb;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    IF file.id IS NULL THEN
        RETURN coalesce(attachments.refuse_shut((request ->> 'attachment_id')::uuid),
                        attachments.fail('not_found', 'There is no such attachment.'));
    ELSIF keepsake.media_type(new_name) IS DISTINCT FROM file.media_type
       OR keepsake.object_key(file.tenant_id, file.entity_type, file.entity_id, file.id, new_name) <> file.object_key THEN
        problem := jsonb_build_object('pointer', '/name', 'code', 'media_type_mismatch', 'detail',
            format('The name has to end in .%s, as it does now: that says what the file is.', keepsake.parse_object_key(file.object_key) ->> 'extension'));
        RETURN attachments.fail('media_type_mismatch', problem ->> 'detail', jsonb_build_object('errors', jsonb_build_array(problem)));
    END IF;
    UPDATE attachments.attachment a SET file_name = new_name WHERE a.id = file.id RETURNING a.* INTO file;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such attachment.');
    END IF;
    RETURN attachments.ok(attachments.describe_listed(file));
EXCEPTION WHEN unique_violation THEN
    problem := jsonb_build_object('pointer', '/name', 'code', 'name_taken', 'detail',
        format('A file named %s is there already. Delete it or choose another name.', new_name));
    RETURN attachments.fail('name_taken', problem ->> 'detail', jsonb_build_object('errors', jsonb_build_array(problem)));
END
$$;

CREATE FUNCTION attachments_api.rename_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    changed bigint;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    IF NOT (attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id')).is_there THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    IF attachments.label_sql(known) = 'NULL::text' THEN
        RETURN attachments.fail('invalid_field', format('Things of the kind %s have no label that could be changed.', known.name));
    END IF;
    EXECUTE format('UPDATE %s AS t SET %I = $1::%s WHERE t.%I = $2::%s AND t.%I::text = attachments.tenant()',
                   known.relation, known.label_column,
                   (SELECT a.atttypid::regtype FROM pg_attribute a WHERE a.attrelid = known.relation AND a.attname = known.label_column),
                   known.key_column, known.key_type, known.tenant_column)
    USING request ->> 'label', request ->> 'entity_id';
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed = 0 THEN
        RETURN attachments.fail('not_found', format('There is no %s that you may rename.', attachments.show_entity(request)));
    END IF;
    RETURN attachments.ok(attachments.show_thing(known.name, request ->> 'entity_id'));
EXCEPTION
    WHEN insufficient_privilege THEN
        RETURN attachments.fail('not_found', format('There is no %s that you may rename.', attachments.show_entity(request)));
    WHEN unique_violation OR exclusion_violation THEN
        RETURN attachments.fail('name_taken', format(
            'Another %s is called “%s” already. Choose another name, or rename that one first.', known.name, request ->> 'label'));
    WHEN integrity_constraint_violation OR data_exception OR raise_exception OR generated_always OR object_not_in_prerequisite_state THEN
        RETURN attachments.fail('invalid_field', format('A rule of the application refuses this label for a %s. Choose another.', known.name));
END
$$;

SELECT attachments.publish(ARRAY[
    'list_entities', 'get_entity', 'rename_entity', 'rename_attachment', 'list_deletions', 'get_deletion', 'restore_deletion']);
