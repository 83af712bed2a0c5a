-- Deleting and restoring attachments and entities, and the bin: deletions that can be restored, what each holds, and what stands
-- in its way.

-- Finding a deletion -------------------------------------------------------------------------------

-- A deletion of the caller's tenant. The API's role reads no registry of its own right.
CREATE FUNCTION attachments.find_deletion(deletion uuid) RETURNS keepsake.deletion
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT d FROM keepsake.deletion d WHERE d.id = deletion AND d.tenant = attachments.tenant());
END
$$;

-- Tells what was purged from what never was: only to the tenant that owned it.
CREATE FUNCTION attachments.missing(relation regclass, key jsonb, detail text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (
        SELECT FROM keepsake.deletion d
        WHERE d.root_table = relation AND d.root_key = key AND d.tenant = attachments.tenant()
          AND d.state IN ('purging', 'purged') AND d.reason IS DISTINCT FROM 'upload not completed')
    THEN attachments.fail('purged', 'It was permanently deleted when its retention ended.')
    ELSE attachments.fail('not_found', detail) END
$$;

REVOKE ALL ON FUNCTION attachments.find_deletion, attachments.missing FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.find_deletion, attachments.missing TO keepsake_api;

-- Deleting and restoring one row --------------------------------------------------------------------

-- An attachment in the shape of an entity: the same functions delete and restore both.
CREATE FUNCTION attachments.attachment_row(attachment uuid) RETURNS attachments.found_entity
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found attachments.attachment := attachments.find_deletable(attachment);
BEGIN
    RETURN ('attachments.attachment', jsonb_build_object('id', attachment), found.id IS NOT NULL, found.deletion_id)::attachments.found_entity;
END
$$;

-- Deletes a row that was found, and answers with the deletion; one that is deleted already is left as it is.
CREATE FUNCTION attachments.delete_row(target attachments.found_entity, shown text, reason text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    IF target.is_there IS NOT TRUE THEN
        RETURN attachments.missing(target.relation, target.key, format('There is no %s.', shown));
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'deletion_id', coalesce(target.deletion_id, keepsake.soft_delete(target.relation, target.key, reason)),
        'already', target.deletion_id IS NOT NULL));
EXCEPTION
    WHEN foreign_key_violation OR restrict_violation THEN
        RETURN attachments.fail('delete_blocked', 'Other rows that are not deleted with it still refer to it.');
    WHEN no_data_found THEN
        -- Somebody has deleted it at this very moment.
        known := attachments.entity_of(target.relation::text);
        IF attachments.kept_apart(target.relation) THEN
            target := attachments.find_entity(known.name, target.key ->> known.key_column::text);
        END IF;
        RETURN CASE WHEN target.deletion_id IS NULL THEN attachments.fail('not_found', 'It no longer exists.')
               ELSE attachments.ok(jsonb_build_object('deletion_id', target.deletion_id, 'already', true)) END;
END
$$;

-- Restores a deletion with the caller's rights, and explains the conflicts.
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
        RETURN attachments.fail('restore_conflict', 'Only an operator can restore the rest of it. Nothing was changed.',
            '{"conflicts": []}');
    WHEN object_not_in_prerequisite_state THEN
        RETURN attachments.fail('purged', 'It was permanently deleted when its retention ended.');
    WHEN no_data_found THEN
        RETURN attachments.fail('not_found', 'There is no such deletion.');
END
$$;

-- Undoes the deletion that began with this row. A row that went with another is restored with that one.
CREATE FUNCTION attachments.restore_row(target attachments.found_entity, shown text) RETURNS jsonb
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
        RETURN attachments.fail('purged', 'It was permanently deleted when its retention ended.');
    END IF;
    IF root.id IS NULL THEN
        -- Deleted by somebody who worked without this tenant's claims.
        RETURN attachments.fail('restore_conflict', 'An operator deleted it. Only an operator can restore it.',
            '{"conflicts": []}');
    END IF;
    IF root.root_table <> target.relation OR root.root_key <> target.key THEN
        RETURN attachments.fail('restore_conflict',
            format('It was deleted together with %s. Restore that deletion instead.', root.root_table),
            jsonb_build_object('conflicts', attachments.explain_conflicts(jsonb_build_array(jsonb_build_object(
                'kind', 'parent_deleted', 'table', target.relation::text, 'key', target.key, 'constraint', NULL,
                'values', '{}'::jsonb, 'holder', root.root_key, 'holder_table', root.root_table::text)))));
    END IF;
    answer := attachments.undo_deletion(target.deletion_id, 'fail');
    IF answer #>> '{error,code}' = 'not_found' THEN
        RETURN attachments.missing(target.relation, target.key, 'It no longer exists.');
    END IF;
    RETURN answer;
