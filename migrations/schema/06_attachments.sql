-- Attachments: the rows that name an object of the bucket.
--
--     declared              completed, no scan required
--    ──────────▶ pending ───────────────────────────────▶ available ──── infected ───▶ quarantined
--                  │  │                                       ▲                             ▲
--                  │  │     completed, a scan is required     │ all of its set are clean    │
--                  │  └────────────────────────────▶ scanning ┴───────── infected ──────────┘
--                  │                                    │
--                  │ the set is rejected,               │ the set is rejected
--                  │ aborted or expired                 ▼
--                  └────────────────────────────────▶ rejected    its row is removed at once, its object by the outbox
--
-- A new version of an attachment is a row of its own, with `version_of`. It is completed or scanned as above, but becomes `former` instead of
-- available, and in the same statement exchanges its content with the attachment: that has the new one from then on, and the row
-- keeps the old one. See 24_versions.sql.
--
-- Nothing leads back. `uploaded` is between pending and its next state, for who completes in two steps: no other transaction
-- sees it. Whether a row is deleted is no state of this machine: the extension keeps that in deleted_at and deletion_id, and
-- a deleted attachment comes back in the state that it had. People meet available, scanning and quarantined; pending and
-- rejected are states of an upload. The states of its set: 05_upload_sets.sql.

CREATE TABLE attachments.attachment (
    id             uuid PRIMARY KEY,
    tenant_id      text NOT NULL,
    upload_set_id  uuid NOT NULL REFERENCES attachments.upload_set (id),
    position       smallint NOT NULL,
    entity_type    text NOT NULL REFERENCES attachments.entity_type (name),
    entity_id      text NOT NULL,
    file_name      text NOT NULL CHECK (keepsake.is_filename(file_name)),
    media_type     text NOT NULL CHECK (media_type = coalesce(keepsake.media_type(file_name), 'application/octet-stream')),
    byte_size      bigint NOT NULL CHECK (byte_size > 0),
    sha256         bytea NOT NULL CHECK (octet_length(sha256) = 32),
    -- Deferrable, so that one statement can exchange the objects of two rows.
    object_key     text NOT NULL UNIQUE DEFERRABLE,
    state          text NOT NULL DEFAULT 'pending'
                   CHECK (state IN ('pending', 'uploaded', 'scanning', 'available', 'rejected', 'quarantined', 'former')),
    -- Whether it is, or may be, something else than its type as well: found when it was completed, and never shown in place.
    download_only  boolean NOT NULL DEFAULT false,
    -- Until then a signed URL may still store the object.
    writable_until timestamptz NOT NULL,
    uploaded_by    text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    available_at   timestamptz,
    -- The terms of the name, by which a search finds it; empty while it is pending. Written by terms_of_name().
    search         text[] NOT NULL DEFAULT '{}',
    scan_verdict   text CHECK (scan_verdict IN ('clean', 'infected', 'unsupported', 'access_denied', 'failed')),
    scanned_at     timestamptz,
    -- Of another version than the current one, the attachment.
    version_of     uuid REFERENCES attachments.attachment ON DELETE CASCADE,
    -- The number of the content; of a new version that is not complete yet, the one that it will have.
    version        integer NOT NULL DEFAULT 1 CHECK (version > 0),
    -- The number that the content had before it was restored.
    restored_from  integer,
    -- The id in it is that of the row with which the content was declared.
    CONSTRAINT key_made_by_the_rules CHECK (
        object_key = keepsake.object_key(
            tenant_id, entity_type, entity_id, (keepsake.parse_object_key(object_key) ->> 'attachment_id')::uuid, file_name)),
    CONSTRAINT available_since CHECK (state <> 'available' OR available_at IS NOT NULL),
    CONSTRAINT former_of_another CHECK (CASE WHEN version_of IS NULL THEN state <> 'former' ELSE state NOT IN ('available', 'quarantined') END)
);

-- Adds deleted_at and deletion_id, and hands the objects of purged rows to the outbox.
SELECT keepsake.manage('attachments.attachment');
SELECT keepsake.bind_storage('attachments.attachment', 'object_key', 'writable_until');

-- Among the live files of an entity a name stands once, however it is written.
CREATE UNIQUE INDEX attachment_live_name
    ON attachments.attachment (tenant_id, entity_type, entity_id, keepsake.filename_comparison_key(file_name))
    WHERE deleted_at IS NULL AND state = 'available';

-- A number of an attachment's history stands once. The other index is for deletions, which take all versions.
CREATE UNIQUE INDEX attachment_former ON attachments.attachment (version_of, version) WHERE state = 'former';
CREATE INDEX attachment_versions ON attachments.attachment (version_of) WHERE version_of IS NOT NULL;

CREATE INDEX attachment_of_set ON attachments.attachment (upload_set_id);
CREATE INDEX attachment_of_entity ON attachments.attachment (entity_type, entity_id, id);
CREATE INDEX attachment_of_tenant ON attachments.attachment (tenant_id, id);
CREATE INDEX attachment_rejected ON attachments.attachment (id) WHERE state = 'rejected';
CREATE INDEX attachment_pending ON attachments.attachment (tenant_id, uploaded_by) WHERE state IN ('pending', 'uploaded');
CREATE INDEX attachment_scanning ON attachments.attachment (created_at) WHERE state = 'scanning';

