-- Entities: rows of the application's own tables that can have attachments. How a table is registered, how an entity is
-- found, and who may change its files.

CREATE TABLE attachments.entity_type (
    name          text PRIMARY KEY CHECK (keepsake.is_entity_type(name)),
    relation      regclass NOT NULL UNIQUE,
    key_column    name NOT NULL,
    key_type      regtype NOT NULL,
    tenant_column name NOT NULL,
    legacy_url_column name,
    label_column  name
);
COMMENT ON TABLE attachments.entity_type IS
    'Tables that can have attachments: attachments.register_entity() adds one.';
COMMENT ON COLUMN attachments.entity_type.label_column IS
    'The column with the name that people see, such as a title. NULL: entities are shown by their id.';
GRANT SELECT ON attachments.entity_type TO keepsake_api;

-- What the API finds of an entity: whether it is there in the caller's tenant, and the deletion that removed it, if any.
CREATE TYPE attachments.found_entity AS (
    relation    regclass,
    key         jsonb,
    is_there    boolean,
    deletion_id uuid
);

-- Registering ----------------------------------------------------------------------------------

-- Gives an application's table attachments. Run by a role that owns both, such as the one that migrates.
CREATE FUNCTION attachments.register_entity(name text, relation regclass, tenant_column name, label_column name DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity_key record;
    entity attachments.entity_type;
BEGIN
    -- Before any other lock: see plan_lookups().
    LOCK TABLE attachments.entity_type IN SHARE ROW EXCLUSIVE MODE;
    SELECT a.attname, a.atttypid::regtype AS type INTO entity_key
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = relation AND i.indisprimary AND i.indnkeyatts = 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'cannot register table %: its primary key has more than one column', relation
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'An attachment identifies its entity by one id. Give the table a primary key of one column.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute a
                   WHERE a.attrelid = relation AND a.attname = tenant_column AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table % has no column %', relation, tenant_column
            USING ERRCODE = 'undefined_column',
                  HINT = 'Pass the name of the column that holds the tenant of a row.';
    END IF;
    -- Where its deleted rows are kept stays as it is; of a table that is not managed yet, in place.
    PERFORM keepsake.manage(relation);
    INSERT INTO attachments.entity_type AS e (name, relation, key_column, key_type, tenant_column)
    VALUES (name, relation, entity_key.attname, entity_key.type, tenant_column)
    RETURNING e.* INTO entity;
    PERFORM keepsake.declare_reference('attachments.attachment', 'entity_type', 'entity_id', name, relation);
    EXECUTE format('GRANT SELECT, DELETE ON %s TO keepsake_api', relation);
    PERFORM attachments.let_lock(entity);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO keepsake_api',
                   (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation));
    PERFORM attachments.show_label(name, label_column);
    PERFORM attachments.index_listing(entity);
    PERFORM attachments.plan_lookups();
END
$$;

COMMENT ON FUNCTION attachments.register_entity IS
    'Lets the rows of a table have attachments: manages the table, declares the reference, and lets the API find rows under the policies of the table. label_column holds the name that people see.';
REVOKE ALL ON FUNCTION attachments.register_entity FROM PUBLIC;

-- Whether the deleted rows of a table are kept apart from it, in an archive.
CREATE FUNCTION attachments.kept_apart(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = kept_apart.relation AND m.keep = 'archive');
END
$$;

-- A row lock needs the right to update any one column; a restore from an archive that to insert rows.
CREATE FUNCTION attachments.let_lock(entity attachments.entity_type) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF attachments.kept_apart(entity.relation) THEN
        EXECUTE format('GRANT INSERT, UPDATE (%I) ON %s TO keepsake_api', entity.key_column, entity.relation);
    ELSE
        EXECUTE format('GRANT UPDATE (deletion_id) ON %s TO keepsake_api', entity.relation);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION attachments.let_lock FROM PUBLIC;

-- Entities are listed by tenant, in the order of their keys.
CREATE FUNCTION attachments.index_listing(entity attachments.entity_type) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    apart boolean := attachments.kept_apart(entity.relation);
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = entity.relation
          AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM CASE WHEN NOT apart THEN '(deleted_at IS NULL)' END
          AND i.indkey[0] = (SELECT attnum FROM pg_attribute WHERE attrelid = entity.relation AND attname = entity.tenant_column)
          AND i.indkey[1] = (SELECT attnum FROM pg_attribute WHERE attrelid = entity.relation AND attname = entity.key_column)) THEN
        EXECUTE format('CREATE INDEX ON %s (%I, %I)%s', entity.relation, entity.tenant_column, entity.key_column,
                       CASE WHEN NOT apart THEN ' WHERE deleted_at IS NULL' END);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION attachments.index_listing FROM PUBLIC;

