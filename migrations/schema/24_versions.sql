-- Versions of an attachment: a new content for it, which keeps the old ones.
--
-- Each content has a row of attachments.attachment and so everything that goes with one: an object, the quota, the scan, the audit, the
-- outbox. The row without `version_of` is the attachment, whose id, references and place in listings stay; its content is the current
-- one. The others refer to it by a foreign key that cascades, so that they are deleted, restored and purged with it, whoever deletes it.
-- A new content is declared as such a row, and only one statement makes it current: it exchanges the contents of the two rows. So there is
-- always one current content, and no object without a row.

-- How many versions are kept, the current one included. The row that fits best counts: that of the tenant and the entity type, of the tenant, of
-- the entity type, of everyone. NULL, and no row at all, is no limit. The operator writes this table; nothing else does.
CREATE TABLE attachments.version_limit (
    tenant_id    text,
    entity_type  text REFERENCES attachments.entity_type (name),
    max_versions integer CHECK (max_versions > 0)
);
CREATE UNIQUE INDEX version_limit_of ON attachments.version_limit (coalesce(tenant_id, ''), coalesce(entity_type, ''));
COMMENT ON TABLE attachments.version_limit IS
    'How many versions of an attachment are kept: tenant_id NULL applies to every tenant, entity_type NULL to every type. When a new version becomes current, the oldest beyond this are purged.';
COMMENT ON COLUMN attachments.version_limit.max_versions IS 'The current one included. NULL is no limit.';
GRANT SELECT ON attachments.version_limit TO keepsake_api;
INSERT INTO attachments.version_limit VALUES (NULL, NULL, 100);

CREATE FUNCTION attachments.max_versions(of_tenant text, of_type text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT l.max_versions FROM attachments.version_limit l
        WHERE (l.tenant_id IS NULL OR l.tenant_id = of_tenant) AND (l.entity_type IS NULL OR l.entity_type = of_type)
        ORDER BY l.tenant_id NULLS LAST, l.entity_type NULLS LAST
        LIMIT 1);
END
$$;

-- Changing the current one -------------------------------------------------------------------------
-- With the rights of who migrates, for rows that the caller was found to be allowed to change.

-- Exchanges the contents of an attachment and of another version of it. What becomes current gets a new number; what was current keeps its
-- own. `restored` is the number that the content had.
CREATE FUNCTION attachments.exchange_contents(attachment uuid, other uuid, restored integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.attachment a
    SET upload_set_id = o.upload_set_id, position = o.position, file_name = o.file_name, media_type = o.media_type,
        byte_size = o.byte_size, sha256 = o.sha256, object_key = o.object_key, download_only = o.download_only,
        writable_until = o.writable_until, uploaded_by = o.uploaded_by, scan_verdict = o.scan_verdict, scanned_at = o.scanned_at,
        available_at = CASE WHEN a.id = attachment THEN now() ELSE o.available_at END,
        version = CASE WHEN a.id = attachment THEN a.version + 1 ELSE o.version END,
        restored_from = CASE WHEN a.id = attachment THEN restored ELSE o.restored_from END
    FROM attachments.attachment o
    WHERE (a.id, o.id) IN ((attachment, other), (other, attachment));
    -- Each row handed the object over that the other has now.
    DELETE FROM keepsake.outbox o USING attachments.attachment a WHERE a.id IN (attachment, other) AND o.object_key = a.object_key;
END
$$;

-- Whether a hold covers this version alone, which then has to stay in its row: the hold is on that.
CREATE FUNCTION attachments.is_version_held(version attachments.attachment) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM keepsake.hold h
        WHERE h.released_at IS NULL AND h.relation = 'attachments.attachment'::regclass AND h.row_key ->> 'id' = version.id::text);
END
$$;

-- Purges the oldest versions beyond those that are kept, except what is held or what the application refers to. No more than a hundred, whose
-- time a request has; the next version goes on.
CREATE FUNCTION attachments.purge_old_versions(attachment attachments.attachment) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept integer := attachments.max_versions(attachment.tenant_id, attachment.entity_type);
BEGIN
    IF kept IS NULL THEN
        RETURN;
    END IF;
    PERFORM attachments.purge_live(old.id, 'version limit')
    FROM (SELECT beyond.* FROM (
              SELECT v.* FROM attachments.attachment v
              WHERE v.version_of = attachment.id AND v.state = 'former' AND v.deleted_at IS NULL
              ORDER BY v.version DESC OFFSET kept - 1) AS beyond
          WHERE attachments.holds_on_file(beyond) = '{}'
          ORDER BY beyond.version LIMIT 100) AS old;
END
$$;

-- Makes the new version of a set current, unless a scanner has to look at it first. Refuses by KS005 when the attachment is no more what
-- it was when the version was declared: another became current, or it was deleted or shut.
CREATE FUNCTION attachments.make_current(upload attachments.upload_set) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new attachments.attachment;
    current attachments.attachment;
BEGIN
    SELECT a.* INTO new FROM attachments.attachment a
    WHERE a.upload_set_id = upload.id AND a.version_of = upload.version_of AND a.state = 'former';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT a.* INTO current FROM attachments.attachment a WHERE a.id = new.version_of FOR UPDATE;
    IF current.state <> 'available' OR current.deleted_at IS NOT NULL OR current.version + 1 <> new.version THEN
        RAISE EXCEPTION USING ERRCODE = 'KS005', MESSAGE = 'version conflict';
    END IF;
    PERFORM attachments.exchange_contents(current.id, new.id, NULL);
    PERFORM attachments.purge_old_versions(current);
END
$$;