-- Listings: what is live, what is deleted, what is shut; by uploader, by type, by the words of the name.
CREATE INDEX attachment_live ON attachments.attachment (tenant_id, id) WHERE state = 'available' AND deleted_at IS NULL;
CREATE INDEX attachment_deleted ON attachments.attachment (tenant_id, id) WHERE state = 'available' AND deleted_at IS NOT NULL;
CREATE INDEX attachment_shut ON attachments.attachment (tenant_id, state, id)
    WHERE state IN ('scanning', 'quarantined') AND deleted_at IS NULL;
CREATE INDEX attachment_of_uploader ON attachments.attachment (tenant_id, uploaded_by, id) WHERE state = 'available';
CREATE INDEX attachment_of_type ON attachments.attachment (tenant_id, media_type, id) WHERE state = 'available';
CREATE INDEX attachment_search ON attachments.attachment USING gin (search) WHERE state = 'available';

-- The audit: the rows whose objects must be there, in the order of the bucket.
CREATE INDEX attachment_key_order ON attachments.attachment (object_key COLLATE "C") WHERE state IN ('available', 'quarantined', 'former');

ALTER TABLE attachments.attachment ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments.attachment
    USING (tenant_id = attachments.tenant()) WITH CHECK (tenant_id = attachments.tenant());
-- DELETE is what a soft delete asks for; the extension refuses a plain DELETE.
GRANT SELECT, INSERT, DELETE, UPDATE (state, available_at, download_only, file_name) ON attachments.attachment TO keepsake_api;

-- Changes of state -------------------------------------------------------------------------------

-- A set is completed in the transaction that looked at it, so its files need not pass through `uploaded`.
CREATE FUNCTION attachments.check_state_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('pending', 'uploaded'), ('pending', 'available'), ('pending', 'rejected'),
        ('uploaded', 'available'), ('uploaded', 'rejected'), ('uploaded', 'quarantined'),
        ('scanning', 'available'), ('scanning', 'rejected'), ('scanning', 'quarantined'),
        ('pending', 'former'), ('scanning', 'former'),
        ('available', 'quarantined')) THEN
        RAISE EXCEPTION 'cannot change the state of an attachment from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation',
                  DETAIL = format('Attachment %s.', OLD.id),
                  HINT = 'Allowed: pending → (uploaded →) (scanning →) available | rejected | quarantined, or former of a version.';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER check_state_change BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION attachments.check_state_change();

-- Clocks differ: the worker's decides when an upload URL has run out, the database's when its upload is closed. Where the
-- worker's is behind, a URL still works when the database calls it over. So the object of a rejected file is deleted for the last
-- time, and its quota given back, when no URL can store it by a clock that is five minutes off.

CREATE FUNCTION attachments.clock_tolerance() RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT interval '5 minutes'
$$;

-- BEFORE UPDATE, of every file that is rejected, for whatever reason.
CREATE FUNCTION attachments.outlast_clocks() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.writable_until := NEW.writable_until + attachments.clock_tolerance();
    RETURN NEW;
END
$$;

REVOKE ALL ON FUNCTION attachments.outlast_clocks FROM PUBLIC;
CREATE TRIGGER outlast_clocks BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (NEW.state = 'rejected' AND OLD.state <> 'rejected')
    EXECUTE FUNCTION attachments.outlast_clocks();

-- The terms of a name, from when it can be found. PostgreSQL would compute a generated column anew at each change of state or deletion.
CREATE FUNCTION attachments.terms_of_name() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.search := keepsake.filename_terms(NEW.tenant_id, NEW.file_name);
    RETURN NEW;
END
$$;

REVOKE ALL ON FUNCTION attachments.terms_of_name FROM PUBLIC;
CREATE TRIGGER terms_of_new_name BEFORE INSERT ON attachments.attachment
    FOR EACH ROW WHEN (NEW.state NOT IN ('pending', 'rejected'))
    EXECUTE FUNCTION attachments.terms_of_name();
CREATE TRIGGER terms_of_name BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (NEW.state NOT IN ('pending', 'rejected')
                       AND (OLD.state = 'pending' OR NEW.file_name <> OLD.file_name OR NEW.tenant_id <> OLD.tenant_id))
    EXECUTE FUNCTION attachments.terms_of_name();

-- Finding and describing ---------------------------------------------------------------------------

-- A file that can be read: available, deleted or not, of an entity that the caller may see.
CREATE FUNCTION attachments.find_attachment(attachment uuid) RETURNS attachments.attachment
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT a FROM attachments.attachment a
        WHERE a.id = attachment AND a.state = 'available'
          AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there);
END
$$;

-- A file that can be deleted and restored, deleted or not, of an entity that the caller may see: one that was made visible once,
-- or one that malware was found in. In the bin and out of it the latter stays shut.
CREATE FUNCTION attachments.find_deletable(attachment uuid) RETURNS attachments.attachment
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT a FROM attachments.attachment a
        WHERE a.id = attachment AND a.state IN ('available', 'quarantined')
          AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there);
