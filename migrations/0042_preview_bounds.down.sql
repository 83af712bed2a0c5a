CREATE OR REPLACE FUNCTION attachments_api.get_deletion(claims jsonb, request jsonb) RETURNS jsonb
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

DROP FUNCTION attachments.rows_of_deletion(uuid);

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
