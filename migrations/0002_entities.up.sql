-- Entities: the application's own tables that can have attachments.

CREATE TABLE attachments.entity_type (
    name          text PRIMARY KEY CHECK (keepsake.is_entity_type(name)),
    relation      regclass NOT NULL UNIQUE,
    key_column    name NOT NULL,
    key_type      regtype NOT NULL,
    tenant_column name NOT NULL
);
COMMENT ON TABLE attachments.entity_type IS
    'Tables that can have attachments: attachments.register_entity() adds one.';
GRANT SELECT ON attachments.entity_type TO keepsake_api;

-- What the API finds of an entity: whether it is there in the caller's tenant, and the deletion that
-- removed it, if any.
CREATE TYPE attachments.found_entity AS (
    relation    regclass,
    key         jsonb,
    is_there    boolean,
    deletion_id uuid
);

-- Runs with the rights of the API, so that the application's own policies on the table apply.
CREATE FUNCTION attachments.find_entity(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    IF NOT FOUND THEN
        RETURN (NULL, NULL, false, NULL)::attachments.found_entity;
    END IF;
    entity.relation := known.relation;
    entity.is_there := false;
    -- The id is the one spelling that the key's type prints: '07' is not 7.
    EXECUTE format(
        'SELECT jsonb_build_object(%1$L, $1::%2$s) WHERE ($1::%2$s)::text = $1',
        known.key_column, known.key_type)
    INTO entity.key USING entity_id;
    EXECUTE format(
        'SELECT true, t.deletion_id FROM %s AS t WHERE t.%I = $1::%s AND t.%I::text = attachments.tenant()',
        known.relation, known.key_column, known.key_type, known.tenant_column)
    INTO entity.is_there, entity.deletion_id USING entity.key ->> known.key_column::text;
    entity.is_there := coalesce(entity.is_there, false);
    RETURN entity;
EXCEPTION WHEN data_exception THEN
    RETURN (known.relation, NULL, false, NULL)::attachments.found_entity;
END
$$;