END
$$;

-- Why an attachment of an entity that the caller may see is shut; NULL when it is not, or is not there.
CREATE FUNCTION attachments.refuse_shut(attachment uuid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE a.state
        WHEN 'scanning' THEN attachments.fail('file_scanning', 'The file is being scanned, and cannot be downloaded until it is found clean. Retry later.')
        ELSE attachments.fail('file_quarantined', 'Malware was found in the file. It can never be downloaded.') END
    FROM attachments.attachment a
    WHERE a.id = attachment AND a.deleted_at IS NULL AND a.state IN ('scanning', 'quarantined') AND a.version_of IS NULL
      AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
$$;

-- As refuse_change, of the entity that a file belongs to.
CREATE FUNCTION attachments.refuse_file_change(attachment uuid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    SELECT a.* INTO file FROM attachments.attachment a WHERE a.id = attachment;
    RETURN attachments.refuse_change(file.entity_type, file.entity_id);
END
$$;

-- Its names are resolved once, here, so that it needs no search_path, and is inlined where a listing calls it for each row.
CREATE FUNCTION attachments.describe(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'id', a.id, 'entity_type', a.entity_type, 'entity_id', a.entity_id,
    'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
    'sha256', encode(a.sha256, 'hex'), 'state', a.state, 'version', a.version, 'uploaded_by', a.uploaded_by,
    'created_at', a.created_at, 'deleted_at', a.deleted_at);

-- What a download needs of a file that can be read.
CREATE FUNCTION attachments.content_of(a attachments.attachment) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object(
        'object_key', a.object_key, 'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
        'download_only', a.download_only);
END
$$;

-- Why an attachment that find_attachment() was asked for cannot be read; NULL when it can.
CREATE FUNCTION attachments.refuse_unreadable(file attachments.attachment, attachment uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF file.id IS NULL OR file.deleted_at IS NOT NULL THEN
        RETURN coalesce(attachments.refuse_shut(attachment), attachments.fail('not_found', 'There is no such attachment.'));
    END IF;
    RETURN NULL;
END
$$;

-- Reading and renaming -----------------------------------------------------------------------------

CREATE FUNCTION attachments_api.get_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    RETURN coalesce(attachments.refuse_unreadable(file, (request ->> 'attachment_id')::uuid), attachments.ok(attachments.describe(file)));
END
$$;

CREATE FUNCTION attachments_api.attachment_content(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    RETURN coalesce(attachments.refuse_unreadable(file, (request ->> 'attachment_id')::uuid), attachments.ok(attachments.content_of(file)));
END
$$;

CREATE FUNCTION attachments_api.rename_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file attachments.attachment;
    new_name text := request ->> 'name';
    problem jsonb;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    PERFORM attachments.enter_tenant(attachments.tenant());
    problem := attachments.refuse_file_change((request ->> 'attachment_id')::uuid);
    IF problem IS NOT NULL THEN
        RETURN problem;
    END IF;
    -- It stays what it is found to be, and is locked before a new version on its way, as whoever deletes them locks them.
    PERFORM FROM attachments.attachment a WHERE a.id = (request ->> 'attachment_id')::uuid FOR UPDATE;
    file := attachments.find_attachment((request ->> 'attachment_id')::uuid);
    IF file.id IS NULL THEN
        RETURN coalesce(attachments.refuse_shut((request ->> 'attachment_id')::uuid),
                        attachments.fail('not_found', 'There is no such attachment.'));
    ELSIF coalesce(keepsake.media_type(new_name), 'application/octet-stream') IS DISTINCT FROM file.media_type
       OR keepsake.object_key(file.tenant_id, file.entity_type, file.entity_id,
              (keepsake.parse_object_key(file.object_key) ->> 'attachment_id')::uuid, new_name) <> file.object_key THEN
        problem := jsonb_build_object('pointer', '/name', 'code', 'media_type_mismatch', 'detail',
            format('The name must keep its extension .%s, which defines the media type.', keepsake.parse_object_key(file.object_key) ->> 'extension'));
        RETURN attachments.fail('media_type_mismatch', problem ->> 'detail', jsonb_build_object('errors', jsonb_build_array(problem)));
    END IF;
    -- A new version on its way that was to keep the name keeps the new one.
    UPDATE attachments.attachment a SET file_name = new_name
    WHERE a.version_of = file.id AND a.state IN ('pending', 'scanning') AND a.file_name = file.file_name;
    UPDATE attachments.attachment a SET file_name = new_name WHERE a.id = file.id RETURNING a.* INTO file;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such attachment.');
    END IF;
    RETURN attachments.ok(attachments.describe_listed(file));
EXCEPTION WHEN unique_violation THEN
    problem := jsonb_build_object('pointer', '/name', 'code', 'name_taken', 'detail',
        format('A file named %s already exists. Delete it, or choose another name.', new_name));
    RETURN attachments.fail('name_taken', problem ->> 'detail', jsonb_build_object('errors', jsonb_build_array(problem)));
END
$$;

SELECT attachments.publish(ARRAY['get_attachment', 'attachment_content', 'rename_attachment']);