-- A label can be written through the API, so neither the key nor the tenant of an entity can be one.
CREATE FUNCTION attachments.show_label(entity text, label_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'entity type % does not exist', entity
            USING ERRCODE = 'undefined_object', HINT = 'Register it with attachments.register_entity() first.';
    ELSIF label_column IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = known.relation AND a.attname = label_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table % has no column %', known.relation, label_column
            USING ERRCODE = 'undefined_column', HINT = 'Pass the name of the column that holds the name that people see, or NULL for none.';
    ELSIF label_column IN (known.key_column, known.tenant_column) THEN
        RAISE EXCEPTION 'column % of table % cannot be a label', label_column, known.relation
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Users who may update an entity can change its label, so the key and the tenant column cannot be labels.';
    END IF;
    UPDATE attachments.entity_type e SET label_column = show_label.label_column WHERE e.name = entity;
    IF label_column IS NOT NULL THEN
        EXECUTE format('GRANT UPDATE (%I) ON %s TO keepsake_api', label_column, known.relation);
    END IF;
END
$$;

COMMENT ON FUNCTION attachments.show_label IS
    'Shows the entities of a type by this column and lets users rename them under the policies of the table. NULL ends this.';
REVOKE ALL ON FUNCTION attachments.show_label FROM PUBLIC;

-- A URL that the application kept before it had attachments.
CREATE FUNCTION attachments.show_legacy_url(entity text, url_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass := (SELECT e.relation FROM attachments.entity_type e WHERE e.name = entity);
BEGIN
    IF relation IS NULL THEN
        RAISE EXCEPTION 'entity type % does not exist', entity
            USING ERRCODE = 'undefined_object', HINT = 'Register it with attachments.register_entity() first.';
    ELSIF url_column IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = url_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table % has no column %', relation, url_column
            USING ERRCODE = 'undefined_column', HINT = 'Pass the name of the column that holds the URL, or NULL for none.';
    END IF;
    UPDATE attachments.entity_type e SET legacy_url_column = url_column WHERE e.name = entity;
END
$$;

COMMENT ON FUNCTION attachments.show_legacy_url IS
    'Lists the http(s) URL in this column after the attachments of an entity, read-only. NULL ends this.';
REVOKE ALL ON FUNCTION attachments.show_legacy_url FROM PUBLIC;

-- Finding --------------------------------------------------------------------------------------

-- The deleted entities of one type as SQL: the table's columns and `deletion_id`, for FROM, as `t`. `deletion` and `id` are SQL for what
-- tells which, or NULL: all of a deletion, or those with an id. Of an archive no more is read than that.
CREATE FUNCTION attachments.deleted_sql(known attachments.entity_type, deletion text, id text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF attachments.kept_apart(known.relation) THEN
        RETURN format('(SELECT (d.deleted).*, d.deletion_id FROM keepsake.deleted_rows(NULL::%s, %s, %s) AS d) AS t',
                      known.relation, coalesce(deletion, 'NULL'),
                      CASE WHEN id IS NULL THEN 'NULL' ELSE format('jsonb_build_object(%L, %s)', known.key_column, id) END);
    END IF;
    RETURN format('(SELECT t.* FROM %s AS t WHERE %s AND %s) AS t', known.relation,
                  coalesce('t.deletion_id = ' || deletion, 't.deletion_id IS NOT NULL'),
                  CASE WHEN id IS NULL THEN 'true' ELSE format('t.%I = %s::%s', known.key_column, id, known.key_type) END);
END
$$;

-- The condition that row `t` has the id `$1` and is the tenant's. An id counts in the one spelling that the key's type prints: '07' is
-- not 7.
CREATE FUNCTION attachments.is_entity_sql(known attachments.entity_type) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('t.%1$I = $1::%2$s AND t.%1$I::text = $1 AND t.%3$I::text = attachments.tenant()',
                  known.key_column, known.key_type, known.tenant_column);
END
$$;

-- The query for an entity of one type by its id: in its table, which holds deleted ones as well unless they are kept apart.
CREATE FUNCTION attachments.entity_query(known attachments.entity_type) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT jsonb_build_object(%1$L, t.%1$I), true, %2$s FROM %3$s AS t WHERE %4$s',
        known.key_column, CASE WHEN attachments.kept_apart(known.relation) THEN 'NULL::uuid' ELSE 't.deletion_id' END,
        known.relation, attachments.is_entity_sql(known));
END
$$;

-- The same among the entities that are deleted and kept apart: the one that was deleted last.
CREATE FUNCTION attachments.deleted_entity_query(known attachments.entity_type) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT jsonb_build_object(%1$L, t.%1$I), true, t.deletion_id FROM %2$s WHERE %3$s ORDER BY t.deletion_id DESC LIMIT 1',
        known.key_column, attachments.deleted_sql(known, NULL, '$1'), attachments.is_entity_sql(known));
END
$$;

-- Of an entity that is not there the key, where the text is one.
CREATE FUNCTION attachments.missing_key_query(known attachments.entity_type) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT jsonb_build_object(%1$L, $1::%2$s) WHERE ($1::%2$s)::text = $1', known.key_column, known.key_type);
END
$$;

-- Planned lookups ----------------------------------------------------------------------------------
-- To plan such a query takes several times as long as to run it, and a session keeps the plans of what stands in a function. So the queries of
-- each type are written into two functions, find_planned() and lock_planned(), when the type is registered. Those of a type that is another by
-- now, because its table was renamed or its deleted rows are kept elsewhere, are planned each time, until plan_lookups() is run again. Every
-- migration ends with it: what writes the queries may have changed.

-- The entity types as lookups need them. `planned_for` is all that decides the text of a type's queries.
CREATE VIEW attachments.entity_lookup AS
    SELECT e.name, e.relation, m.keep IS NOT DISTINCT FROM 'archive' AS apart,
           concat_ws(' ', e.name, e.relation::text, quote_ident(e.key_column), e.key_type::text, quote_ident(e.tenant_column), m.keep) AS planned_for
    FROM attachments.entity_type e LEFT JOIN keepsake.managed_table m ON m.relation = e.relation;
GRANT SELECT ON attachments.entity_lookup TO keepsake_api;

-- The queries of one type as statements of a function whose first argument is the id: they find an entity, or lock it.
CREATE FUNCTION attachments.planned_statements(known attachments.entity_type, locks boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found constant text := 'INTO entity.key, entity.is_there, entity.deletion_id;';
BEGIN
    IF locks THEN
        RETURN format(E'%s FOR KEY SHARE %s\n', attachments.entity_query(known), found);
    END IF;
    RETURN format(E'%s %s\n', attachments.entity_query(known), found)
        || CASE WHEN attachments.kept_apart(known.relation)
           THEN format(E'IF entity.is_there IS NULL THEN %s %s END IF;\n', attachments.deleted_entity_query(known), found) ELSE '' END
        || format(E'IF entity.is_there IS NULL THEN %s INTO entity.key; END IF;\n', attachments.missing_key_query(known));
END
$$;

-- The queries of one type, guarded by what they were written for.
CREATE FUNCTION attachments.planned_branch(known attachments.entity_type, planned_for text, locks boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format(E'IF planned_for = %L THEN\n%sentity.is_there := coalesce(entity.is_there, false);\nRETURN entity;\nEND IF;\n',
                  planned_for, attachments.planned_statements(known, locks));
END
$$;

-- Writes one of the two functions. It runs with the rights of who calls it, and answers with NULL for a type that it was not written for.
CREATE FUNCTION attachments.plan_lookup(function_name text, volatility text, locks boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    branches text;
BEGIN
    SELECT string_agg(attachments.planned_branch(e, l.planned_for, locks), '' ORDER BY e.name)
    INTO branches
    FROM attachments.entity_type e JOIN attachments.entity_lookup l ON l.name = e.name JOIN pg_class c ON c.oid = e.relation;
    EXECUTE format('CREATE OR REPLACE FUNCTION attachments.%I(entity_id text, planned_for text) RETURNS attachments.found_entity
                    LANGUAGE plpgsql %s SET search_path = pg_catalog, pg_temp AS %L',
                   function_name, volatility,
                   format(E'DECLARE\nentity attachments.found_entity;\nBEGIN\n%sRETURN NULL;\nEND', branches));
END
$$;

CREATE FUNCTION attachments.plan_lookups() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- One at a time: whoever comes second finds the types of the first. Only who may write the table can take this lock; requests read it.
    LOCK TABLE attachments.entity_type IN SHARE ROW EXCLUSIVE MODE;
    PERFORM attachments.plan_lookup('find_planned', 'STABLE', false), attachments.plan_lookup('lock_planned', 'VOLATILE', true);
END
$$;

COMMENT ON FUNCTION attachments.plan_lookups IS
    'Lets sessions keep the plans by which they find entities, as the registered tables are now. To be run after one was renamed, or its deleted rows were moved.';
REVOKE ALL ON FUNCTION attachments.planned_branch, attachments.plan_lookup, attachments.plan_lookups FROM PUBLIC;
SELECT attachments.plan_lookups();

-- Types whose queries would be written in another way now. Of a table that is gone there is nothing to plan.
CREATE FUNCTION attachments.unplanned_lookups() RETURNS TABLE (entity_type text, relation regclass)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT e.name, e.relation
        FROM attachments.entity_type e JOIN attachments.entity_lookup l ON l.name = e.name JOIN pg_class c ON c.oid = e.relation
        WHERE EXISTS (
            SELECT FROM pg_proc p
            WHERE p.oid IN ('attachments.find_planned(text, text)'::regprocedure, 'attachments.lock_planned(text, text)'::regprocedure)
              AND position(attachments.planned_branch(e, l.planned_for, p.proname = 'lock_planned') IN p.prosrc) = 0);
END
$$;

COMMENT ON FUNCTION attachments.unplanned_lookups IS
    'Entity types whose lookups would be planned in another way now, since their table or this schema was changed. attachments.plan_lookups() ends this.';
REVOKE ALL ON FUNCTION attachments.unplanned_lookups FROM PUBLIC;

-- The same by queries that are planned each time.
CREATE FUNCTION attachments.find_unplanned(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    EXECUTE attachments.entity_query(known) INTO entity.key, entity.is_there, entity.deletion_id USING entity_id;
    IF entity.is_there IS NULL AND attachments.kept_apart(known.relation) THEN
        EXECUTE attachments.deleted_entity_query(known) INTO entity.key, entity.is_there, entity.deletion_id USING entity_id;
    END IF;
    IF entity.is_there IS NULL THEN
        EXECUTE attachments.missing_key_query(known) INTO entity.key USING entity_id;
    END IF;
    entity.is_there := coalesce(entity.is_there, false);
    RETURN entity;
END
$$;

CREATE FUNCTION attachments.lock_unplanned(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity attachments.found_entity;
BEGIN
    EXECUTE (SELECT attachments.entity_query(e) FROM attachments.entity_type e WHERE e.name = entity_type) || ' FOR KEY SHARE'
    INTO entity.key, entity.is_there, entity.deletion_id USING entity_id;
    entity.is_there := coalesce(entity.is_there, false);
    RETURN entity;
END
$$;

-- Runs with the rights of the API, so that the application's own policies on the table apply.
CREATE FUNCTION attachments.find_entity(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_lookup;
    entity attachments.found_entity;
BEGIN
    SELECT * INTO known FROM attachments.entity_lookup l WHERE l.name = entity_type;
    IF NOT FOUND THEN
        RETURN (NULL, NULL, false, NULL)::attachments.found_entity;
    END IF;
    entity := attachments.find_planned(entity_id, known.planned_for);
    IF entity.is_there IS NULL THEN
        entity := attachments.find_unplanned(entity_type, entity_id);
    END IF;
    entity.relation := known.relation;
    RETURN entity;
EXCEPTION WHEN data_exception THEN
    RETURN (known.relation, NULL, false, NULL)::attachments.found_entity;
END
$$;

-- The same for a caller whom the policies let update the entity. A live entity then stays until the transaction ends.
CREATE FUNCTION attachments.lock_entity(entity_type text, entity_id text) RETURNS attachments.found_entity
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_lookup;
    entity attachments.found_entity;
BEGIN
    SELECT * INTO known FROM attachments.entity_lookup l WHERE l.name = entity_type;
    IF FOUND THEN
        entity := attachments.lock_planned(entity_id, known.planned_for);
        IF entity.is_there IS NULL THEN
            entity := attachments.lock_unplanned(entity_type, entity_id);
        END IF;
        IF NOT entity.is_there AND known.apart THEN
            entity := attachments.find_entity(entity_type, entity_id);
            entity.is_there := entity.deletion_id IS NOT NULL AND keepsake.may_change_deleted(known.relation, entity.key);
        END IF;
    END IF;
    entity.is_there := coalesce(entity.is_there, false);
    RETURN entity;
EXCEPTION WHEN data_exception THEN
    RETURN (NULL, NULL, false, NULL)::attachments.found_entity;
END
$$;

-- Who may change ---------------------------------------------------------------------------------
-- Who may see an entity may see its files. Who may update it, by the policies of its table, may change them. A lock of the
-- entity's row asks for that: PostgreSQL applies the policies of UPDATE to it
-- (https://www.postgresql.org/docs/current/sql-createpolicy.html), and until the transaction ends the entity stays.

-- NULL when the caller may, and for an entity that is not there: whoever looks for it reports that.
CREATE FUNCTION attachments.refuse_change(entity_type text, entity_id text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (attachments.lock_entity(entity_type, entity_id)).is_there
       OR (attachments.find_entity(entity_type, entity_id)).is_there IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    RETURN attachments.fail('not_found', format('There is no %s %s whose files you may change.', entity_type, entity_id));
END
$$;