REVOKE ALL ON FUNCTION
    attachments.exchange_contents, attachments.is_version_held, attachments.purge_old_versions, attachments.make_current FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.exchange_contents, attachments.is_version_held, attachments.make_current TO keepsake_api;

-- Declaring a new version --------------------------------------------------------------------------

-- Why the current version is not one that the caller means; NULL when it is, or the caller does not say.
CREATE FUNCTION attachments.refuse_version(file attachments.attachment, request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF request ? 'if_version' AND NOT request -> 'if_version' @> to_jsonb(file.version) THEN
        RETURN attachments.fail('precondition_failed',
            format('Version %s is current, which is not the one in If-Match. Look at it, then decide again.', file.version));
    END IF;
    RETURN NULL;
END
$$;

-- The declaration of an upload that makes a new version, or why there is none.
CREATE FUNCTION attachments.declaration_of_version(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment := attachments.find_attachment((request ->> 'attachment_id')::uuid);
BEGIN
    RETURN coalesce(
        attachments.refuse_unreadable(file, (request ->> 'attachment_id')::uuid),
        attachments.refuse_version(file, request),
        request || jsonb_build_object(
            'entity_type', file.entity_type, 'entity_id', file.entity_id, 'version_of', file.id, 'version', file.version + 1));
END
$$;

CREATE FUNCTION attachments_api.create_version(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.declare_once('create_version', claims, request);
END
$$;

-- The history --------------------------------------------------------------------------------------

-- One version of an attachment that the caller may see, by its number. A row of NULLs when there is none.
CREATE FUNCTION attachments.find_version(file attachments.attachment, number integer) RETURNS attachments.attachment
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF number = file.version THEN
        RETURN file;
    END IF;
    RETURN (
        SELECT a FROM attachments.attachment a
        WHERE a.version_of = file.id AND a.version = number AND a.state = 'former' AND a.deleted_at IS NULL);
END
$$;

-- Why a version cannot be read; NULL when it can.
CREATE FUNCTION attachments.refuse_unreadable_version(one attachments.attachment) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF one.id IS NULL THEN
        RETURN attachments.fail('not_found', 'The attachment has no such version.');
    ELSIF one.scan_verdict = 'infected' THEN
        RETURN attachments.fail('file_quarantined', 'Malware was found in this version. It can never be downloaded or restored.');
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION attachments.describe_version(a attachments.attachment) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'version', a.version, 'current', a.version_of IS NULL, 'restored_from', a.restored_from,
        'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size, 'sha256', encode(a.sha256, 'hex'),
        'state', CASE WHEN a.scan_verdict = 'infected' THEN 'quarantined' ELSE 'available' END,
        'uploaded_by', a.uploaded_by, 'created_at', a.available_at);
END
$$;

-- Newest first, the current one before all others.
CREATE FUNCTION attachments_api.list_versions(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    before integer := coalesce((request ->> 'cursor')::integer, 2147483647);
    file attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    RETURN coalesce(attachments.refuse_unreadable(file, (request ->> 'attachment_id')::uuid), attachments.cut_page((
        SELECT coalesce(jsonb_agg(attachments.describe_version(page) ORDER BY page.version DESC), '[]')
        FROM (SELECT one.* FROM (
                  SELECT a.* FROM attachments.attachment a WHERE a.id = file.id
                  UNION ALL
                  SELECT a.* FROM attachments.attachment a
                  WHERE a.version_of = file.id AND a.state = 'former' AND a.deleted_at IS NULL) AS one
              WHERE one.version < before
              ORDER BY one.version DESC LIMIT size + 1) AS page), size, 'version'));
END
$$;

CREATE FUNCTION attachments_api.version_content(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
    one attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    one := attachments.find_version(file, (request ->> 'version')::integer);
    RETURN coalesce(
        attachments.refuse_unreadable(file, (request ->> 'attachment_id')::uuid),
        attachments.refuse_unreadable_version(one),
        attachments.ok(attachments.content_of(one)));
END
$$;

-- Makes a former version current, under a new number. Of one that was restored already, and is current, nothing changes.
CREATE FUNCTION attachments_api.restore_version(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := (request ->> 'version')::integer;
    file attachments.attachment;
    one attachments.attachment;
    refused jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    refused := attachments.refuse_file_change((request ->> 'attachment_id')::uuid);
    IF refused IS NOT NULL THEN
        RETURN refused;
    END IF;
    PERFORM FROM attachments.attachment a WHERE a.id = (request ->> 'attachment_id')::uuid FOR UPDATE;
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    one := attachments.find_version(file, number);
    refused := attachments.refuse_unreadable(file, (request ->> 'attachment_id')::uuid);
    IF refused IS NULL AND number <> file.version AND (file.restored_from IS DISTINCT FROM number OR one.id IS NOT NULL) THEN
        refused := coalesce(attachments.refuse_version(file, request), attachments.refuse_unreadable_version(one));
        IF refused IS NULL AND attachments.is_version_held(one) THEN
            refused := attachments.fail('held',
                'A legal hold covers this version, which stays as it is. Release the hold, or upload the same content as a new version.');
        END IF;
        IF refused IS NULL THEN
            PERFORM attachments.exchange_contents(file.id, one.id, number);
        END IF;
    END IF;
    RETURN coalesce(refused, attachments.ok(attachments.describe(attachments.find_attachment(file.id))));
EXCEPTION WHEN unique_violation THEN
    RETURN attachments.fail('name_taken',
        format('A file named %s already exists. Rename or delete it, then restore this version.', one.file_name));
END
$$;

SELECT attachments.publish(ARRAY['create_version', 'list_versions', 'version_content', 'restore_version']);