END
$$;

CREATE FUNCTION attachments_api.delete_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    attachment uuid := (request ->> 'attachment_id')::uuid;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN coalesce(
        attachments.refuse_file_change(attachment),
        attachments.delete_row(attachments.attachment_row(attachment), 'such attachment', request ->> 'reason'));
END
$$;

CREATE FUNCTION attachments_api.restore_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    attachment uuid := (request ->> 'attachment_id')::uuid;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN coalesce(
        attachments.refuse_file_change(attachment),
        attachments.restore_row(attachments.attachment_row(attachment), 'such attachment'));
END
$$;

CREATE FUNCTION attachments_api.delete_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN attachments.delete_row(attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id'), attachments.show_entity(request), request ->> 'reason');
END
$$;

CREATE FUNCTION attachments_api.restore_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN attachments.restore_row(attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id'), attachments.show_entity(request));
END
$$;

-- What a deletion holds ----------------------------------------------------------------------------
-- With the rights of who migrates, as the registry is not the API's to read; asked of deletions that the caller sees already.

-- The tenant's deletions that can be restored, after one of them, newest first. Whether the caller may see their roots is not asked
-- here.
CREATE FUNCTION attachments.deletions_behind(after uuid, at_most integer) RETURNS SETOF keepsake.deletion
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.* FROM keepsake.deletion d
    WHERE d.tenant = attachments.tenant() AND d.state = 'deleted'
      AND d.id < coalesce(after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      AND d.root_table IN (SELECT 'attachments.attachment'::regclass UNION ALL SELECT e.relation FROM attachments.entity_type e)
    ORDER BY d.id DESC LIMIT at_most
$$;

-- The tables that a deletion holds rows of.
CREATE FUNCTION attachments.tables_of_deletion(deletion uuid) RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = deletion AND t.row_count > t.purged
$$;

-- The rows that a deletion holds still, as it counts them itself.
CREATE FUNCTION attachments.rows_of_deletion(deletion uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(t.row_count - t.purged), 0)::bigint FROM keepsake.deletion_table t WHERE t.deletion_id = deletion
$$;

-- Which of these deletions a legal hold keeps: on them, their tenant, or a row in them.
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
        IF attachments.kept_apart(of_rows.relation) THEN
            EXECUTE format('SELECT array_agg(DISTINCT d.deletion_id) FROM unnest($2) AS held (key), keepsake.deleted_rows(NULL::%s, NULL, held.key) AS d
                            WHERE d.deletion_id = ANY ($1)', of_rows.relation)
            INTO by_row USING deletions, of_rows.keys;
            held := held || by_row;
            CONTINUE;
        END IF;
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

REVOKE ALL ON FUNCTION
    attachments.deletions_behind, attachments.tables_of_deletion, attachments.rows_of_deletion, attachments.held_deletions
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments.deletions_behind, attachments.tables_of_deletion, attachments.rows_of_deletion, attachments.held_deletions
TO keepsake_api;

-- What was asked to be deleted, as an item; NULL when the caller may not see it. Of several rows that one statement deleted: the kind
-- alone, if the caller sees one of them.
CREATE FUNCTION attachments.show_root(deletion keepsake.deletion) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type := attachments.entity_of(deletion.root_table::text);
    sees_one boolean;
BEGIN
    -- Its key may be that of a live row by now.
    IF deletion.root_key IS NOT NULL AND deletion.state <> 'restored' AND attachments.kept_apart(deletion.root_table)
       AND deletion.root_table IN (SELECT attachments.tables_of_deletion(deletion.id)) THEN
        RETURN attachments.show_deleted_thing(known, deletion.root_key ->> known.key_column::text, deletion.id);
    ELSIF deletion.root_key IS NOT NULL THEN
        RETURN attachments.show_row(deletion.root_table::text, deletion.root_key);
    ELSIF deletion.root_table = 'attachments.attachment'::regclass THEN
        sees_one := EXISTS (
            SELECT FROM attachments.attachment a
            WHERE a.deletion_id = deletion.id AND attachments.show_file(a.id) IS NOT NULL);
        RETURN CASE WHEN sees_one THEN '{"kind": "attachment", "entity_type": "attachments", "id": null, "label": null}'::jsonb END;
    ELSIF known.name IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE t.%I::text = attachments.tenant())',
                       attachments.deleted_sql(known, '$1'), known.tenant_column)
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
    entities jsonb := '[]';
    files_counted bigint := 0;
    capped boolean := false;
BEGIN
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE e.relation IN (SELECT attachments.tables_of_deletion(deletion)) ORDER BY e.name
    LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE t.%I::text = attachments.tenant() LIMIT $2) AS few',
                       attachments.deleted_sql(known, '$1'), known.tenant_column)
        INTO counted USING deletion, at_most + 1;
        capped := capped OR counted > at_most;
        IF counted > 0 THEN
            entities := entities || jsonb_build_object('entity_type', known.name, 'count', least(counted, at_most));
        END IF;
    END LOOP;
    FOR files IN
        SELECT few.entity_type, array_agg(few.entity_id) AS ids, sum(count(*)) OVER () > at_most AS more
        FROM (SELECT a.entity_type, a.entity_id FROM attachments.attachment a
              WHERE a.deletion_id = deletion AND a.state IN ('available', 'quarantined') LIMIT at_most + 1) AS few
        GROUP BY few.entity_type
    LOOP
        SELECT * INTO known FROM attachments.entity_type e WHERE e.name = files.entity_type;
        -- Mostly the entity is in the same deletion; or it is live, or was deleted apart.
        EXECUTE format('SELECT count(*) FROM unnest($1) AS of_file (id)
                        WHERE of_file.id IN (SELECT t.%I::text FROM %s WHERE t.%I::text = attachments.tenant())
                           OR (attachments.find_entity($3, of_file.id)).is_there',
                       known.key_column, attachments.deleted_sql(known, '$2'), known.tenant_column)
        INTO counted USING files.ids, deletion, known.name;
        files_counted := files_counted + counted;
        capped := capped OR files.more;
    END LOOP;
    RETURN jsonb_build_object('entities', entities, 'attachments', least(files_counted, at_most), 'capped', capped);
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

