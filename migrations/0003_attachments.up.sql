-- Upload sets and attachments. A set is 1..N files that become visible together or not at all.

CREATE TABLE attachments.upload_set (
    id          uuid PRIMARY KEY DEFAULT keepsake.uuid_v7(),
    tenant_id   text NOT NULL,
    entity_type text NOT NULL REFERENCES attachments.entity_type (name),
    entity_id   text NOT NULL,
    file_count  integer NOT NULL CHECK (file_count > 0),
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    state       text NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'completed', 'rejected', 'aborted', 'expired')),
    settled_at  timestamptz,
    -- What was declared, kept when the rows of a failed set are gone.
    files       jsonb,
    -- Why it was rejected: per attachment, the problems that were found.
    report      jsonb,
    CONSTRAINT settled_once CHECK ((state = 'pending') = (settled_at IS NULL))
);
CREATE INDEX upload_set_pending ON attachments.upload_set (expires_at) WHERE state = 'pending';

CREATE TABLE attachments.attachment (
    id             uuid PRIMARY KEY,
    tenant_id      text NOT NULL,
    upload_set_id  uuid NOT NULL REFERENCES attachments.upload_set (id),
    position       smallint NOT NULL,
    entity_type    text NOT NULL REFERENCES attachments.entity_type (name),
    entity_id      text NOT NULL,
    file_name      text NOT NULL CHECK (keepsake.is_filename(file_name)),
    media_type     text NOT NULL CHECK (media_type = keepsake.media_type(file_name)),
    byte_size      bigint NOT NULL CHECK (byte_size > 0),
    sha256         bytea NOT NULL CHECK (octet_length(sha256) = 32),
    object_key     text NOT NULL UNIQUE,
    state          text NOT NULL DEFAULT 'pending'
                   CHECK (state IN ('pending', 'uploaded', 'available', 'rejected', 'quarantined')),
    -- Until then a signed URL may still store the object.
    writable_until timestamptz NOT NULL,
    uploaded_by    text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    available_at   timestamptz,
    CONSTRAINT key_made_by_the_rules CHECK (
        object_key = keepsake.object_key(tenant_id, entity_type, entity_id, id, file_name)),
    CONSTRAINT available_since CHECK (state <> 'available' OR available_at IS NOT NULL)
);
CREATE INDEX attachment_of_set ON attachments.attachment (upload_set_id);
CREATE INDEX attachment_of_entity ON attachments.attachment (entity_type, entity_id, id);
CREATE INDEX attachment_rejected ON attachments.attachment (id) WHERE state = 'rejected';
CREATE INDEX attachment_of_tenant ON attachments.attachment (tenant_id, id);

SELECT keepsake.manage('attachments.attachment');
SELECT keepsake.bind_storage('attachments.attachment', 'object_key', 'writable_until');

-- Among the live files of an entity a name stands once, however it is written.
CREATE UNIQUE INDEX attachment_live_name
    ON attachments.attachment (tenant_id, entity_type, entity_id, keepsake.filename_comparison_key(file_name))
    WHERE deleted_at IS NULL AND state = 'available';

-- pending → uploaded → available | rejected | quarantined; nothing leads back.
CREATE FUNCTION attachments.check_state_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('pending', 'uploaded'), ('pending', 'rejected'),
        ('uploaded', 'available'), ('uploaded', 'rejected'), ('uploaded', 'quarantined'),
        ('available', 'quarantined')) THEN
        RAISE EXCEPTION 'an attachment cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation',
                  DETAIL = format('Attachment %s.', OLD.id),
                  HINT = 'pending → uploaded → available | rejected | quarantined.';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_state_change BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION attachments.check_state_change();

ALTER TABLE attachments.upload_set ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments.attachment ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments.upload_set
    USING (tenant_id = attachments.tenant()) WITH CHECK (tenant_id = attachments.tenant());
CREATE POLICY own_tenant ON attachments.attachment
    USING (tenant_id = attachments.tenant()) WITH CHECK (tenant_id = attachments.tenant());

GRANT SELECT, INSERT, UPDATE ON attachments.upload_set TO keepsake_api;
-- DELETE is what soft delete asks for; a plain DELETE is refused by the extension.
GRANT SELECT, INSERT, DELETE, UPDATE (state, available_at) ON attachments.attachment TO keepsake_api;
GRANT EXECUTE ON FUNCTION keepsake.purge_deletion TO keepsake_api;

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
