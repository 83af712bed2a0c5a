CREATE OR REPLACE FUNCTION attachments.register_entity(name text, relation regclass, tenant_column name, label_column name DEFAULT NULL) RETURNS void
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

DROP FUNCTION attachments_api.delete_attachment(jsonb, jsonb);
DROP FUNCTION attachments_api.rename_attachment(jsonb, jsonb);
DROP FUNCTION attachments_api.restore_attachment(jsonb, jsonb);
DROP FUNCTION attachments_api.abort_upload(jsonb, jsonb);
DROP FUNCTION attachments_api.restore_deletion(jsonb, jsonb);
ALTER FUNCTION attachments.delete_attachment SET SCHEMA attachments_api;
ALTER FUNCTION attachments.rename_attachment SET SCHEMA attachments_api;
ALTER FUNCTION attachments.restore_attachment SET SCHEMA attachments_api;
ALTER FUNCTION attachments.abort_upload SET SCHEMA attachments_api;
ALTER FUNCTION attachments.restore_deletion SET SCHEMA attachments_api;
SELECT attachments.publish(ARRAY[
    'delete_attachment', 'rename_attachment', 'restore_attachment', 'abort_upload', 'restore_deletion']);
DROP FUNCTION attachments.refuse_file_change(uuid);
DROP FUNCTION attachments.refuse_change(text, text);
DO $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN SELECT e.relation FROM attachments.entity_type e LOOP
        EXECUTE format('REVOKE UPDATE (deletion_id) ON %s FROM keepsake_api', relation);
    END LOOP;
END
$$;
DROP FUNCTION attachments.let_lock(regclass);