-- The tree of a deletion ---------------------------------------------------------------------------

-- What a deletion holds that the caller may see: entities before attachments. `ref` names a node, `parents` the entities it refers to.
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
             FROM %s WHERE t.%I::text = $3 ORDER BY t.%I LIMIT $2',
            known.name, known.key_column, attachments.label_sql(known), known.name || '/', known.key_column,
            (SELECT string_agg(format('%L || t.%I::text', p.parent_type || '/', p.child_column), ', ') FROM attachments.parent_kinds(known) AS p),
            attachments.deleted_sql(known, '$1'), known.tenant_column, known.key_column)
        USING deletion, room, attachments.tenant();
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

-- The first nodes as trees, and whether there are more. A node hangs on the first entity it refers to that is among them; the root on
-- nothing.
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
                -- Entities that refer to each other in a ring: it is opened here.
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

-- The bin ----------------------------------------------------------------------------------------

-- The bin, newest first.
CREATE FUNCTION attachments_api.list_deletions(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Deletions that are looked at for one page: those whose roots the caller may not see are skipped.
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

-- What a restore would meet now: the first hundred, and how many there are.
CREATE FUNCTION attachments.conflicts_of(deletion uuid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant integer := 100;
    conflicts jsonb;
    counted bigint;
BEGIN
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'kind', c.kind, 'table', c.table_name, 'key', c.key, 'constraint', c.constraint_name,
               'values', c.key_values, 'holder', c.holder) ORDER BY c.ordinality) FILTER (WHERE c.ordinality <= at_most), '[]'),
           count(*)
    INTO conflicts, counted
    FROM keepsake.restore_conflicts(deletion) WITH ORDINALITY AS c;
    RETURN jsonb_build_object('conflicts', attachments.explain_conflicts(conflicts), 'conflict_count', counted);
