-- Who may change the files of a thing: whom the policies of its table let update the thing. To see it is enough to see its
-- files. It is asked by a lock of the row, for which PostgreSQL applies the policies of UPDATE
-- (https://www.postgresql.org/docs/current/sql-createpolicy.html), and which keeps the thing from going meanwhile.

-- A lock needs the right to update any one column.
CREATE FUNCTION attachments.let_lock(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT UPDATE (deletion_id) ON %s TO keepsake_api', relation);
END
$$;
REVOKE ALL ON FUNCTION attachments.let_lock FROM PUBLIC;
DO $$
BEGIN
    PERFORM attachments.let_lock(e.relation) FROM attachments.entity_type e;
END
$$;

-- NULL when the caller may, and for what is not there, which is told by who looks for it.
CREATE FUNCTION attachments.refuse_change(entity_type text, entity_id text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    may boolean;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    IF (attachments.find_entity(entity_type, entity_id)).is_there IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT true FROM %s AS t WHERE t.%I = $1::%s AND t.%I::text = attachments.tenant() FOR KEY SHARE',
                   known.relation, known.key_column, known.key_type, known.tenant_column)
    INTO may USING entity_id;
    IF may THEN
        RETURN NULL;
    END IF;
    RETURN attachments.fail('not_found', format('There is no %s %s whose files you may change.', entity_type, entity_id));
END
$$;

CREATE FUNCTION attachments.refuse_file_change(attachment uuid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    SELECT a.* INTO file FROM attachments.attachment a WHERE a.id = attachment;
    RETURN attachments.refuse_change(file.entity_type, file.entity_id);
END
$$;

-- The work itself stays as it was.
ALTER FUNCTION attachments_api.delete_attachment SET SCHEMA attachments;
ALTER FUNCTION attachments_api.rename_attachment SET SCHEMA attachments;
ALTER FUNCTION attachments_api.restore_attachment SET SCHEMA attachments;
ALTER FUNCTION attachments_api.abort_upload SET SCHEMA attachments;
ALTER FUNCTION attachments_api.restore_deletion SET SCHEMA attachments;
REVOKE ALL ON FUNCTION
    attachments.delete_attachment, attachments.rename_attachment, attachments.restore_attachment,
    attachments.abort_upload, attachments.restore_deletion
FROM keepsake_worker;

CREATE FUNCTION attachments_api.delete_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN coalesce(attachments.refuse_file_change((request ->> 'attachment_id')::uuid), attachments.delete_attachment(claims, request));
END
$$;

CREATE FUNCTION attachments_api.rename_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.begin_recovery(claims);
    RETURN coalesce(attachments.refuse_file_change((request ->> 'attachment_id')::uuid), attachments.rename_attachment(claims, request));
END
$$;

CREATE FUNCTION attachments_api.restore_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN coalesce(attachments.refuse_file_change((request ->> 'attachment_id')::uuid), attachments.restore_attachment(claims, request));
END
$$;

-- Who declared an upload may give it up.
CREATE FUNCTION attachments_api.abort_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT s.* INTO upload FROM attachments.upload_set s WHERE s.id = (request ->> 'upload_id')::uuid;
    RETURN coalesce(
        CASE WHEN upload.created_by <> attachments.claim('sub')
             THEN attachments.refuse_change(upload.entity_type, upload.entity_id) END,
        attachments.abort_upload(claims, request));
END
$$;

-- A thing is brought back by the rights that the extension asks for; a file by those of its thing.
CREATE FUNCTION attachments_api.restore_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one keepsake.deletion;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    RETURN coalesce(
        CASE WHEN one.root_table = 'attachments.attachment'::regclass
             THEN attachments.refuse_file_change((one.root_key ->> 'id')::uuid) END,
        attachments.restore_deletion(claims, request));
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
    answer := coalesce(attachments.refuse_change(request ->> 'entity_type', request ->> 'entity_id'),
                       attachments.declare_upload(claims, request));
    IF request ? 'idempotency_key' AND answer ? 'ok' THEN
        PERFORM attachments.remember_key('create_upload', request, (answer -> 'ok' ->> 'id')::uuid);
    END IF;
    RETURN answer;
EXCEPTION WHEN SQLSTATE 'KS002' THEN
    GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
    RETURN refusal::jsonb;
END
$$;

SELECT attachments.publish(ARRAY[
    'delete_attachment', 'rename_attachment', 'restore_attachment', 'abort_upload', 'restore_deletion']);

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
    PERFORM attachments.let_lock(relation);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO keepsake_api',
                   (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation));
    PERFORM attachments.show_label(name, label_column);
    PERFORM attachments.index_listing(entity);
END
$$;
