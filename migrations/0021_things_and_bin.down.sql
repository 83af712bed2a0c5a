-- Indexes that listings made on the application's tables stay: they lie on columns that stay.
REVOKE UPDATE (file_name) ON attachments.attachment FROM keepsake_api;
DROP FUNCTION
    attachments_api.list_entities(jsonb, jsonb), attachments_api.get_entity(jsonb, jsonb), attachments_api.rename_entity(jsonb, jsonb),
    attachments_api.rename_attachment(jsonb, jsonb),
    attachments_api.list_deletions(jsonb, jsonb), attachments_api.get_deletion(jsonb, jsonb), attachments_api.restore_deletion(jsonb, jsonb);

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

CREATE OR REPLACE FUNCTION attachments.restore_row(target attachments.found_entity, shown text) RETURNS jsonb
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

CREATE OR REPLACE FUNCTION attachments.describe_listed(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.describe(a) || CASE WHEN a.deletion_id IS NULL THEN '{}' ELSE (
        SELECT jsonb_build_object(
            'purge_after', expiry,
            'days_left', greatest(0, ceil(extract(epoch FROM expiry - now()) / 86400))::integer)
        FROM attachments.expiry_of(a.deletion_id) AS expiry) END
$$;

DROP FUNCTION
    attachments.things_sql(attachments.entity_type, text), attachments.describe_thing(text, text, text, text, text),
    attachments.refuse_deletion(keepsake.deletion, jsonb), attachments.conflicts_of(uuid),
    attachments.tree_of_deletion(uuid, text, integer), attachments.nodes_of_deletion(uuid, integer),
    attachments.begin_recovery(jsonb), attachments.describe_deletion(keepsake.deletion, jsonb), attachments.count_deleted(uuid),
    attachments.show_root(keepsake.deletion), attachments.held_deletions(uuid[]), attachments.tables_of_deletion(uuid),
    attachments.deletions_behind(uuid, integer), attachments.days_until(timestamptz),
    attachments.undo_deletion(uuid, text), attachments.explain_conflicts(jsonb),
    attachments.conflict_in_words(jsonb, jsonb, jsonb), attachments.holder_table(jsonb, jsonb),
    attachments.in_words(jsonb), attachments.show_row(text, jsonb), attachments.show_file(uuid), attachments.show_thing(text, text),
    attachments.thing_item(text, text, text), attachments.parent_kinds(attachments.entity_type),
    attachments.label_sql(attachments.entity_type), attachments.entity_of(text),
    attachments.register_entity(text, regclass, name, name), attachments.show_label(text, name),
    attachments.index_listing(attachments.entity_type);

-- The API may write no label any more.
DO $$
DECLARE
    known attachments.entity_type;
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e WHERE e.label_column IS NOT NULL LOOP
        EXECUTE format('REVOKE UPDATE ON %s FROM keepsake_api', known.relation);
    END LOOP;
END
$$;
ALTER TABLE attachments.entity_type DROP COLUMN label_column;

-- Gives an application's table attachments. Run by a role that owns both, such as the one that migrates.
CREATE FUNCTION attachments.register_entity(name text, relation regclass, tenant_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity_key record;
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
    INSERT INTO attachments.entity_type VALUES (name, relation, entity_key.attname, entity_key.type, tenant_column);
    PERFORM keepsake.declare_reference('attachments.attachment', 'entity_type', 'entity_id', name, relation);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO keepsake_api', relation);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO keepsake_api',
                   (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation));
END
$$;
COMMENT ON FUNCTION attachments.register_entity IS
    'Gives the rows of a table attachments: manages it, declares the reference, lets the API find its rows under the table''s own policies.';
REVOKE ALL ON FUNCTION attachments.register_entity FROM PUBLIC;