EXCEPTION WHEN no_data_found OR insufficient_privilege OR object_not_in_prerequisite_state THEN
    -- Settled at this very moment, or only an operator may restore it.
    RETURN '{"conflicts": [], "conflict_count": 0}';
END
$$;

-- Why a deletion cannot be shown; NULL when it can. Of what was purged no row is left to ask: its tenant gets the answer.
CREATE FUNCTION attachments.refuse_deletion(deletion keepsake.deletion, root jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN deletion.state IN ('purging', 'purged') AND deletion.reason IS DISTINCT FROM 'upload not completed'
                THEN attachments.fail('purged', 'It was permanently deleted when its retention ended.')
                WHEN root IS NULL THEN attachments.fail('not_found', 'There is no such deletion.') END
$$;

-- What a restore would meet is looked for row by row: of a large deletion that takes longer than a person waits. Unasked, it is looked for in
-- deletions of 10,000 rows and fewer, within half a second; in larger ones where the request says so.
CREATE FUNCTION attachments_api.get_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant bigint := 10000;
    one keepsake.deletion;
    root jsonb;
    refused jsonb;
    is_searched boolean;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    root := attachments.show_root(one);
    refused := attachments.refuse_deletion(one, root);
    IF refused IS NOT NULL THEN
        RETURN refused;
    END IF;
    is_searched := request ->> 'conflicts' = 'all' OR attachments.rows_of_deletion(one.id) <= at_most;
    RETURN attachments.ok(
        attachments.describe_deletion(one, root)
        || attachments.tree_of_deletion(one.id, CASE root ->> 'kind'
            WHEN 'entity' THEN concat_ws('/', root ->> 'entity_type', root ->> 'id') ELSE root ->> 'id' END, 500)
        || jsonb_build_object(
            'held', one.id = ANY (attachments.held_deletions(ARRAY[one.id])),
            'conflicts_checked', is_searched)
        || CASE WHEN one.state = 'deleted' AND is_searched THEN attachments.conflicts_of(one.id)
                ELSE '{"conflicts": [], "conflict_count": 0}' END);
END
$$;

-- Several files that one SQL statement deleted have no one root: whoever restores them must be allowed to change the files of each
-- entity, as for one.
CREATE FUNCTION attachments.refuse_restore(one keepsake.deletion) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity record;
    refusal jsonb;
BEGIN
    -- An entity is restored by the rights that the extension asks for.
    IF one.root_table <> 'attachments.attachment'::regclass THEN
        RETURN NULL;
    END IF;
    FOR entity IN
        SELECT DISTINCT a.entity_type, a.entity_id FROM attachments.attachment a WHERE a.deletion_id = one.id ORDER BY 1, 2
    LOOP
        refusal := attachments.refuse_change(entity.entity_type, entity.entity_id);
        EXIT WHEN refusal IS NOT NULL;
    END LOOP;
    RETURN refusal;
END
$$;

CREATE FUNCTION attachments_api.restore_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one keepsake.deletion;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    PERFORM attachments.enter_tenant(attachments.tenant());
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    RETURN coalesce(
        attachments.refuse_restore(one),
        -- Rows that one statement deleted no longer say so once they are restored: its tenant may ask again.
        attachments.refuse_deletion(one, CASE
            WHEN one.state = 'restored' AND one.root_key IS NULL THEN '{}' ELSE attachments.show_root(one) END),
        attachments.undo_deletion(one.id, request ->> 'on_conflict'));
END
$$;

SELECT attachments.publish(ARRAY[
    'delete_attachment', 'restore_attachment', 'delete_entity', 'restore_entity',
    'list_deletions', 'get_deletion', 'restore_deletion']);
