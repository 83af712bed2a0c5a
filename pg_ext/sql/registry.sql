-- What Keepsake knows: which tables it manages, and every deletion it made.
-- Written by the extension's functions alone; applications read it where it is granted.

CREATE TABLE keepsake.managed_table (
    relation   regclass PRIMARY KEY,
    retention  interval NOT NULL CHECK (retention >= interval '0'),
    managed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    on_delete  text NOT NULL DEFAULT 'convert' CHECK (on_delete IN ('convert', 'reject', 'allow')),
    keep       text NOT NULL DEFAULT 'in place' CHECK (keep IN ('in place', 'archive')),
    on_truncate    text NOT NULL DEFAULT 'reject' CHECK (on_truncate IN ('reject', 'archive', 'allow')),
    after_triggers text NOT NULL DEFAULT 'fire' CHECK (after_triggers IN ('fire', 'skip'))
);
COMMENT ON TABLE keepsake.managed_table IS
    'Managed tables. retention: how long a deleted row can be restored before purge may remove it. keep: where deleted rows are kept. on_delete: what a plain DELETE does to a table kept in place. on_truncate, after_triggers: of a table with an archive, what TRUNCATE does, and whether a restore fires its AFTER INSERT triggers.';

-- The tables whose deleted rows stay in them: the only ones that the engine of marks, guards and policies knows.
CREATE VIEW keepsake.kept_in_place AS
    SELECT relation, retention, managed_at, on_delete FROM keepsake.managed_table WHERE keep = 'in place';
COMMENT ON VIEW keepsake.kept_in_place IS 'Managed tables that keep their deleted rows themselves, marked by deleted_at and deletion_id.';

CREATE TABLE keepsake.reference_override (
    child     regclass NOT NULL,
    reference name NOT NULL,
    on_delete text NOT NULL CHECK (on_delete IN ('cascade', 'restrict', 'set null', 'set default')),
    PRIMARY KEY (child, reference)
);
COMMENT ON TABLE keepsake.reference_override IS
    'Foreign keys for which a soft delete does something other than their ON DELETE action.';

CREATE TABLE keepsake.declared_reference (
    child       regclass NOT NULL,
    type_column name NOT NULL,
    id_column   name NOT NULL,
    type_value  text NOT NULL,
    parent      regclass NOT NULL,
    PRIMARY KEY (child, type_column, id_column, type_value)
);
COMMENT ON TABLE keepsake.declared_reference IS
    'Polymorphic references (type, id) that Keepsake enforces and cascades like foreign keys.';

CREATE TABLE keepsake.bound_storage (
    relation       regclass PRIMARY KEY,
    key_column     name NOT NULL,
    writable_until name
);
COMMENT ON TABLE keepsake.bound_storage IS
    'Tables whose rows name an object in a bucket. writable_until: the column with the time until which a signed upload URL can still store that object.';

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
CREATE INDEX deletion_bin ON keepsake.deletion (tenant, id) WHERE state = 'deleted' AND tenant IS NOT NULL;
-- The further deletions of a transaction; its first is found by its id.
CREATE INDEX deletion_group ON keepsake.deletion (group_id) WHERE group_id <> id;
-- What a tenant has deleted, by its key. Each index of this table is written to by every DELETE.
CREATE INDEX deletion_root ON keepsake.deletion (root_table, root_key, deleted_at) WHERE tenant IS NOT NULL;
COMMENT ON TABLE keepsake.deletion IS
    'One row for each deletion: its root, who deleted it, why and when, and its state.';

CREATE TABLE keepsake.deletion_table (
    deletion_id uuid NOT NULL,
    relation    regclass NOT NULL,
    row_count   bigint NOT NULL,
    purged      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (deletion_id, relation)
);
COMMENT ON TABLE keepsake.deletion_table IS
    'How many rows of each table belong to a deletion, and how many of them are purged.';

