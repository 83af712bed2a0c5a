-- What Keepsake knows: which tables it manages, and every deletion it made.
-- Written by the extension's functions alone; applications read it where it is granted.

CREATE TABLE keepsake.managed_table (
    relation   regclass PRIMARY KEY,
    retention  interval NOT NULL CHECK (retention >= interval '0'),
    managed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    on_delete  text NOT NULL DEFAULT 'convert' CHECK (on_delete IN ('convert', 'reject', 'allow'))
);
COMMENT ON TABLE keepsake.managed_table IS
    'Tables given to keepsake.manage(). retention: how long a deleted row can be restored before purge may remove it. on_delete: what a plain DELETE does.';

CREATE TABLE keepsake.reference_override (
    child     regclass NOT NULL,
    reference name NOT NULL,
    on_delete text NOT NULL CHECK (on_delete IN ('cascade', 'restrict', 'set null', 'set default')),
    PRIMARY KEY (child, reference)
);
COMMENT ON TABLE keepsake.reference_override IS
    'Foreign keys for which a soft delete does something else than their ON DELETE says.';

CREATE TABLE keepsake.declared_reference (
    child       regclass NOT NULL,
    type_column name NOT NULL,
    id_column   name NOT NULL,
    type_value  text NOT NULL,
    parent      regclass NOT NULL,
    PRIMARY KEY (child, type_column, id_column, type_value)
);
COMMENT ON TABLE keepsake.declared_reference IS
    'Polymorphic references (type, id) that Keepsake enforces and cascades like a foreign key.';

CREATE TABLE keepsake.bound_storage (
    relation       regclass PRIMARY KEY,
    key_column     name NOT NULL,
    writable_until name
);
COMMENT ON TABLE keepsake.bound_storage IS
    'Tables whose rows name an object in a bucket. writable_until: the column that says how long a signed upload URL may still store that object.';

CREATE TABLE keepsake.deletion (
    id         uuid PRIMARY KEY,
    -- The first deletion of its transaction, which may be itself.
    group_id   uuid NOT NULL,
    root_table regclass NOT NULL,
    -- NULL when one statement deleted several rows: every row of root_table in it is a root.
    root_key   jsonb,
    actor      text NOT NULL,
    -- The evidence of who: current_user, and session_user, who logged in. actor is what the application says.
    role         name,
    session_role name,
    tenant     text,
    reason     text,
    deleted_at timestamptz NOT NULL,
    -- From then on purge may remove it. retention: of its own; the root table's when NULL.
    expires_at timestamptz NOT NULL,
    retention  interval,
    state      text NOT NULL DEFAULT 'deleted'
               CHECK (state IN ('deleted', 'restored', 'purging', 'purged')),
    settled_at timestamptz,
    -- Who restored or purged it, as the database knows it.
    settled_role         name,
    settled_session_role name,
    -- When and why purging it last failed; tried again an hour later.
    purge_failed_at timestamptz,
    purge_error     text,
    -- When purge last found rows of it held or still referred to; looked at again ten minutes later.
    put_off_at      timestamptz
);
CREATE INDEX deletion_expiry ON keepsake.deletion (expires_at, id) WHERE state IN ('deleted', 'purging');
CREATE INDEX deletion_put_off ON keepsake.deletion (put_off_at) WHERE put_off_at IS NOT NULL;
-- The bin of a tenant, newest first: ids are made in the order of time.
CREATE INDEX deletion_bin ON keepsake.deletion (tenant, id) WHERE state = 'deleted';
-- The further deletions of a transaction; its first is found by its id.
CREATE INDEX deletion_group ON keepsake.deletion (group_id) WHERE group_id <> id;
CREATE INDEX deletion_root ON keepsake.deletion (root_table, root_key, deleted_at);
COMMENT ON TABLE keepsake.deletion IS
    'One row for each soft-delete operation: its root, who, why, when, and what became of it.';

CREATE TABLE keepsake.deletion_table (
    deletion_id uuid NOT NULL REFERENCES keepsake.deletion (id) ON DELETE CASCADE,
    relation    regclass NOT NULL,
    row_count   bigint NOT NULL,
    purged      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (deletion_id, relation)
);
COMMENT ON TABLE keepsake.deletion_table IS
    'How many rows of each table a deletion holds, and how many of them purge has removed.';

CREATE TABLE keepsake.detached (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deletion_id uuid NOT NULL REFERENCES keepsake.deletion (id) ON DELETE CASCADE,
    relation    regclass NOT NULL,
    -- The reference is known by its columns; its name decides between several over the same. Column names follow ALTER TABLE;
    -- that of a dropped column is ''.
    reference   name NOT NULL,
    columns     name[] NOT NULL,
    changed     name[] NOT NULL,
    key_columns name[] NOT NULL,
    row_keys    text[] NOT NULL,
    old_values  text[] NOT NULL,
    -- What the rows were given; NULL is what SET NULL gives.
    new_values  text[]
);
CREATE INDEX detached_deletion ON keepsake.detached (deletion_id, relation, id);
COMMENT ON TABLE keepsake.detached IS
    'References that a deletion set to NULL or to their default, with what restore() puts back: the n-th of row_keys, old_values and new_values is of one row, a JSON array with a text for each of key_columns or columns.';

-- Everybody may use the schema, unless it is revoked: the functions ask for the caller's own rights. Plain statements on managed
-- tables need no right in it.
GRANT USAGE ON SCHEMA keepsake TO PUBLIC;
GRANT SELECT ON keepsake.managed_table, keepsake.declared_reference, keepsake.reference_override,
    keepsake.bound_storage TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('keepsake.managed_table', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.declared_reference', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.reference_override', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.bound_storage', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.deletion', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.deletion_table', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.detached', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.detached_id_seq', '');

-- A dropped table leaves the registry with it.
CREATE FUNCTION keepsake.forget_dropped_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dropped oid[] := ARRAY(
        SELECT objid FROM pg_event_trigger_dropped_objects()
        WHERE classid = 'pg_class'::regclass AND objsubid = 0);
BEGIN
    DELETE FROM keepsake.managed_table WHERE relation::oid = ANY (dropped);
    DELETE FROM keepsake.declared_reference WHERE child::oid = ANY (dropped) OR parent::oid = ANY (dropped);
    DELETE FROM keepsake.reference_override WHERE child::oid = ANY (dropped);
    DELETE FROM keepsake.bound_storage WHERE relation::oid = ANY (dropped);
    DELETE FROM keepsake.hidden_reads WHERE relation::oid = ANY (dropped) OR view::oid = ANY (dropped);
    DELETE FROM keepsake.hold WHERE relation::oid = ANY (dropped);
    -- A row whose key lost a column can no longer be told by it.
    PERFORM keepsake.follow_column(o.objid, o.address_names[array_length(o.address_names, 1)], '')
    FROM pg_event_trigger_dropped_objects() o
    WHERE o.classid = 'pg_class'::regclass AND o.objsubid > 0 AND o.objid <> ALL (dropped);
END
$$;
REVOKE ALL ON FUNCTION keepsake.forget_dropped_tables() FROM PUBLIC;
CREATE EVENT TRIGGER keepsake_forget_dropped_tables ON sql_drop
    EXECUTE FUNCTION keepsake.forget_dropped_tables();
