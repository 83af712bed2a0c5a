-- The functions that most requests call, with plans that a session keeps: PostgreSQL makes those of a function in SQL anew for
-- each statement that calls it, where it cannot put the function's text in the statement's place, and a pinned search_path
-- forbids that. Behind a pool an upload is declared in less than half the time.

CREATE OR REPLACE FUNCTION attachments.claim(name text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> name;
END
$$;

CREATE OR REPLACE FUNCTION attachments.tenant() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.claim('tenant');
END
$$;

CREATE OR REPLACE FUNCTION attachments.ok(body jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('ok', body);
END
$$;

CREATE OR REPLACE FUNCTION attachments.fail(code text, detail text, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('error', jsonb_build_object('code', code, 'detail', detail) || more);
END
$$;

CREATE OR REPLACE FUNCTION attachments.describe(a attachments.attachment) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'id', a.id, 'entity_type', a.entity_type, 'entity_id', a.entity_id,
        'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
        'sha256', encode(a.sha256, 'hex'), 'state', a.state, 'uploaded_by', a.uploaded_by,
        'created_at', a.created_at, 'deleted_at', a.deleted_at);
END
$$;

CREATE OR REPLACE FUNCTION attachments.multipart_of(attachment uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object('storage_id', m.storage_id, 'part_size', m.part_size, 'parts', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('number', p.number, 'etag', p.etag, 'size', p.byte_size) ORDER BY p.number), '[]')
            FROM attachments.multipart_part p WHERE p.attachment_id = m.attachment_id))
        FROM attachments.multipart m WHERE m.attachment_id = attachment);
END
$$;

CREATE OR REPLACE FUNCTION attachments.files_of(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'attachment_id', a.id, 'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
            'sha256', encode(a.sha256, 'hex'), 'object_key', a.object_key, 'state', a.state,
            'multipart', attachments.multipart_of(a.id))
            ORDER BY a.position), '[]')
        FROM attachments.attachment a WHERE a.upload_set_id = upload);
END
$$;

-- Beyond the row policies, under which the index of live names cannot be used, as the function in it is not leakproof: thousands of
-- files of one thing were all looked at. It tells only of names that the set itself has, in the set's own tenant.
CREATE OR REPLACE FUNCTION attachments.taken_names(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pointer', format('/files/%s/name', mine.position), 'code', 'name_taken',
            'detail', format('A file named %s is there already. Delete it or choose another name.', mine.file_name))
            ORDER BY mine.position), '[]')
        FROM attachments.attachment mine
        WHERE mine.upload_set_id = upload AND EXISTS (
            SELECT FROM attachments.attachment other
            WHERE other.tenant_id = mine.tenant_id AND other.entity_type = mine.entity_type
              AND other.entity_id = mine.entity_id AND other.upload_set_id <> upload
              AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(mine.file_name)
              AND other.deleted_at IS NULL AND other.state = 'available'));
END
$$;
REVOKE ALL ON FUNCTION attachments.taken_names FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.taken_names TO keepsake_api;

CREATE OR REPLACE FUNCTION attachments.quota_of(tenant text, who text) RETURNS attachments.quota
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT q FROM attachments.quota q
        WHERE q.scope = CASE WHEN who = '' THEN 'tenant' ELSE 'user' END
          AND (q.tenant_id IS NULL OR q.tenant_id = tenant) AND (q.subject IS NULL OR q.subject = who)
        ORDER BY q.tenant_id NULLS LAST, q.subject NULLS LAST
        LIMIT 1);
END
$$;

CREATE OR REPLACE FUNCTION attachments.pending_files(tenant text, who text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT (SELECT count(*) FROM attachments.attachment a
                WHERE a.tenant_id = tenant AND a.uploaded_by = who AND a.state IN ('pending', 'uploaded'))
             + (SELECT coalesce(sum(r.files), 0)::bigint FROM attachments.usage_release r
                WHERE r.tenant_id = tenant AND r.subject = who AND r.due_at > now()));
END
$$;

CREATE OR REPLACE FUNCTION attachments.expiry_of(deletion uuid) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT d.expires_at FROM keepsake.deletion d WHERE d.id = deletion);
END
$$;

CREATE OR REPLACE FUNCTION attachments.days_until(moment timestamptz) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN isfinite(moment) THEN greatest(0, ceil(extract(epoch FROM moment - now()) / 86400))::integer END;
END
$$;

CREATE OR REPLACE FUNCTION attachments.describe_listed(a attachments.attachment) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.describe(a) || CASE WHEN a.deletion_id IS NULL THEN '{}' ELSE coalesce((
        SELECT jsonb_build_object('purge_after', expiry, 'days_left', attachments.days_until(expiry))
        FROM attachments.expiry_of(a.deletion_id) AS expiry WHERE isfinite(expiry)), '{}') END;
END
$$;

CREATE OR REPLACE FUNCTION attachments.find_attachment(attachment uuid) RETURNS attachments.attachment
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT a FROM attachments.attachment a
        WHERE a.id = attachment AND a.state = 'available'
          AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there);
END
$$;