CREATE TABLE keepsake.detached (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deletion_id uuid NOT NULL,
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
    'References that a deletion set to NULL or to their default, with the values that restore() puts back. The n-th elements of row_keys, old_values and new_values belong to one row; each is a JSON array with one text for each of key_columns or columns.';

-- What belongs to a deletion goes with it. No foreign keys say so: pg_restore --jobs loads these tables side by side, in any order.
CREATE FUNCTION keepsake.forget_deletions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM keepsake.refuse_other_call('keepsake.forget_deletions', 'AFTER DELETE ON keepsake.deletion FOR EACH STATEMENT', tg_relid, 'deletion', tg_when || tg_op || tg_level);
    DELETE FROM keepsake.deletion_table t USING gone WHERE t.deletion_id = gone.id;
    DELETE FROM keepsake.detached d USING gone WHERE d.deletion_id = gone.id;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION keepsake.forget_deletions() FROM PUBLIC;
CREATE TRIGGER forget_deletions AFTER DELETE ON keepsake.deletion REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION keepsake.forget_deletions();

-- Everybody may use the schema, unless it is revoked: the functions ask for the caller's own rights. Plain statements on managed
-- tables need no right in it.
GRANT USAGE ON SCHEMA keepsake TO PUBLIC;
GRANT SELECT ON keepsake.managed_table, keepsake.declared_reference, keepsake.reference_override,
    keepsake.bound_storage, keepsake.kept_in_place TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('keepsake.managed_table', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.declared_reference', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.reference_override', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.bound_storage', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.deletion', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.deletion_table', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.detached', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.detached_id_seq', '');

-- Whether a name is one that Keepsake's queries give to what they know of a row, beside its columns: no managed table may have it.
CREATE FUNCTION keepsake.is_reserved_column(column_name name) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT column_name IN ('keepsake_actor', 'keepsake_ctid', 'keepsake_deleted_at', 'keepsake_deletion', 'keepsake_group', 'keepsake_holder', 'keepsake_key',
                       'keepsake_parents', 'keepsake_relation', 'keepsake_row', 'keepsake_seq', 'keepsake_tenant', 'keepsake_version')
$$;

-- A table and its partitions at every level; nothing of a table that has none. As pg_partition_tree(), which locks them all until the transaction ends: whoever changes one
-- table would wait for everyone who changes a partition.
CREATE FUNCTION keepsake.partition_tree(whole oid) RETURNS TABLE (relid oid, level integer, isleaf boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE part (relid, level, isleaf) AS (
    SELECT c.oid, 0, c.relkind <> 'p' FROM pg_class c WHERE c.oid = whole AND (c.relkind = 'p' OR c.relispartition)
    UNION ALL
    SELECT c.oid, part.level + 1, c.relkind <> 'p' FROM part
    JOIN pg_inherits i ON i.inhparent = part.relid AND NOT i.inhdetachpending JOIN pg_class c ON c.oid = i.inhrelid)
SELECT part.relid, part.level, part.isleaf FROM part
$$;

-- A dropped table leaves the registry with it.
CREATE FUNCTION keepsake.forget_dropped_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
    dropped oid[] := ARRAY(
        SELECT objid FROM pg_event_trigger_dropped_objects()
        WHERE classid = 'pg_class'::regclass AND objsubid = 0);
    gone regclass;
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
    -- What a dropped table had deleted stays in its archive until its retention is over.
    UPDATE keepsake.archive_table SET relation = NULL, former = relation::oid WHERE relation::oid = ANY (dropped);
    DELETE FROM keepsake.archive_table WHERE archive::oid = ANY (dropped);
    DELETE FROM keepsake.archive_column WHERE archive::oid = ANY (dropped);
    DELETE FROM keepsake.archive_month WHERE month_table::oid = ANY (dropped) OR archive::oid = ANY (dropped);
    DELETE FROM keepsake.archive_undo WHERE relation::oid = ANY (dropped);
    -- One without rows has nothing to stay for, and would keep roles and types from being dropped and changed.
    FOREACH gone IN ARRAY ARRAY(SELECT a.archive FROM keepsake.archive_table a WHERE a.relation IS NULL AND a.former = ANY (dropped)) LOOP
        PERFORM keepsake.drop_empty_archive(gone);
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION keepsake.forget_dropped_tables() FROM PUBLIC;
CREATE EVENT TRIGGER keepsake_forget_dropped_tables ON sql_drop
    EXECUTE FUNCTION keepsake.forget_dropped_tables();
