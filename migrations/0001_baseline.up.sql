-- Made by `cargo run -p keepsake-schema -- baseline` from migrations/schema: change those files.

-- 01_roles.sql ---------------------------------------------

-- Roles, schemas, and how a function is handed to the role that may call it.
--
-- keepsake_api     owns the functions that the worker calls for a user, and works under row-level security
-- keepsake_worker  is whom the worker connects as: it executes the functions of attachments_api and nothing else. What else it
--                  might do in a database is listed by attachments.worker_rights()
--
-- Applied by a superuser: the extension needs one, and functions change their owner.

CREATE EXTENSION IF NOT EXISTS keepsake;

DO $$
DECLARE
    role text;
BEGIN
    -- Roles belong to the whole cluster: another database may have made them.
    FOREACH role IN ARRAY ARRAY['keepsake_api', 'keepsake_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN NOINHERIT', role);
        END IF;
    END LOOP;
END
$$;

CREATE SCHEMA attachments;
CREATE SCHEMA attachments_api;
GRANT USAGE ON SCHEMA attachments TO keepsake_api;
GRANT USAGE ON SCHEMA attachments_api TO keepsake_api;
GRANT USAGE ON SCHEMA attachments_api TO keepsake_worker;

-- What keepsake_api calls of the extension, by name: it goes on when EXECUTE is revoked from PUBLIC there.
GRANT USAGE ON SCHEMA keepsake TO keepsake_api;
GRANT SELECT ON keepsake.managed_table TO keepsake_api;
DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'keepsake'::regnamespace AND p.proname = ANY (ARRAY[
            'is_filename', 'filename_comparison_key', 'filename_terms', 'media_type', 'is_file_types', 'check_file_types', 'object_key', 'parse_object_key', 'uuid_v7',
            'soft_delete', 'restore', 'restore_conflicts', 'purge_deletion', 'shows_deleted', 'deleted_rows', 'change_deleted', 'may_change_deleted'])
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO keepsake_api', called);
    END LOOP;
END
$$;

-- Through PUBLIC every role may make temporary tables and use the schema keepsake, and so could the worker's. Roles that own something
-- in this database, or are granted something, keep both rights by name; a new one is granted them:
-- GRANT TEMPORARY ON DATABASE … TO role; GRANT USAGE ON SCHEMA keepsake TO role.
DO $$
DECLARE
    role name;
BEGIN
    FOR role IN
        SELECT r.rolname FROM pg_catalog.pg_roles r
        WHERE NOT r.rolsuper AND r.rolname !~ '^pg_' AND r.rolname NOT IN ('keepsake_api', 'keepsake_worker')
          AND EXISTS (SELECT FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_database b ON b.oid = d.dbid
                      WHERE b.datname = pg_catalog.current_database()
                        AND d.refclassid = 'pg_authid'::pg_catalog.regclass AND d.refobjid = r.oid)
    LOOP
        IF pg_catalog.has_database_privilege(role, pg_catalog.current_database(), 'TEMPORARY') THEN
            EXECUTE pg_catalog.format('GRANT TEMPORARY ON DATABASE %I TO %I', pg_catalog.current_database(), role);
        END IF;
        IF pg_catalog.has_schema_privilege(role, 'keepsake', 'USAGE') THEN
            EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA keepsake TO %I', role);
        END IF;
    END LOOP;
    EXECUTE pg_catalog.format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', pg_catalog.current_database());
    REVOKE USAGE ON SCHEMA keepsake FROM PUBLIC;
END
$$;

-- Hands functions that work for a user to keepsake_api, as whom they run, and lets the worker alone call them.
CREATE FUNCTION attachments.publish(names text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        EXECUTE format('ALTER FUNCTION attachments_api.%I(jsonb, jsonb) OWNER TO keepsake_api', name);
        EXECUTE format('REVOKE ALL ON FUNCTION attachments_api.%I(jsonb, jsonb) FROM PUBLIC', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION attachments_api.%I(jsonb, jsonb) TO keepsake_worker', name);
    END LOOP;
END
$$;

REVOKE ALL ON FUNCTION attachments.publish FROM PUBLIC;

-- 02_requests.sql ---------------------------------------------

-- What every call has in common: the caller's claims, and the form of an answer.
--
-- Those of one expression have it after RETURN: its names are resolved once, here, so that they need no search_path, and PostgreSQL writes the
-- expression into the statements that call them. All others are PL/pgSQL, whose plans a session keeps: an SQL function that cannot be inlined
-- is planned again for each statement that calls it, and a pinned search_path forbids to inline it.

-- The claims stand where PostgREST and Supabase set them, so that policies written for those work here.
CREATE FUNCTION attachments.claim(name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> name;

COMMENT ON FUNCTION attachments.claim IS 'A claim of the caller''s token, set for the transaction.';

CREATE FUNCTION attachments.tenant() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant';

COMMENT ON FUNCTION attachments.tenant IS 'The caller''s tenant. NULL without claims; then nothing is visible.';

-- Sets the claims of a caller who asks for deleted rows: they are visible to this call, also where a policy of the extension hides
-- them from ordinary reads.
CREATE FUNCTION attachments.begin_recovery(claims jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true), set_config('keepsake.include_deleted', 'on', true);
END
$$;

-- Answers are values: {"ok": …} or {"error": {"code", "detail", …}}. The codes and their HTTP statuses are the table of
-- keepsake-shared.
CREATE FUNCTION attachments.ok(body jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN jsonb_build_object('ok', body);

CREATE FUNCTION attachments.fail(code text, detail text, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('error', jsonb_build_object('code', code, 'detail', detail) || more);
END
$$;

-- A page of entries that were fetched with one more than asked: without that one, and where the next page begins.
CREATE FUNCTION attachments.cut_page(entries jsonb, size integer, id_name text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_build_object(
        'items', CASE WHEN jsonb_array_length(entries) > size THEN entries - size ELSE entries END,
        'next_cursor', CASE WHEN jsonb_array_length(entries) > size THEN entries -> (size - 1) ->> id_name END))
$$;

-- Erasures -----------------------------------------------------------------------------------------
-- What changes something of a tenant says so before it locks a row. An erasure of the tenant waits until all of these have ended, and those
-- that come later wait for it: otherwise each could hold a row that the other needs.

CREATE FUNCTION attachments.tenant_lock(tenant text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN hashtextextended('attachments.erase ' || tenant, 0);
END
$$;

CREATE FUNCTION attachments.enter_tenant(tenant text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(attachments.tenant_lock(tenant));
END
$$;

-- 03_entities.sql ---------------------------------------------

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

-- 04_file_names.sql ---------------------------------------------

-- What a search asks of a file name. The column attachments.attachment.search holds the terms of each name that can be found:
-- keepsake.filename_terms().

-- How many of the others are among the terms.
CREATE FUNCTION attachments.shared_terms(terms text[], others text[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 10 SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FROM unnest(others) AS term WHERE term = ANY (terms)
$$;

-- What a name must have of one word that is searched for: a word that begins with it; of six letters or more, a word that comes
-- near enough for one typing error. A number is never nearly right.
CREATE FUNCTION attachments.word_condition(tenant text, word text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN n < 6 OR word ~ '[0-9]' THEN format('a.search @> %L::text[]', terms)
           -- With at most three missing, one of any four is there: that much the index finds.
           ELSE format('a.search && %L::text[] AND a.search && %L::text[] AND attachments.shared_terms(a.search, %L::text[]) >= %s',
                       terms[:4], terms[n - 3:], terms, n - 3)
           END
    FROM (SELECT t AS terms, cardinality(t) AS n FROM keepsake.search_terms(tenant, word) AS t) AS of_word
$$;

-- 05_upload_sets.sql ---------------------------------------------

-- Upload sets: 1..N files that become visible together or not at all.
--
--     declared                all files there, no scan required
--    ──────────▶ pending ─────────────────────────────────────────▶ completed
--                  │ │ │                                                ▲
--                  │ │ │  all files there, a scan is required           │ every file is clean
--                  │ │ └─────────────────────────▶ scanning ────────────┘
--                  │ │                                │
--                  │ │  a file is not as declared     │ a file is infected, or its name was taken meanwhile
--                  │ ├─────────────▶ rejected ◀───────┘
--                  │ │  its client gives it up
--                  │ ├─────────────▶ aborted
--                  │ │  its time is over (the sweep)
--                  │ └─────────────▶ expired
--                  └ a set that is not pending never becomes pending again
--
-- The attachments of a set follow it: see 06_attachments.sql. The functions that move a set: 07_uploads.sql, 11_scans.sql.

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
                CHECK (state IN ('pending', 'scanning', 'completed', 'rejected', 'aborted', 'expired')),
    settled_at  timestamptz,
    -- What was declared, kept when the rows of a failed set are gone.
    files       jsonb,
    -- Why it was rejected: per attachment, the problems that were found.
    report      jsonb,
    next_look_at timestamptz,
    -- The attachment of which its one file becomes a new version.
    version_of  uuid,
    one_request boolean NOT NULL DEFAULT false,
    CONSTRAINT settled_once CHECK ((state = 'pending') = (settled_at IS NULL))
);
CREATE INDEX upload_set_pending ON attachments.upload_set (expires_at) WHERE state = 'pending';
COMMENT ON COLUMN attachments.upload_set.next_look_at IS
    'When the schedule checks again whether the files of an open upload have arrived. NULL: not checked yet.';
COMMENT ON COLUMN attachments.upload_set.one_request IS
    'Whether one request declares, stores and completes it: nobody else completes it, and one that was broken off expires.';

-- Upload sets are under the policies of the entity's table, as attachments are: who may not see the entity neither sees,
-- completes nor gives up what is being attached to it.
ALTER TABLE attachments.upload_set ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments.upload_set
    USING (tenant_id = attachments.tenant() AND (attachments.find_entity(entity_type, entity_id)).is_there)
    WITH CHECK (tenant_id = attachments.tenant());
GRANT SELECT, INSERT, UPDATE ON attachments.upload_set TO keepsake_api;

-- 06_attachments.sql ---------------------------------------------

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

-- 07_uploads.sql ---------------------------------------------

-- Declaring, completing and closing upload sets, as the worker asks for it. Each call is one transaction under the caller's
-- claims. The state machine: 05_upload_sets.sql.

-- Declaring --------------------------------------------------------------------------------------

-- A file of a set as the worker needs it, but for its upload in parts. Inlined, as describe() is.
CREATE FUNCTION attachments.describe_file(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'attachment_id', CASE a.state WHEN 'former' THEN a.version_of ELSE a.id END,
    'name', a.file_name, 'media_type', a.media_type, 'size', a.byte_size,
    'sha256', encode(a.sha256, 'hex'), 'object_key', a.object_key,
    'state', CASE a.state WHEN 'former' THEN 'available' ELSE a.state END);

-- The files of a set as the worker needs them: what was declared, and where the bytes are. Once it is complete, the file of a new version is
-- the attachment, whichever version it is by now.
CREATE FUNCTION attachments.files_of(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(attachments.describe_file(a) || jsonb_build_object('multipart', attachments.multipart_of(a.id))
            ORDER BY a.position), '[]')
        FROM attachments.attachment a WHERE a.upload_set_id = upload);
END
$$;

-- Names of the set that a live file of the entity bears already, as field errors.
-- Runs beyond the row policies, under which the index of live names cannot be used: the function in it is not leakproof, and all
-- files of the entity would be read. It reports only names that the set itself has, in the set's own tenant. OFFSET makes each
-- name be looked up by itself: without statistics the planner would join all there are. One plan serves all sets: PostgreSQL would
-- take one for just this set to be better, and to make that takes twenty times as long as to run it.
CREATE FUNCTION attachments.taken_names(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pointer', format('/files/%s/name', mine.position), 'code', 'name_taken',
            'detail', format('A file named %s already exists. Delete it, or choose another name.', mine.file_name))
            ORDER BY mine.position), '[]')
        FROM attachments.attachment mine
        WHERE mine.upload_set_id = upload AND EXISTS (
            SELECT FROM attachments.attachment other
            WHERE other.tenant_id = mine.tenant_id AND other.entity_type = mine.entity_type
              AND other.entity_id = mine.entity_id AND other.upload_set_id <> upload AND other.id IS DISTINCT FROM mine.version_of
              AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(mine.file_name)
              AND other.deleted_at IS NULL AND other.state = 'available'
            OFFSET 0));
END
$$;

REVOKE ALL ON FUNCTION attachments.taken_names FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.taken_names TO keepsake_api;

-- Which types of file may be uploaded. The row that fits best counts whole: that of the tenant and the entity type, of the tenant, of
-- the entity type, of everyone; without any, what the worker is set to. The operator writes this table; nothing else does.
CREATE TABLE attachments.file_type_rule (
    tenant_id   text,
    entity_type text REFERENCES attachments.entity_type (name),
    file_types  text NOT NULL CHECK (keepsake.is_file_types(file_types))
);
CREATE UNIQUE INDEX file_type_rule_of ON attachments.file_type_rule (coalesce(tenant_id, ''), coalesce(entity_type, ''));
COMMENT ON TABLE attachments.file_type_rule IS
    'Which types of file a tenant may attach to entities of a type: tenant_id NULL is every tenant, entity_type NULL every type.';
COMMENT ON COLUMN attachments.file_type_rule.file_types IS
    'Words that change the usual types, from left to right: +zip, -mov, +unknown, none.';
GRANT SELECT ON attachments.file_type_rule TO keepsake_api;

-- The types that the caller's tenant may attach to entities of a type, or to some type where that is not known; `usual` is what the worker
-- is set to.
CREATE FUNCTION attachments.file_types_of(of_type text, usual text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((
        SELECT r.file_types FROM attachments.file_type_rule r
        WHERE (r.tenant_id IS NULL OR r.tenant_id = attachments.tenant())
          AND (r.entity_type IS NULL OR r.entity_type = of_type)
        ORDER BY r.tenant_id NULLS LAST, r.entity_type NULLS LAST
        LIMIT 1), usual, '');
END
$$;

-- Files of a request whose type is not allowed, as field errors. It names the choice that the worker is set to.
CREATE FUNCTION attachments.refused_types(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN keepsake.check_file_types(
        ARRAY(SELECT e.file ->> 'name' FROM jsonb_array_elements(request -> 'files') WITH ORDINALITY AS e (file, n) ORDER BY e.n),
        attachments.file_types_of(request ->> 'entity_type', request ->> 'file_types'));
END
$$;

CREATE FUNCTION attachments_api.get_limits(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    RETURN attachments.ok(jsonb_build_object(
        'file_types', attachments.file_types_of(request ->> 'entity_type', request ->> 'file_types'),
        'max_versions', attachments.max_versions(attachments.tenant(), request ->> 'entity_type')));
END
$$;

-- Makes the rows of a set, or none. `version_of` and `version` are those of a new version: see 24_versions.sql. The quota refuses by KS002
-- with the answer as its DETAIL: see 09_quota.sql.
CREATE FUNCTION attachments.declare_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text := attachments.tenant();
    who text := attachments.claim('sub');
    of_type text := request ->> 'entity_type';
    of_id text := request ->> 'entity_id';
    entity attachments.found_entity := attachments.lock_entity(of_type, of_id);
    upload uuid := keepsake.uuid_v7();
    expires timestamptz := (request ->> 'expires_at')::timestamptz;
    refused jsonb := attachments.refused_types(request);
    declared jsonb;
    taken jsonb;
    refusal text;
BEGIN
    IF refused <> '[]' THEN
        RETURN attachments.fail('media_type_not_allowed', 'Files of some kinds cannot be uploaded.',
            jsonb_build_object('errors', refused));
    END IF;
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN coalesce(attachments.refuse_change(of_type, of_id),
                        attachments.fail('not_found', format('There is no %s %s to attach files to.', of_type, of_id)));
    END IF;
    INSERT INTO attachments.upload_set (id, tenant_id, entity_type, entity_id, file_count, created_by, expires_at, version_of, one_request)
    VALUES (upload, tenant, of_type, of_id, jsonb_array_length(request -> 'files'), who, expires,
            (request ->> 'version_of')::uuid, request @> '{"one_request": true}');
    -- None of them is uploaded in parts yet.
    WITH made AS (
        INSERT INTO attachments.attachment AS a (
            id, tenant_id, upload_set_id, position, entity_type, entity_id,
            file_name, media_type, byte_size, sha256, object_key, writable_until, uploaded_by, version_of, version)
        SELECT f.id, tenant, upload, f.position - 1, of_type, of_id,
               f.file ->> 'name', f.file ->> 'media_type', (f.file ->> 'size')::bigint, decode(f.file ->> 'sha256', 'hex'),
               keepsake.object_key(tenant, of_type, of_id, f.id, f.file ->> 'name'),
               expires, who, (request ->> 'version_of')::uuid, coalesce((request ->> 'version')::integer, 1)
        FROM (SELECT keepsake.uuid_v7() AS id, file, position
              FROM jsonb_array_elements(request -> 'files') WITH ORDINALITY AS e (file, position)
              OFFSET 0) AS f
        RETURNING a.position, attachments.describe_file(a) || '{"multipart": null}' AS file)
    SELECT coalesce(jsonb_agg(m.file ORDER BY m.position), '[]') INTO declared FROM made m;
    taken := attachments.taken_names(upload);
    IF taken <> '[]' THEN
        -- Undoes what was inserted; handled below.
        RAISE EXCEPTION USING ERRCODE = 'KS001', MESSAGE = 'name taken';
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload, 'expires_at', expires, 'files', declared));
EXCEPTION
    WHEN SQLSTATE 'KS001' THEN
        RETURN attachments.fail('name_taken', 'A file of that name already exists.',
            jsonb_build_object('errors', taken));
    WHEN SQLSTATE 'KS002' THEN
        GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
        RETURN refusal::jsonb;
    WHEN foreign_key_violation THEN
        -- The entity, or the attachment, was deleted between the look and the writing.
        RETURN attachments.fail('not_found', format('There is no %s %s to attach files to.', of_type, of_id));
END
$$;

-- Declares a set; once for each key.
CREATE FUNCTION attachments.declare_once(operation text, claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
    declaration jsonb := request;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    IF request ? 'idempotency_key' THEN
        answer := coalesce(attachments.refuse_key(operation, request), attachments.declared_before(claims, request));
        IF answer IS NOT NULL THEN
            RETURN answer;
        END IF;
    END IF;
    IF operation = 'create_version' THEN
        declaration := attachments.declaration_of_version(request);
        IF declaration ? 'error' THEN
            RETURN declaration;
        END IF;
    END IF;
    answer := attachments.declare_upload(claims, declaration);
    IF request ? 'idempotency_key' AND answer ? 'ok' THEN
        PERFORM attachments.remember_key(operation, request, (answer -> 'ok' ->> 'id')::uuid);
    END IF;
    RETURN answer;
END
$$;

CREATE FUNCTION attachments_api.create_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.declare_once('create_upload', claims, request);
END
$$;

-- NULL when the caller may go on with an upload, and for one that is not there. Who declared it may; anybody else must be allowed to change
-- the entity. The schedule comes as the one who declared it, and has none of their other claims.
CREATE FUNCTION attachments.refuse_upload(upload attachments.upload_set) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF upload.created_by <> attachments.claim('sub') THEN
        RETURN attachments.refuse_change(upload.entity_type, upload.entity_id);
    END IF;
    RETURN NULL;
END
$$;

-- `to_complete` is asked before anything is done in the store.
CREATE FUNCTION attachments_api.get_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF request @> '{"to_complete": true}' THEN
        refusal := attachments.refuse_upload(upload);
    END IF;
    IF refusal IS NOT NULL THEN
        RETURN refusal;
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'id', upload.id, 'state', upload.state, 'expires_at', upload.expires_at,
        'files', coalesce(upload.files, attachments.files_of(upload.id)), 'report', upload.report));
END
$$;

-- Completing -------------------------------------------------------------------------------------

-- Beyond the policies, under which the set was locked before: they would look for its entity twice more.
CREATE FUNCTION attachments.mark_completed(upload uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.upload_set s SET state = 'completed', settled_at = now() WHERE s.id = upload;
END
$$;

REVOKE ALL ON FUNCTION attachments.mark_completed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.mark_completed TO keepsake_api;

-- Makes every file of a set visible, or hands all to the scanner, or changes nothing. Repeating it changes nothing.
CREATE FUNCTION attachments.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    current integer;
    completed integer;
    taken jsonb;
    visible jsonb;
    scanning jsonb;
    refusal jsonb;
BEGIN
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid FOR UPDATE;
    refusal := attachments.refuse_upload(upload);
    IF upload.id IS NULL THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF refusal IS NOT NULL THEN
        RETURN refusal;
    ELSIF upload.state = 'rejected' THEN
        RETURN attachments.fail('upload_rejected', 'The upload was rejected and its files were removed. Declare the files again.');
    ELSIF upload.state = 'expired' THEN
        RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again.');
    ELSIF upload.state = 'aborted' THEN
        RETURN attachments.fail('upload_closed', 'The upload was aborted. Declare the files again.');
    END IF;
    IF upload.state = 'pending' THEN
        -- The worker deletes what is stored more than 30 seconds after the URL's expiry: a set is not completed so
        -- late that it could name such an object.
        IF upload.expires_at < now() - interval '15 seconds' THEN
            RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again.');
        END IF;
        taken := attachments.taken_names(upload.id);
        IF taken <> '[]' THEN
            RETURN attachments.fail('name_taken', 'A file of that name already exists.',
                jsonb_build_object('errors', taken));
        END IF;
        -- The attachment before its new version, as whoever deletes them locks them. Others may have become current since.
        IF upload.version_of IS NOT NULL THEN
            SELECT a.version INTO current FROM attachments.attachment a WHERE a.id = upload.version_of FOR UPDATE;
            IF EXISTS (SELECT FROM attachments.attachment v WHERE v.upload_set_id = upload.id AND v.version <> current + 1) THEN
                RAISE EXCEPTION USING ERRCODE = 'KS005', MESSAGE = 'version conflict';
            END IF;
        END IF;
        -- All are pending. A condition that says so would make a database without statistics read every pending file.
        WITH done AS (
            UPDATE attachments.attachment AS a SET
                state = CASE WHEN version_of IS NULL THEN 'available' ELSE 'former' END, available_at = now(),
                download_only = coalesce(request -> 'download_only' ? id::text, false)
            WHERE upload_set_id = upload.id AND deleted_at IS NULL
            RETURNING a.position, a.state, attachments.describe(a) AS file)
        SELECT count(*), jsonb_agg(d.file ORDER BY d.position) FILTER (WHERE d.state = 'available'),
               jsonb_agg(d.file ORDER BY d.position) FILTER (WHERE d.state = 'scanning')
        INTO completed, visible, scanning
        FROM done d;
        IF completed <> upload.file_count THEN
            -- Undoes what was completed; handled below.
            RAISE EXCEPTION USING ERRCODE = 'KS003', MESSAGE = 'not the whole set';
        END IF;
        IF upload.version_of IS NOT NULL THEN
            PERFORM attachments.make_current(upload);
        END IF;
        PERFORM attachments.mark_completed(upload.id);
    END IF;
    -- Of a set that was complete before, and of a new version, which may have become another by now: as they are.
    IF upload.state <> 'pending' OR upload.version_of IS NOT NULL THEN
        SELECT coalesce(jsonb_agg(attachments.describe(a) ORDER BY a.position) FILTER (WHERE a.state = 'available'), '[]'),
               jsonb_agg(attachments.describe(a) ORDER BY a.position) FILTER (WHERE a.state = 'scanning')
        INTO visible, scanning
        FROM attachments.attachment m JOIN attachments.attachment a ON a.id = CASE m.state WHEN 'former' THEN m.version_of ELSE m.id END
        WHERE m.upload_set_id = upload.id AND a.deleted_at IS NULL AND a.state IN ('available', 'scanning');
    END IF;
    IF scanning IS NOT NULL THEN
        UPDATE attachments.upload_set SET state = 'scanning' WHERE id = upload.id AND state = 'completed';
        RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'scanning', 'attachments', scanning));
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', 'completed', 'attachments', visible));
EXCEPTION
    WHEN SQLSTATE 'KS003' THEN
        RETURN attachments.fail('upload_closed', format('%s was deleted in the meantime. Restore it first, or abort the upload.',
            CASE WHEN upload.version_of IS NULL THEN format('%s %s', upload.entity_type, upload.entity_id) ELSE 'The attachment' END));
    WHEN SQLSTATE 'KS005' THEN
        RETURN coalesce(attachments.refuse_shut(upload.version_of), attachments.fail('version_conflict',
            'Another version has become current since this one was declared. Look at it, then declare yours again.'));
    WHEN unique_violation THEN
        -- Another set with the same name was completed at the same moment.
        RETURN attachments.fail('name_taken', 'A file of that name already exists.',
            jsonb_build_object('errors', attachments.taken_names(upload.id)));
END
$$;

CREATE FUNCTION attachments_api.complete_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    IF request ? 'idempotency_key' THEN
        answer := attachments.refuse_key('complete_upload', request);
        IF answer IS NOT NULL THEN
            RETURN answer;
        END IF;
    END IF;
    answer := attachments.complete_upload(claims, request);
    IF request ? 'idempotency_key' AND answer ? 'ok' THEN
        PERFORM attachments.remember_key('complete_upload', request, (request ->> 'upload_id')::uuid);
    END IF;
    RETURN answer;
END
$$;

-- Closing ----------------------------------------------------------------------------------------

-- Removes a live row for good, its object to the outbox. The row is locked first: when somebody deletes it meanwhile, it is in that deletion
-- with others, which is not to be purged here. False when it stays: a row of the application's refers to it, or a hold covers it.
CREATE FUNCTION attachments.purge_live(attachment uuid, reason text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM attachments.attachment a WHERE a.id = attachment AND a.deleted_at IS NULL FOR UPDATE;
    IF FOUND THEN
        PERFORM keepsake.purge_deletion(keepsake.soft_delete('attachments.attachment', attachment, reason));
    END IF;
    RETURN true;
EXCEPTION WHEN integrity_constraint_violation OR object_not_in_prerequisite_state OR raise_exception THEN
    RETURN false;
END
$$;

-- Removes the row of a file that failed: never visible, so gone at once. Where it stays it is shut for ever by its state, and the
-- sweep retries.
CREATE FUNCTION attachments.remove_rejected(attachment uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.purge_live(attachment, 'upload not completed');
END
$$;

-- Removes the rows of a set that failed. Those that went with their entity stay in its deletion, shut for ever by their state;
-- should it be restored, the sweep removes them.
CREATE FUNCTION attachments.discard(upload uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file record;
BEGIN
    FOR file IN
        UPDATE attachments.attachment SET state = 'rejected'
        WHERE upload_set_id = upload AND state IN ('pending', 'uploaded')
        RETURNING id, deletion_id
    LOOP
        IF file.deletion_id IS NULL THEN
            PERFORM attachments.remove_rejected(file.id);
        END IF;
    END LOOP;
END
$$;

-- Ends a pending set without anything becoming visible. Repeating it changes nothing.
CREATE FUNCTION attachments.close_upload(upload_id uuid, outcome text, report jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    SELECT * INTO upload FROM attachments.upload_set s WHERE s.id = upload_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF upload.state = 'completed' THEN
        RETURN attachments.fail('upload_closed', 'The upload is already complete. Delete its attachments instead.');
    ELSIF upload.state = 'pending' THEN
        UPDATE attachments.upload_set s
        SET state = outcome, settled_at = now(), report = close_upload.report,
            files = (SELECT jsonb_agg(file || '{"state": "rejected"}' ORDER BY n)
                     FROM jsonb_array_elements(attachments.files_of(upload_id)) WITH ORDINALITY AS f (file, n))
        WHERE s.id = upload_id;
        PERFORM attachments.discard(upload_id);
        upload.state := outcome;
    END IF;
    RETURN attachments.ok(jsonb_build_object('id', upload.id, 'state', upload.state));
END
$$;

CREATE FUNCTION attachments_api.reject_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    SELECT s.* INTO upload FROM attachments.upload_set s WHERE s.id = (request ->> 'upload_id')::uuid;
    RETURN coalesce(attachments.refuse_upload(upload),
                    attachments.close_upload((request ->> 'upload_id')::uuid, 'rejected', request -> 'report'));
END
$$;

CREATE FUNCTION attachments_api.abort_upload(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    SELECT s.* INTO upload FROM attachments.upload_set s WHERE s.id = (request ->> 'upload_id')::uuid;
    refusal := attachments.refuse_upload(upload);
    IF refusal IS NOT NULL THEN
        RETURN refusal;
    ELSIF EXISTS (SELECT FROM attachments.upload_set s WHERE s.id = upload.id AND s.state = 'scanning') THEN
        RETURN attachments.fail('upload_closed', 'The upload is already complete, and is being scanned. Delete its attachments after the scan.');
    END IF;
    RETURN attachments.close_upload((request ->> 'upload_id')::uuid, 'aborted', NULL);
END
$$;

-- Ends sets whose time ran out a minute ago, when none can be completed any more: their objects go to the outbox.
CREATE FUNCTION attachments_api.sweep_uploads(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Closing takes time by the file: this many fit in one call, well within the worker's time limit.
    files_left integer := 1000;
    overdue record;
    closed integer := 0;
    stuck bigint;
BEGIN
    FOR overdue IN
        SELECT s.id, s.tenant_id, s.file_count FROM attachments.upload_set s
        WHERE s.state = 'pending' AND s.expires_at < now() - interval '1 minute'
        ORDER BY s.expires_at
        LIMIT (request ->> 'limit')::integer
        FOR UPDATE SKIP LOCKED
    LOOP
        -- One whose tenant is being erased goes with it.
        CONTINUE WHEN NOT pg_try_advisory_xact_lock_shared(attachments.tenant_lock(overdue.tenant_id));
        PERFORM attachments.close_upload(overdue.id, 'expired', NULL);
        closed := closed + 1;
        files_left := files_left - overdue.file_count;
        EXIT WHEN files_left <= 0;
    END LOOP;
    -- Files that failed while their entity was deleted came back with it; others could not be removed yet. In
    -- random order, so that those that still cannot be removed do not block the rest.
    SELECT count(*) FILTER (WHERE CASE
        WHEN pg_try_advisory_xact_lock_shared(attachments.tenant_lock(rejected.tenant_id)) THEN NOT attachments.remove_rejected(rejected.id)
        ELSE false END) INTO stuck
    FROM (SELECT r.id, r.tenant_id FROM attachments.attachment r
          WHERE r.state = 'rejected' AND r.deleted_at IS NULL
          ORDER BY random()
          LIMIT (request ->> 'limit')::integer) AS rejected;
    RETURN attachments.ok(jsonb_build_object('expired', closed, 'failed', stuck));
END
$$;

-- Sets whose client has gone -----------------------------------------------------------------------

-- The open upload that ends next, of those that end soon and are due for a look: who declared it, in whose name the worker then
-- completes it; null when none is due. The next look comes when half of what is left of its time has passed, so that there are
-- few of them and the last is near the end; until then no other run takes it. What one request was to upload is its own to complete:
-- its client was told that nothing came of it, or nothing at all.
CREATE FUNCTION attachments_api.lease_open_upload(request jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT s.id FROM attachments.upload_set s
        WHERE s.state = 'pending' AND NOT s.one_request AND s.expires_at > now()
          AND s.expires_at <= now() + make_interval(secs => (request ->> 'lead_seconds')::double precision)
          AND coalesce(s.next_look_at, '-infinity') <= now()
        ORDER BY s.expires_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE attachments.upload_set s
        SET next_look_at = now() + greatest(
            make_interval(secs => (request ->> 'lease_seconds')::double precision), (s.expires_at - now()) / 2)
        FROM due WHERE s.id = due.id
        RETURNING jsonb_build_object('upload_id', s.id, 'tenant', s.tenant_id, 'subject', s.created_by) AS upload
    )
    SELECT attachments.ok(coalesce((SELECT t.upload FROM taken t), 'null'))
$$;

-- Whose open upload an object belongs to, for a store that reports what was stored. The worker completes it as the one who
-- declared it.
CREATE FUNCTION attachments_api.find_open_upload(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(coalesce((
        SELECT jsonb_build_object('upload_id', s.id, 'tenant', s.tenant_id, 'subject', s.created_by)
        FROM attachments.attachment a JOIN attachments.upload_set s ON s.id = a.upload_set_id
        WHERE a.object_key = request ->> 'object_key' AND a.state = 'pending' AND s.state = 'pending' AND NOT s.one_request), 'null'))
$$;

SELECT attachments.publish(ARRAY['get_limits', 'create_upload', 'get_upload', 'complete_upload', 'reject_upload', 'abort_upload']);
-- The two that run inside of those, as the same role.
ALTER FUNCTION attachments.declare_upload OWNER TO keepsake_api;
ALTER FUNCTION attachments.complete_upload OWNER TO keepsake_api;
REVOKE ALL ON FUNCTION attachments.declare_upload, attachments.complete_upload FROM PUBLIC;

-- The schedule's cross tenants, so they run with the rights of who migrates.
REVOKE ALL ON FUNCTION attachments_api.sweep_uploads, attachments_api.lease_open_upload, attachments_api.find_open_upload FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.sweep_uploads, attachments_api.lease_open_upload, attachments_api.find_open_upload TO keepsake_worker;

-- 08_multipart.sql ---------------------------------------------

-- Files that are uploaded in parts. What belongs together (tenant, upload, key, part size, the store's id for it) stands here and is
-- never taken from a client.

CREATE TABLE attachments.multipart (
    -- Outlives the attachment's row until the store has given up its parts.
    attachment_id   uuid PRIMARY KEY,
    upload_set_id   uuid NOT NULL REFERENCES attachments.upload_set (id),
    tenant_id       text NOT NULL,
    object_key      text NOT NULL,
    storage_id      text NOT NULL CHECK (storage_id <> ''),
    part_size       bigint NOT NULL CHECK (part_size > 0),
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- When the parts of a closed upload are next given up.
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    attempts        integer NOT NULL DEFAULT 0,
    last_error      text
);
CREATE INDEX multipart_of_set ON attachments.multipart (upload_set_id);
COMMENT ON TABLE attachments.multipart IS
    'Multipart uploads that are open in the store. Rows of completed sets are removed; rows of closed sets wait to be aborted.';

-- Parts that the worker took in itself: a bucket's binding cannot list them.
CREATE TABLE attachments.multipart_part (
    attachment_id uuid NOT NULL REFERENCES attachments.multipart ON DELETE CASCADE,
    number        integer NOT NULL CHECK (number BETWEEN 1 AND 10000),
    etag          text NOT NULL,
    byte_size     bigint NOT NULL CHECK (byte_size > 0),
    PRIMARY KEY (attachment_id, number)
);

ALTER TABLE attachments.multipart ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments.multipart_part ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments.multipart
    USING (tenant_id = attachments.tenant()) WITH CHECK (tenant_id = attachments.tenant());
CREATE POLICY own_tenant ON attachments.multipart_part
    USING (EXISTS (SELECT FROM attachments.multipart m WHERE m.attachment_id = multipart_part.attachment_id));
GRANT SELECT, INSERT ON attachments.multipart TO keepsake_api;
GRANT SELECT ON attachments.multipart_part TO keepsake_api;

-- NULL for a file that is not uploaded in parts, or of which no part has been signed yet.
CREATE FUNCTION attachments.multipart_of(attachment uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object('storage_id', m.storage_id, 'part_size', m.part_size, 'parts', (
            SELECT coalesce(jsonb_agg(jsonb_build_object('number', p.number, 'etag', p.etag, 'size', p.byte_size) ORDER BY p.number), '[]')
            FROM attachments.multipart_part p WHERE p.attachment_id = m.attachment_id))
        FROM attachments.multipart m WHERE m.attachment_id = attachment);
END
$$;

-- Uploading, under the caller's claims -------------------------------------------------------------

-- A pending file and what its upload in parts is, before any is signed or listed.
CREATE FUNCTION attachments_api.find_multipart(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    file jsonb;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO upload FROM attachments.upload_set WHERE id = (request ->> 'upload_id')::uuid;
    refusal := attachments.refuse_upload(upload);
    SELECT f INTO file FROM jsonb_array_elements(attachments.files_of(upload.id)) AS f
    WHERE f ->> 'attachment_id' = request ->> 'attachment_id';
    IF upload.id IS NULL THEN
        RETURN attachments.fail('not_found', 'There is no such upload.');
    ELSIF refusal IS NOT NULL THEN
        RETURN refusal;
    ELSIF upload.state = 'expired' OR (upload.state = 'pending' AND upload.expires_at <= now()) THEN
        RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again.');
    ELSIF upload.state <> 'pending' THEN
        RETURN attachments.fail('upload_closed', format('The upload is %s, and accepts no more parts.', upload.state));
    ELSIF file IS NULL THEN
        RETURN attachments.fail('not_found', 'The upload has no such file.');
    END IF;
    RETURN attachments.ok(jsonb_build_object('expires_at', upload.expires_at, 'file', file));
END
$$;

-- Keeps what the store calls an upload in parts. Of two that begin at once the first stays, and both are answered with it.
CREATE FUNCTION attachments_api.begin_multipart(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
    refusal jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    -- Nobody closes the set meanwhile: whoever does looks for parts to give up.
    SELECT s.* INTO upload FROM attachments.upload_set s
    WHERE s.id = (request ->> 'upload_id')::uuid AND s.state = 'pending' FOR UPDATE;
    refusal := attachments.refuse_upload(upload);
    IF upload.id IS NULL THEN
        RETURN attachments.fail('upload_closed', 'The upload accepts no more parts.');
    ELSIF refusal IS NOT NULL THEN
        RETURN refusal;
    END IF;
    INSERT INTO attachments.multipart (attachment_id, upload_set_id, tenant_id, object_key, storage_id, part_size)
    SELECT a.id, a.upload_set_id, a.tenant_id, a.object_key, request ->> 'storage_id', (request ->> 'part_size')::bigint
    FROM attachments.attachment a
    WHERE a.id = (request ->> 'attachment_id')::uuid AND a.upload_set_id = (request ->> 'upload_id')::uuid
    ON CONFLICT (attachment_id) DO NOTHING;
    RETURN attachments.ok(attachments.multipart_of((request ->> 'attachment_id')::uuid));
END
$$;

SELECT attachments.publish(ARRAY['find_multipart', 'begin_multipart']);

-- A part that the worker has taken in by its signed URL, which is the permission. False when the upload is closed.
CREATE FUNCTION attachments_api.record_part(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.multipart_part (attachment_id, number, etag, byte_size)
    SELECT m.attachment_id, (request ->> 'number')::integer, request ->> 'etag', (request ->> 'size')::bigint
    FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
    WHERE m.attachment_id = (request ->> 'attachment_id')::uuid AND m.storage_id = request ->> 'storage_id'
      AND s.state = 'pending'
    ON CONFLICT (attachment_id, number) DO UPDATE SET etag = excluded.etag, byte_size = excluded.byte_size;
    RETURN attachments.ok(jsonb_build_object('recorded', FOUND));
END
$$;

-- A part that the store has no longer: others were sent in its place that were not what was declared. It has to be sent again.
CREATE FUNCTION attachments_api.forget_part(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM attachments.multipart_part p USING attachments.multipart m
    WHERE p.attachment_id = (request ->> 'attachment_id')::uuid AND p.number = (request ->> 'number')::integer
      AND m.attachment_id = p.attachment_id AND m.storage_id = request ->> 'storage_id';
    RETURN attachments.ok('{}');
END
$$;

-- Giving up the parts of closed sets ---------------------------------------------------------------

-- The store has made the parts of a completed set into objects: nothing is left to give up.
CREATE FUNCTION attachments.forget_multiparts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM attachments.multipart m WHERE m.upload_set_id = NEW.id;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION attachments.forget_multiparts FROM PUBLIC;
CREATE TRIGGER forget_multiparts AFTER UPDATE ON attachments.upload_set
    FOR EACH ROW WHEN (NEW.state = 'completed' AND OLD.state <> 'completed')
    EXECUTE FUNCTION attachments.forget_multiparts();

-- Uploads in parts whose set was closed: the store is to give up their parts. Leased, so that two runs share them.
CREATE FUNCTION attachments_api.lease_multiparts(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    leased jsonb;
BEGIN
    WITH due AS (
        SELECT m.attachment_id FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
        WHERE s.state <> 'pending' AND m.next_attempt_at <= now()
        ORDER BY m.next_attempt_at
        LIMIT (request ->> 'limit')::integer
        FOR UPDATE OF m SKIP LOCKED
    ), taken AS (
        UPDATE attachments.multipart m
        SET next_attempt_at = now() + make_interval(secs => (request ->> 'lease_seconds')::double precision)
        FROM due WHERE m.attachment_id = due.attachment_id
        RETURNING m.attachment_id, m.object_key, m.storage_id
    )
    SELECT coalesce(jsonb_agg(to_jsonb(taken)), '[]') INTO leased FROM taken;
    RETURN attachments.ok(jsonb_build_object('multiparts', leased));
END
$$;

-- A part may still arrive by a URL that was signed before: they are given up once more when no URL works any longer.
CREATE FUNCTION attachments_api.settle_multiparts(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sets uuid[] := ARRAY(
        SELECT m.upload_set_id FROM attachments.multipart m
        WHERE m.attachment_id = ANY (ARRAY(SELECT jsonb_array_elements_text(request -> 'given_up')::uuid)));
BEGIN
    WITH given_up AS (
        SELECT m.attachment_id, s.expires_at + attachments.clock_tolerance() + interval '1 minute' AS last_part
        FROM attachments.multipart m JOIN attachments.upload_set s ON s.id = m.upload_set_id
        WHERE m.attachment_id = ANY (ARRAY(SELECT jsonb_array_elements_text(request -> 'given_up')::uuid))
    ), gone AS (
        DELETE FROM attachments.multipart m USING given_up g
        WHERE m.attachment_id = g.attachment_id AND g.last_part < now()
    )
    UPDATE attachments.multipart m SET next_attempt_at = g.last_part, attempts = 0, last_error = NULL
    FROM given_up g WHERE m.attachment_id = g.attachment_id AND g.last_part >= now();
    -- What an erasure left for the sake of its parts goes with the last of them.
    DELETE FROM attachments.upload_set s
    WHERE s.id = ANY (sets) AND s.tenant_id = ''
      AND NOT EXISTS (SELECT FROM attachments.multipart m WHERE m.upload_set_id = s.id);

    UPDATE attachments.multipart m
    SET attempts = m.attempts + 1, last_error = left(f ->> 'error', 500),
        next_attempt_at = now() + least(interval '10 seconds' * (2 ^ least(m.attempts, 20)), interval '1 hour')
    FROM jsonb_array_elements(request -> 'failed') AS f
    WHERE m.attachment_id = (f ->> 'attachment_id')::uuid;
    RETURN attachments.ok('{}');
END
$$;

REVOKE ALL ON FUNCTION
    attachments_api.record_part, attachments_api.forget_part, attachments_api.lease_multiparts, attachments_api.settle_multiparts
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.record_part, attachments_api.forget_part, attachments_api.lease_multiparts, attachments_api.settle_multiparts
TO keepsake_worker;

-- 09_quota.sql ---------------------------------------------

-- Quota: what a tenant and a user may hold, and what they do hold.

-- The row that fits best counts whole: that of the user, of every user of the tenant, of everyone. NULL is no limit. The
-- operator writes this table; nothing else does.
CREATE TABLE attachments.quota (
    scope       text NOT NULL CHECK (scope IN ('tenant', 'user')),
    tenant_id   text,
    subject     text,
    max_bytes   bigint CHECK (max_bytes >= 0),
    max_files   bigint CHECK (max_files >= 0),
    max_pending integer CHECK (max_pending >= 0),
    CONSTRAINT of_whom CHECK (subject IS NULL OR (scope = 'user' AND tenant_id IS NOT NULL)),
    CONSTRAINT pending_of_users CHECK (max_pending IS NULL OR scope = 'user')
);
CREATE UNIQUE INDEX quota_of ON attachments.quota (scope, coalesce(tenant_id, ''), coalesce(subject, ''));
COMMENT ON TABLE attachments.quota IS
    'Largest number of bytes and files of a tenant (scope tenant) or of a user (scope user). tenant_id NULL applies to every tenant, subject NULL to every user.';
COMMENT ON COLUMN attachments.quota.max_pending IS
    'Largest number of files of a user whose upload URLs are still valid, including abandoned ones.';
GRANT SELECT ON attachments.quota TO keepsake_api;
INSERT INTO attachments.quota (scope, max_pending) VALUES ('tenant', NULL), ('user', 1000);

-- What is held: of a tenant as a whole (subject ''), and of each of its users.
CREATE TABLE attachments.usage (
    tenant_id text NOT NULL,
    subject   text NOT NULL,
    bytes     bigint NOT NULL DEFAULT 0,
    files     bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, subject)
);

-- What rows that are gone give back, and when: not before the last URL that could store their bytes has run out. Written
-- without a lock, so that a purge of many tenants waits for none; subtracted by the schedule, by who would be over a quota without, and
-- by who reserves where the schedule has not come to it in time.
CREATE TABLE attachments.usage_release (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    subject   text NOT NULL,
    bytes     bigint NOT NULL,
    files     bigint NOT NULL,
    due_at    timestamptz NOT NULL
);
CREATE INDEX usage_release_due ON attachments.usage_release (tenant_id, due_at);

-- What counts ------------------------------------------------------------------------------------

-- The row of attachments.quota that counts; who '' is the tenant as a whole.
CREATE FUNCTION attachments.quota_of(tenant text, who text) RETURNS attachments.quota
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

-- Subtracts what is due from a tenant's usage. All who change it hold the tenant's own row, so that none deadlock.
CREATE FUNCTION attachments.settle_usage(tenant text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.usage (tenant_id, subject) VALUES (tenant, '') ON CONFLICT DO NOTHING;
    PERFORM FROM attachments.usage u WHERE u.tenant_id = tenant AND u.subject = '' FOR UPDATE;
    WITH due AS (
        DELETE FROM attachments.usage_release r WHERE r.tenant_id = tenant AND r.due_at <= now()
        RETURNING r.subject, r.bytes, r.files
    ), summed AS (
        SELECT coalesce(subject, '') AS subject, sum(bytes) AS bytes, sum(files) AS files
        FROM due GROUP BY GROUPING SETS ((subject), ()) HAVING count(*) > 0
    )
    UPDATE attachments.usage u SET bytes = u.bytes - s.bytes, files = u.files - s.files
    FROM summed s WHERE u.tenant_id = tenant AND u.subject = s.subject;
END
$$;

-- Files of a user whose upload URL is still open.
CREATE FUNCTION attachments.pending_files(tenant text, who text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT (SELECT count(*) FROM attachments.attachment a
                WHERE a.tenant_id = tenant AND a.uploaded_by = who AND a.state IN ('pending', 'uploaded'))
             + (SELECT coalesce(sum(r.files), 0)::bigint FROM attachments.usage_release r
                WHERE r.tenant_id = tenant AND r.subject = who AND r.due_at > now()));
END
$$;

-- Seconds until the first of those URLs has run out, at least 1.
CREATE FUNCTION attachments.next_room(tenant text, who text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT greatest(1, ceil(extract(epoch FROM min(open_until) - now())))::integer
    FROM (SELECT a.writable_until FROM attachments.attachment a
          WHERE a.tenant_id = tenant AND a.uploaded_by = who AND a.state IN ('pending', 'uploaded')
          UNION ALL
          SELECT r.due_at FROM attachments.usage_release r
          WHERE r.tenant_id = tenant AND r.subject = who AND r.due_at > now()) AS open (open_until)
$$;

-- Reserving and giving back ------------------------------------------------------------------------

-- Whether more is held than may be.
CREATE FUNCTION attachments.is_over(held attachments.usage, quota attachments.quota) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(held.bytes > quota.max_bytes, false) OR coalesce(held.files > quota.max_files, false);
END
$$;

-- Refuses by KS002, where what has been given back is not enough: its DETAIL is the answer. The tenant's own row is locked.
CREATE FUNCTION attachments.refuse_over_quota(held attachments.usage, quota attachments.quota, bytes bigint, files bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.settle_usage(held.tenant_id);
    SELECT u.* INTO held FROM attachments.usage u WHERE u.tenant_id = held.tenant_id AND u.subject = held.subject;
    -- What is held has been raised by what is wanted already.
    IF attachments.is_over(held, quota) THEN
        RAISE EXCEPTION USING ERRCODE = 'KS002', MESSAGE = 'quota exceeded',
            DETAIL = attachments.fail('quota_exceeded',
                format('The quota of %s is exceeded. Files count until they are purged, aborted uploads until their URL expires.',
                       CASE WHEN held.subject = '' THEN 'the tenant' ELSE 'the user' END),
                jsonb_build_object('quota', jsonb_build_object(
                    'scope', quota.scope, 'max_bytes', quota.max_bytes, 'max_files', quota.max_files,
                    'used_bytes', held.bytes - bytes, 'used_files', held.files - files,
                    'wanted_bytes', bytes, 'wanted_files', files)));
    END IF;
END
$$;

-- Refuses by KS002: its DETAIL is the answer.
CREATE FUNCTION attachments.refuse_too_many_pending(quota attachments.quota, tenant text, who text, files bigint) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pending bigint;
BEGIN
    -- The new rows are among them.
    pending := attachments.pending_files(tenant, who) - files;
    IF pending + files > quota.max_pending THEN
        RAISE EXCEPTION USING ERRCODE = 'KS002', MESSAGE = 'too many pending',
            DETAIL = attachments.fail('too_many_pending',
                format('%s files have not been uploaded yet; at most %s may be pending. Complete those uploads, or wait until they expire.',
                       pending, quota.max_pending),
                jsonb_build_object('retry_after', attachments.next_room(tenant, who), 'quota', jsonb_build_object(
                    'scope', 'user', 'max_pending', quota.max_pending, 'pending', pending, 'wanted_files', files)));
    END IF;
END
$$;

-- AFTER INSERT: whatever makes an attachment, its bytes are reserved, or it is not made.
CREATE FUNCTION attachments.reserve_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted record;
    held attachments.usage;
    quota attachments.quota;
BEGIN
    FOR wanted IN
        SELECT a.tenant_id, a.uploaded_by, sum(a.byte_size)::bigint AS bytes, count(*) AS files,
               count(*) FILTER (WHERE a.state IN ('pending', 'uploaded')) AS pending
        FROM added a GROUP BY 1, 2 ORDER BY 1, 2
    LOOP
        -- The schedule passes over a tenant whose row is locked whenever it looks: then what is due does not grow for longer than this.
        IF EXISTS (SELECT FROM attachments.usage_release r
                   WHERE r.tenant_id = wanted.tenant_id AND r.due_at <= now() - interval '10 minutes') THEN
            PERFORM attachments.settle_usage(wanted.tenant_id);
        END IF;
        -- The tenant's own row first, as everybody who changes usage.
        FOR held IN
            INSERT INTO attachments.usage AS u (tenant_id, subject, bytes, files)
            VALUES (wanted.tenant_id, '', wanted.bytes, wanted.files),
                   (wanted.tenant_id, wanted.uploaded_by, wanted.bytes, wanted.files)
            ON CONFLICT (tenant_id, subject) DO UPDATE
            SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files
            RETURNING u.*
        LOOP
            quota := attachments.quota_of(held.tenant_id, held.subject);
            IF attachments.is_over(held, quota) THEN
                PERFORM attachments.refuse_over_quota(held, quota, wanted.bytes, wanted.files);
            END IF;
        END LOOP;
        -- The last was the user's.
        IF wanted.pending > 0 AND quota.max_pending IS NOT NULL THEN
            PERFORM attachments.refuse_too_many_pending(quota, wanted.tenant_id, wanted.uploaded_by, wanted.pending);
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

-- AFTER DELETE, which is the purge and nothing else: given back once no URL can store the bytes any more.
CREATE FUNCTION attachments.release_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.usage_release (tenant_id, subject, bytes, files, due_at)
    SELECT g.tenant_id, g.uploaded_by, sum(g.byte_size), count(*), greatest(g.writable_until, now())
    FROM gone g GROUP BY g.tenant_id, g.uploaded_by, 5;
    RETURN NULL;
END
$$;

CREATE TRIGGER reserve_usage AFTER INSERT ON attachments.attachment
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION attachments.reserve_usage();
CREATE TRIGGER release_usage AFTER DELETE ON attachments.attachment
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION attachments.release_usage();

-- Showing ----------------------------------------------------------------------------------------

CREATE FUNCTION attachments.describe_usage(tenant text, who text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'bytes', coalesce(u.bytes, 0) - coalesce(d.bytes, 0), 'files', coalesce(u.files, 0) - coalesce(d.files, 0),
        'max_bytes', (q.quota).max_bytes, 'max_files', (q.quota).max_files)
    FROM (SELECT attachments.quota_of(tenant, who) AS quota) AS q
    LEFT JOIN attachments.usage u ON u.tenant_id = tenant AND u.subject = who
    LEFT JOIN LATERAL (
        SELECT sum(r.bytes) AS bytes, sum(r.files) AS files FROM attachments.usage_release r
        WHERE r.tenant_id = tenant AND (who = '' OR r.subject = who) AND r.due_at <= now()) AS d ON true
$$;

CREATE FUNCTION attachments_api.get_usage(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant text;
    who text;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    tenant := attachments.tenant();
    who := attachments.claim('sub');
    RETURN attachments.ok(jsonb_build_object(
        'tenant', attachments.describe_usage(tenant, ''),
        'user', attachments.describe_usage(tenant, who) || jsonb_build_object(
            'pending', attachments.pending_files(tenant, who),
            'max_pending', (attachments.quota_of(tenant, who)).max_pending)));
END
$$;

SELECT attachments.publish(ARRAY['get_usage']);

REVOKE ALL ON FUNCTION
    attachments.quota_of, attachments.settle_usage, attachments.pending_files, attachments.next_room, attachments.is_over, attachments.refuse_over_quota,
    attachments.refuse_too_many_pending, attachments.reserve_usage, attachments.release_usage, attachments.describe_usage
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.quota_of, attachments.pending_files, attachments.describe_usage TO keepsake_api;

-- 10_idempotency.sql ---------------------------------------------

-- Idempotency keys: requests that are safe to repeat for 24 hours.

-- What a key stood for: the operation with its request, as a hash, and the upload that came of it.
CREATE TABLE attachments.idempotency (
    tenant_id   text NOT NULL,
    subject     text NOT NULL,
    key         text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,
    upload_id   uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subject, key)
);
CREATE INDEX idempotency_age ON attachments.idempotency (created_at);
ALTER TABLE attachments.idempotency ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_keys ON attachments.idempotency
    USING (tenant_id = attachments.tenant() AND subject = attachments.claim('sub'));
GRANT SELECT, INSERT, UPDATE ON attachments.idempotency TO keepsake_api;

-- The moment at which a URL ends is the worker's to choose, as is what it is set to allow and what it found, and no part of what was
-- asked for.
CREATE FUNCTION attachments.fingerprint(operation text, request jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN sha256(convert_to(operation || (request - 'idempotency_key' - 'expires_at' - 'file_types' - 'download_only')::text, 'UTF8'));
END
$$;

-- Why a request with a key is refused; NULL when it is not. Until the transaction ends no other with the same key begins.
CREATE FUNCTION attachments.refuse_key(operation text, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known bytea;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(jsonb_build_array(
            'keepsake idempotency', attachments.tenant(), attachments.claim('sub'), request ->> 'idempotency_key')::text, 0)) THEN
        RETURN attachments.fail('idempotency_in_flight', 'The first request with this Idempotency-Key is still in progress. Retry in a moment.');
    END IF;
    SELECT i.fingerprint INTO known FROM attachments.idempotency i
    WHERE i.tenant_id = attachments.tenant() AND i.subject = attachments.claim('sub')
      AND i.key = request ->> 'idempotency_key' AND i.created_at > now() - interval '24 hours';
    IF known <> attachments.fingerprint(operation, request) THEN
        RETURN attachments.fail('idempotency_mismatch', 'This Idempotency-Key was already used for a different request. Use a new key for a new request.');
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION attachments.remember_key(operation text, request jsonb, upload uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.idempotency AS i (tenant_id, subject, key, fingerprint, upload_id)
    VALUES (attachments.tenant(), attachments.claim('sub'), request ->> 'idempotency_key',
            attachments.fingerprint(operation, request), upload)
    ON CONFLICT (tenant_id, subject, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, upload_id = excluded.upload_id, created_at = excluded.created_at
    WHERE i.created_at <= now() - interval '24 hours' OR i.upload_id <> excluded.upload_id;
END
$$;

-- What came of an earlier request that had all bytes with it, as they come again with this one: what it answered; a set whose time
-- suffices, to go on with; or NULL when nothing came of it, to begin anew.
CREATE FUNCTION attachments.uploaded_before(claims jsonb, upload attachments.upload_set) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer jsonb;
BEGIN
    IF upload.state IN ('aborted', 'expired')
        OR (upload.state = 'pending' AND upload.expires_at <= now() + interval '30 seconds') THEN
        RETURN NULL;
    ELSIF upload.state = 'pending' THEN
        RETURN attachments.ok(jsonb_build_object(
            'id', upload.id, 'expires_at', upload.expires_at, 'files', attachments.files_of(upload.id)));
    END IF;
    answer := attachments.complete_upload(claims, jsonb_build_object('upload_id', upload.id));
    IF answer ? 'ok' THEN
        RETURN attachments.ok(jsonb_build_object(
            'id', upload.id, 'expires_at', upload.expires_at, 'files', '[]'::jsonb, 'completed', answer -> 'ok'));
    END IF;
    RETURN answer;
END
$$;

-- The upload that a key made, as it was answered then. NULL when the key is new.
CREATE FUNCTION attachments.declared_before(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload attachments.upload_set;
BEGIN
    SELECT s.* INTO upload
    FROM attachments.idempotency i JOIN attachments.upload_set s ON s.id = i.upload_id
    WHERE i.tenant_id = attachments.tenant() AND i.subject = attachments.claim('sub')
      AND i.key = request ->> 'idempotency_key' AND i.created_at > now() - interval '24 hours';
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF upload.one_request THEN
        RETURN attachments.uploaded_before(claims, upload);
    ELSIF upload.expires_at <= now() OR upload.state = 'expired' THEN
        RETURN attachments.fail('upload_expired', 'The upload has expired. Declare the files again, with a new Idempotency-Key.');
    ELSIF upload.state <> 'pending' THEN
        RETURN attachments.fail('upload_closed', format('This Idempotency-Key created the upload %s, which accepts no more files.', upload.id));
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'id', upload.id, 'expires_at', upload.expires_at, 'files', attachments.files_of(upload.id)));
END
$$;

-- Removes keys after 24 hours and events after 30 days, and settles usage that was given back: the schedule's. A tenant whose usage
-- somebody has locked waits for the next run: otherwise everybody else's would be locked as long. Who has waited longest comes first.
CREATE FUNCTION attachments_api.tidy(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    forgotten bigint;
    due record;
    settled bigint := 0;
    dropped bigint;
BEGIN
    WITH gone AS (
        DELETE FROM attachments.idempotency WHERE ctid = ANY (ARRAY(
            SELECT i.ctid FROM attachments.idempotency i
            WHERE i.created_at <= now() - interval '24 hours' ORDER BY i.created_at LIMIT size FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*) INTO forgotten FROM gone;
    FOR due IN
        SELECT oldest.tenant_id FROM (
            SELECT r.tenant_id FROM attachments.usage_release r WHERE r.due_at <= now()
            GROUP BY r.tenant_id ORDER BY min(r.due_at), r.tenant_id LIMIT size) AS oldest
        ORDER BY oldest.tenant_id
    LOOP
        PERFORM FROM attachments.usage u WHERE u.tenant_id = due.tenant_id AND u.subject = '' FOR UPDATE SKIP LOCKED;
        IF FOUND OR NOT EXISTS (SELECT FROM attachments.usage u WHERE u.tenant_id = due.tenant_id AND u.subject = '') THEN
            PERFORM attachments.settle_usage(due.tenant_id);
            settled := settled + 1;
        END IF;
    END LOOP;
    dropped := attachments.forget_events(size);
    RETURN attachments.ok(jsonb_build_object('forgotten', forgotten, 'settled', settled, 'events_removed', dropped));
END
$$;

REVOKE ALL ON FUNCTION attachments_api.tidy FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.tidy TO keepsake_worker;

-- 11_scans.sql ---------------------------------------------

-- The scan gate: where scanning is required, a file is shut until a scanner has called it clean. The states: 06_attachments.sql.

-- Whose files are scanned: the row of the tenant, else that of everyone (NULL).
CREATE TABLE attachments.scan_policy (
    tenant_id text,
    required  boolean NOT NULL
);
CREATE UNIQUE INDEX scan_policy_of ON attachments.scan_policy (coalesce(tenant_id, ''));
COMMENT ON TABLE attachments.scan_policy IS
    'Whether files of a tenant stay locked until a scanner reports them clean. tenant_id NULL applies to all other tenants.';
INSERT INTO attachments.scan_policy VALUES (NULL, false);

-- Messages that were taken, by their MAC, for as long as their time would be: the same again does nothing.
CREATE TABLE attachments.scan_message (
    mac      text PRIMARY KEY,
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX scan_message_age ON attachments.scan_message (taken_at);

-- What waits for a scanner, for a role of the operator's choice. Rows with a verdict were looked at, and are still shut.
CREATE VIEW attachments.scan_queue AS
    SELECT a.object_key, a.media_type, a.byte_size, encode(a.sha256, 'hex') AS sha256, a.created_at, a.scan_verdict, a.scanned_at
    FROM attachments.attachment a WHERE a.state = 'scanning' AND a.scan_verdict IS DISTINCT FROM 'clean'
    ORDER BY a.created_at;
COMMENT ON VIEW attachments.scan_queue IS 'Objects that no scanner has reported clean yet, oldest first.';

-- BEFORE UPDATE, after check_state_change (triggers fire by name): whatever makes a file available, it stops here first.
CREATE FUNCTION attachments.stop_for_scan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT p.required FROM attachments.scan_policy p
        WHERE p.tenant_id IS NULL OR p.tenant_id = NEW.tenant_id
        ORDER BY p.tenant_id NULLS LAST LIMIT 1) THEN
        NEW.state := 'scanning';
        NEW.available_at := NULL;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER stop_for_scan BEFORE UPDATE ON attachments.attachment
    FOR EACH ROW WHEN (OLD.state IN ('pending', 'uploaded') AND NEW.state IN ('available', 'former'))
    EXECUTE FUNCTION attachments.stop_for_scan();

-- Verdicts ---------------------------------------------------------------------------------------

-- All clean: the set becomes visible, whole. False when a name was taken meanwhile, or another version became current.
CREATE FUNCTION attachments.open_scanned(upload uuid) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.attachment SET state = CASE WHEN version_of IS NULL THEN 'available' ELSE 'former' END, available_at = now()
    WHERE upload_set_id = upload AND state = 'scanning';
    UPDATE attachments.upload_set SET state = 'completed' WHERE id = upload;
    PERFORM attachments.make_current(s) FROM attachments.upload_set s WHERE s.id = upload AND s.version_of IS NOT NULL;
    RETURN true;
EXCEPTION WHEN unique_violation OR SQLSTATE 'KS005' THEN
    RETURN false;
END
$$;

-- A set that can never become visible: what is left of it goes, as of any set that was rejected.
CREATE FUNCTION attachments.reject_scanned(upload uuid, why jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file record;
BEGIN
    UPDATE attachments.upload_set s
    SET state = 'rejected', report = why, files = (
        SELECT jsonb_agg(f || CASE WHEN f ->> 'state' = 'quarantined' THEN '{}'::jsonb ELSE '{"state": "rejected"}' END ORDER BY n)
        FROM jsonb_array_elements(attachments.files_of(upload)) WITH ORDINALITY AS l (f, n))
    WHERE s.id = upload;
    FOR file IN
        UPDATE attachments.attachment SET state = 'rejected' WHERE upload_set_id = upload AND state = 'scanning'
        RETURNING id, deletion_id
    LOOP
        IF file.deletion_id IS NULL THEN
            PERFORM attachments.remove_rejected(file.id);
        END IF;
    END LOOP;
END
$$;

-- Why the files of a set that were found clean cannot become visible, as the report of a rejected set.
CREATE FUNCTION attachments.scan_conflicts(upload uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_agg(jsonb_build_object('attachment_id', a.id, 'problems', jsonb_build_array(CASE WHEN found.is_taken
            THEN '{"code": "name_taken", "detail": "a file of that name came while this one was scanned"}'::jsonb
            ELSE '{"code": "version_conflict", "detail": "the attachment was replaced or deleted while this version was scanned"}' END)))
        FROM attachments.attachment a, LATERAL (SELECT EXISTS (
            SELECT FROM attachments.attachment other
            WHERE other.tenant_id = a.tenant_id AND other.entity_type = a.entity_type AND other.entity_id = a.entity_id
              AND keepsake.filename_comparison_key(other.file_name) = keepsake.filename_comparison_key(a.file_name)
              AND other.deleted_at IS NULL AND other.state = 'available' AND other.id IS DISTINCT FROM a.version_of)) AS found (is_taken)
        WHERE a.upload_set_id = upload AND a.state = 'scanning' AND (found.is_taken OR a.version_of IS NOT NULL));
END
$$;

-- Takes a verdict. Only `clean` opens; `infected` shuts for ever, also what was open; anything else leaves the file shut, until
-- another verdict comes. Nothing opens what is in quarantine. An infected new version is rejected; the attachment stays as it was. A former one
-- keeps the verdict, which shuts it.
CREATE FUNCTION attachments.take_verdict(object text, verdict text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upload uuid;
    tenant text;
    current_row uuid;
    file attachments.attachment;
BEGIN
    -- The set first, as everybody locks it first: verdicts on its files are taken one after another.
    SELECT a.upload_set_id, a.tenant_id, coalesce(a.version_of, a.id) INTO upload, tenant, current_row FROM attachments.attachment a WHERE a.object_key = object;
    PERFORM attachments.enter_tenant(tenant);
    PERFORM FROM attachments.upload_set s WHERE s.id = upload FOR UPDATE;
    -- The attachment before its new version, as whoever deletes them locks them; and so that this object is in the same row until the end: a
    -- version that becomes current exchanges it.
    PERFORM FROM attachments.attachment a WHERE a.id = current_row FOR UPDATE;
    UPDATE attachments.attachment a SET scan_verdict = verdict, scanned_at = now()
    WHERE a.object_key = object AND (a.state IN ('scanning', 'available') OR a.state = 'former' AND a.scan_verdict IS DISTINCT FROM 'infected')
    RETURNING a.* INTO file;
    IF verdict = 'infected' AND file.state IN ('scanning', 'available') THEN
        UPDATE attachments.attachment a SET state = 'quarantined' WHERE a.id = file.id AND a.version_of IS NULL;
        IF file.state = 'scanning' THEN
            PERFORM attachments.reject_scanned(upload, jsonb_build_array(jsonb_build_object(
                'attachment_id', file.id, 'problems', jsonb_build_array(jsonb_build_object(
                    'code', 'file_quarantined', 'detail', 'the scanner found malware in the file')))));
        END IF;
    ELSIF verdict = 'clean' AND file.state = 'scanning' AND NOT EXISTS (
        SELECT FROM attachments.attachment a
        WHERE a.upload_set_id = upload AND a.state = 'scanning' AND a.scan_verdict IS DISTINCT FROM 'clean') THEN
        IF NOT attachments.open_scanned(upload) THEN
            PERFORM attachments.reject_scanned(upload, attachments.scan_conflicts(upload));
        END IF;
    END IF;
END
$$;

CREATE FUNCTION attachments_api.record_scan(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    is_new boolean;
BEGIN
    DELETE FROM attachments.scan_message m WHERE m.taken_at < now() - interval '1 hour';
    IF NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.object_key = request ->> 'object_key') THEN
        RETURN attachments.fail('not_found', 'There is no attachment with this object.');
    END IF;
    INSERT INTO attachments.scan_message (mac) VALUES (request ->> 'mac') ON CONFLICT DO NOTHING RETURNING true INTO is_new;
    IF is_new THEN
        PERFORM attachments.take_verdict(request ->> 'object_key', request ->> 'verdict');
    END IF;
    RETURN attachments.ok('{}');
END
$$;

REVOKE ALL ON FUNCTION
    attachments.stop_for_scan, attachments.open_scanned, attachments.reject_scanned, attachments.scan_conflicts, attachments.take_verdict
FROM PUBLIC;
REVOKE ALL ON FUNCTION attachments_api.record_scan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.record_scan TO keepsake_worker;

-- 12_listing.sql ---------------------------------------------

-- Listing and searching attachments.

-- The smallest id that can have been made at a time. Ids are made a moment after `now()`, never before.
CREATE FUNCTION attachments.first_id_at(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT rpad(lpad(to_hex(greatest(0, extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- What a listing asks of its rows: constants, and `$1`, the request. Only what is asked for stands there, so that each listing gets the
-- plan and the index that suit it.
CREATE FUNCTION attachments.listing_conditions(request jsonb) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY[
        'a.tenant_id = attachments.tenant()',
        CASE request ->> 'state'
            WHEN 'deleted' THEN 'a.state = ''available'' AND a.deleted_at IS NOT NULL'
            WHEN 'scanning' THEN 'a.state = ''scanning'' AND a.deleted_at IS NULL AND a.version_of IS NULL'
            WHEN 'quarantined' THEN 'a.state = ''quarantined'' AND a.deleted_at IS NULL'
            WHEN 'live' THEN 'a.state IN (''available'', ''scanning'', ''quarantined'') AND a.deleted_at IS NULL AND a.version_of IS NULL'
            ELSE 'a.state = ''available'' AND a.deleted_at IS NULL' END]
    || ARRAY(
        SELECT condition FROM (VALUES
            ('cursor', 'a.id < ($1 ->> ''cursor'')::uuid'),
            ('entity_type', 'a.entity_type = $1 ->> ''entity_type'' AND a.entity_id = $1 ->> ''entity_id'''),
            ('uploader', 'a.uploaded_by = $1 ->> ''uploader'''),
            ('media_type', 'a.media_type = $1 ->> ''media_type'''),
            ('created_after', 'a.created_at >= ($1 ->> ''created_after'')::timestamptz
                AND a.id >= attachments.first_id_at(($1 ->> ''created_after'')::timestamptz - interval ''1 hour'')'),
            ('created_before', 'a.created_at < ($1 ->> ''created_before'')::timestamptz
                AND a.id < attachments.first_id_at(($1 ->> ''created_before'')::timestamptz + interval ''1 hour'')')
        ) AS asked (name, condition) WHERE request ->> name IS NOT NULL)
$$;

-- The newest attachments of the tenant whose names have the words of `q`, of those that the listing asks for: at most 1000, in that
-- order. Whether the caller may see them is not asked here. Under row-level security no index over words could be used, as its
-- operators are not leakproof; hence with the rights of who migrates, and the tenant asked for.
CREATE FUNCTION attachments.find_named(request jsonb) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text[] := ARRAY(SELECT attachments.word_condition(attachments.tenant(), word)
                          FROM unnest(keepsake.search_words(request ->> 'q')) AS word);
    found uuid[];
BEGIN
    -- What holds no word at all finds nothing.
    IF words <> '{}' THEN
        EXECUTE format('SELECT ARRAY(SELECT a.id FROM attachments.attachment a WHERE %s ORDER BY a.id DESC LIMIT 1000)',
                       array_to_string(attachments.listing_conditions(request) || words, ' AND '))
        INTO found USING request;
    END IF;
    RETURN coalesce(found, '{}');
END
$$;

REVOKE ALL ON FUNCTION attachments.find_named FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.find_named TO keepsake_api;

-- The URL that the application kept itself, as an item of a listing, or NULL. Only what a browser may safely follow is a URL here.
CREATE FUNCTION attachments.legacy_item(entity_type text, entity_key jsonb, entity_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    url text;
BEGIN
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type AND e.legacy_url_column IS NOT NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT t.%I::text FROM %s AS t WHERE t.%I = $1::%s',
                   known.legacy_url_column, known.relation, known.key_column, known.key_type)
    INTO url USING entity_key ->> known.key_column::text;
    IF url IS NULL OR url !~* '^https?://[^[:space:][:cntrl:]]+$' THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object(
        'id', NULL, 'legacy', true, 'entity_type', entity_type, 'entity_id', entity_id, 'state', 'available',
        'name', coalesce(substring(url FROM '^[^?#]*/([^/?#]+)(?:[?#]|$)'), url), 'content_url', url);
EXCEPTION WHEN undefined_column THEN
    -- The application dropped the column without saying so here: its listings go on.
    RETURN NULL;
END
$$;

-- When a deletion expires. Of deletions that the caller sees already.
CREATE FUNCTION attachments.expiry_of(deletion uuid) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT d.expires_at FROM keepsake.deletion d WHERE d.id = deletion);
END
$$;

REVOKE ALL ON FUNCTION attachments.expiry_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.expiry_of TO keepsake_api;

-- NULL for a moment that never comes.
CREATE FUNCTION attachments.days_until(moment timestamptz) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN isfinite(moment) THEN greatest(0, ceil(extract(epoch FROM moment - now()) / 86400))::integer END;
END
$$;

-- How long what a deletion removed can be restored.
CREATE FUNCTION attachments.describe_expiry(deletion uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    expiry timestamptz := attachments.expiry_of(deletion);
BEGIN
    RETURN CASE WHEN isfinite(expiry)
           THEN jsonb_build_object('purge_after', expiry, 'days_left', attachments.days_until(expiry)) ELSE '{}' END;
END
$$;

-- An attachment, and of a deleted one how long it can be restored. Inlined, as describe() is.
CREATE FUNCTION attachments.describe_listed(a attachments.attachment) RETURNS jsonb
LANGUAGE sql STABLE
RETURN attachments.describe(a) || CASE WHEN a.deletion_id IS NULL THEN '{}'::jsonb ELSE attachments.describe_expiry(a.deletion_id) END;

CREATE FUNCTION attachments_api.list_attachments(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := coalesce((request ->> 'limit')::integer, 50);
    entity attachments.found_entity;
    conditions text[] := attachments.listing_conditions(request);
    named uuid[];
    items jsonb;
    next_cursor jsonb;
    legacy jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    IF request ->> 'entity_type' IS NOT NULL THEN
        entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
        -- Of an entity that is deleted itself the bin can still be seen.
        IF entity.is_there IS NOT TRUE OR (entity.deletion_id IS NOT NULL AND request ->> 'state' IS DISTINCT FROM 'deleted') THEN
            RETURN attachments.fail('not_found', format('There is no %s %s.', request ->> 'entity_type', request ->> 'entity_id'));
        END IF;
    END IF;
    IF request ->> 'q' IS NOT NULL THEN
        named := attachments.find_named(request);
        conditions := conditions || 'a.id = ANY ($2)'::text;
    END IF;
    IF request ->> 'entity_type' IS NULL THEN
        -- The policies of the entity's table, for what is left.
        conditions := conditions || '(attachments.find_entity(a.entity_type, a.entity_id)).is_there'::text;
    END IF;
    -- Newest first: ids are made in the order of time. One more than asked says whether there are more.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(attachments.describe_listed(page) ORDER BY page.id DESC), ''[]'')
         FROM (SELECT a.* FROM attachments.attachment a WHERE %s ORDER BY a.id DESC LIMIT %s) AS page',
        array_to_string(conditions, ' AND '), size + 1)
    INTO items USING request, named;
    IF jsonb_array_length(items) > size THEN
        items := items - size;
        next_cursor := items -> (size - 1) -> 'id';
    ELSIF cardinality(named) = 1000 THEN
        -- The caller may not see some of them; there may be more after these.
        next_cursor := to_jsonb(named[1000]);
    ELSIF request ->> 'entity_type' IS NOT NULL AND NOT request ?| ARRAY['q', 'uploader', 'media_type', 'created_after', 'created_before']
          AND coalesce(request ->> 'state', 'available') IN ('available', 'live') THEN
        -- Older than all of them, so after the last.
        legacy := attachments.legacy_item(request ->> 'entity_type', entity.key, request ->> 'entity_id');
        items := items || CASE WHEN legacy IS NULL THEN '[]'::jsonb ELSE jsonb_build_array(legacy) END;
    END IF;
    RETURN attachments.ok(jsonb_build_object('items', items, 'next_cursor', next_cursor));
END
$$;

SELECT attachments.publish(ARRAY['list_attachments']);

-- 13_items.sql ---------------------------------------------

-- What entities and attachments are called. An item is {"kind", "entity_type", "id", "label"}; the kind of an entity is `entity`. All of it is
-- read with the rights of the API, under the application's own policies.

-- The entity type of a table; a row of NULLs when it is none.
CREATE FUNCTION attachments.entity_of(table_name text) RETURNS attachments.entity_type
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e FROM attachments.entity_type e WHERE e.relation::text = table_name
$$;

-- The label of row `t` as SQL: what fits in a line, however long the column's text is. The application may have dropped the column
-- without saying so here.
CREATE FUNCTION attachments.label_sql(entity attachments.entity_type) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((
        SELECT format('left(t.%I::text, 255)', a.attname) FROM pg_attribute a
        WHERE a.attrelid = entity.relation AND a.attname = entity.label_column AND NOT a.attisdropped), 'NULL::text')
$$;

-- The references of an entity type to others that are registered, as the column of row `t` and the type; by the constraint's name,
-- where there are several.
CREATE FUNCTION attachments.parent_kinds(entity attachments.entity_type)
RETURNS TABLE (child_column name, parent_type text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.attname, p.name
    FROM pg_constraint c
    JOIN attachments.entity_type p ON p.relation = c.confrelid
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    JOIN pg_attribute k ON k.attrelid = c.confrelid AND k.attnum = c.confkey[1]
    WHERE c.contype = 'f' AND c.conrelid = entity.relation AND cardinality(c.conkey) = 1 AND k.attname = p.key_column
    ORDER BY c.conname
$$;

CREATE FUNCTION attachments.thing_item(entity_type text, entity_id text, label text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('kind', 'entity', 'entity_type', entity_type, 'id', entity_id, 'label', label)
$$;

-- An entity, live or deleted; NULL when it is not there, or the caller may not see it.
CREATE FUNCTION attachments.show_thing(entity_type text, entity_id text) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity := attachments.find_entity(entity_type, entity_id);
    label text;
BEGIN
    IF NOT entity.is_there THEN
        RETURN NULL;
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = entity_type;
    IF entity.deletion_id IS NOT NULL THEN
        RETURN attachments.show_deleted_thing(known, entity_id, entity.deletion_id);
    END IF;
    EXECUTE format('SELECT %s FROM %s AS t WHERE t.%I = $1::%s',
                   attachments.label_sql(known), known.relation, known.key_column, known.key_type)
    INTO label USING entity_id;
    RETURN attachments.thing_item(entity_type, entity_id, label);
END
$$;

-- An entity as a deletion has it; NULL when that does not, or the caller may not see it.
CREATE FUNCTION attachments.show_deleted_thing(known attachments.entity_type, entity_id text, deletion uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_row record;
BEGIN
    EXECUTE format('SELECT true AS is_there, %s AS label FROM %s WHERE %s LIMIT 1',
                   attachments.label_sql(known), attachments.deleted_sql(known, '$2', '$1'), attachments.is_entity_sql(known))
    INTO found_row USING entity_id, deletion;
    RETURN CASE WHEN found_row.is_there THEN attachments.thing_item(known.name, entity_id, found_row.label) END;
END
$$;

-- An attachment, live or deleted; NULL when it is not there, or the caller may not see it.
CREATE FUNCTION attachments.show_file(attachment uuid) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('kind', 'attachment', 'entity_type', a.entity_type, 'entity_id', a.entity_id,
                              'id', a.id, 'label', a.file_name)
    FROM attachments.find_deletable(attachment) AS a WHERE a.id IS NOT NULL
$$;

-- The entity or attachment that a row is.
CREATE FUNCTION attachments.show_row(table_name text, row_key jsonb) RETURNS jsonb
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN table_name = 'attachments.attachment' THEN attachments.show_file((row_key ->> 'id')::uuid)
           ELSE attachments.show_thing((e).name, row_key ->> (e).key_column::text) END
    FROM attachments.entity_of(table_name) AS e
$$;

-- How an answer names the entity of a request.
CREATE FUNCTION attachments.show_entity(request jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('%s %s', request ->> 'entity_type', request ->> 'entity_id');
END
$$;

-- An item in a sentence; NULL for one that the caller may not see.
CREATE FUNCTION attachments.in_words(item jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN item ->> 'kind' = 'attachment' THEN format('the file “%s”', item ->> 'label')
           WHEN item ->> 'label' IS NULL THEN format('the %s %s', item ->> 'entity_type', item ->> 'id')
           ELSE format('the %s “%s” (%s)', item ->> 'entity_type', item ->> 'label', item ->> 'id') END
$$;

-- Listing and renaming entities --------------------------------------------------------------------

-- An entity as a listing shows it: with what it belongs to and the number and bytes of its attachments.
CREATE FUNCTION attachments.describe_thing(entity_type text, entity_id text, label text, parent_type text, parent_id text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'entity_type', describe_thing.entity_type, 'id', describe_thing.entity_id, 'label', label,
        'parent', attachments.show_thing(parent_type, parent_id),
        'attachments', (
            SELECT jsonb_build_object('count', count(*), 'bytes', coalesce(sum(a.byte_size), 0))
            FROM attachments.attachment a
            WHERE a.tenant_id = attachments.tenant() AND a.entity_type = describe_thing.entity_type
              AND a.entity_id = describe_thing.entity_id AND a.state = 'available' AND a.deleted_at IS NULL))
$$;

-- The live entities that a condition on row `t` leaves and whose ids a path can name, as SQL: number, id, label and the id of what they
-- belong to. `$1` is the tenant.
CREATE FUNCTION attachments.entities_sql(entity attachments.entity_type, condition text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('SELECT row_number() OVER (ORDER BY t.%1$I DESC) AS n, t.%1$I::text AS id, %2$s AS label, %3$s AS parent_id
                   FROM %4$s AS t WHERE %8$s t.%5$I = $1::%6$s AND t.%5$I::text = $1
                     AND t.%1$I::text ~ ''^[A-Za-z0-9_-]{1,64}$'' AND %7$s',
                  entity.key_column, attachments.label_sql(entity),
                  coalesce((SELECT format('t.%I::text', p.child_column) FROM attachments.parent_kinds(entity) AS p LIMIT 1), 'NULL::text'),
                  entity.relation, entity.tenant_column,
                  -- With its length: a char(n) without one has one character.
                  (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = entity.relation AND a.attname = entity.tenant_column),
                  condition, CASE WHEN NOT attachments.kept_apart(entity.relation) THEN 't.deleted_at IS NULL AND' END)
$$;

CREATE FUNCTION attachments_api.list_entities(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    size integer := (request ->> 'limit')::integer;
    -- Entities that are looked at for one page: no index finds a part of a label.
    at_most integer := CASE WHEN request ? 'q' THEN 2000 ELSE size + 1 END;
    parent_type text;
    page text[];
    looked_at bigint;
    last text;
    items jsonb;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    IF NOT FOUND THEN
        RETURN attachments.fail('not_found', format('There is no entity type %s.', request ->> 'entity_type'));
    END IF;
    parent_type := (SELECT p.parent_type FROM attachments.parent_kinds(known) AS p LIMIT 1);
    EXECUTE format(
        'SELECT array_agg(ARRAY[id, label, parent_id] ORDER BY n) FILTER (WHERE $2 IS NULL OR position(lower(normalize($2, NFKC)) IN lower(normalize(label, NFKC))) > 0),
                count(*), (array_agg(id ORDER BY n DESC))[1]
         FROM (%s ORDER BY t.%I DESC LIMIT %s) AS entities',
        attachments.entities_sql(known, CASE WHEN request ->> 'cursor' IS NULL THEN 'true'
            ELSE format('t.%I < %L::%s', known.key_column, request ->> 'cursor', known.key_type) END),
        known.key_column, at_most)
    INTO page, looked_at, last USING attachments.tenant(), request ->> 'q';
    SELECT coalesce(jsonb_agg(attachments.describe_thing(known.name, page[n][1], page[n][2], parent_type, page[n][3]) ORDER BY n), '[]')
    INTO items
    FROM generate_series(1, least(coalesce(array_length(page, 1), 0), size)) AS n;
    RETURN attachments.ok(jsonb_build_object(
        'items', items,
        'next_cursor', CASE WHEN array_length(page, 1) > size THEN page[size][1] WHEN looked_at = at_most THEN last END));
EXCEPTION WHEN data_exception THEN
    -- A tenant that the column's type cannot hold has no entities.
    RETURN attachments.ok('{"items": [], "next_cursor": null}');
END
$$;

CREATE FUNCTION attachments_api.get_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
    found_row record;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
    IF entity.is_there IS NOT TRUE OR entity.deletion_id IS NOT NULL THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    EXECUTE attachments.entities_sql(known, format('t.%I = $2::%s', known.key_column, known.key_type))
    INTO found_row USING attachments.tenant(), request ->> 'entity_id';
    -- It was deleted since it was found.
    IF found_row.id IS NULL THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    RETURN attachments.ok(attachments.describe_thing(
        known.name, found_row.id, found_row.label, (SELECT p.parent_type FROM attachments.parent_kinds(known) AS p LIMIT 1), found_row.parent_id));
END
$$;

-- Changes the label, by the policies of the entity's table.
CREATE FUNCTION attachments_api.rename_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    entity attachments.found_entity;
    changed bigint;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    PERFORM attachments.enter_tenant(attachments.tenant());
    entity := attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id');
    IF NOT entity.is_there THEN
        RETURN attachments.fail('not_found', format('There is no %s.', attachments.show_entity(request)));
    END IF;
    SELECT * INTO known FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type';
    IF attachments.label_sql(known) = 'NULL::text' THEN
        RETURN attachments.fail('invalid_field', format('Entities of type %s have no label that can be changed.', known.name));
    END IF;
    IF entity.deletion_id IS NOT NULL AND attachments.kept_apart(known.relation) THEN
        PERFORM keepsake.change_deleted(known.relation, entity.key, known.label_column, request ->> 'label');
        RETURN attachments.ok(attachments.show_thing(known.name, request ->> 'entity_id'));
    END IF;
    -- A literal, which is assigned to a column of any type. A cast would cut what is too long for the column (22001).
    EXECUTE format('UPDATE %s AS t SET %I = %L WHERE t.%I = $1::%s AND t.%I::text = attachments.tenant()',
                   known.relation, known.label_column, request ->> 'label', known.key_column, known.key_type, known.tenant_column)
    USING request ->> 'entity_id';
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed = 0 THEN
        RETURN attachments.fail('not_found', format('There is no %s that you may rename.', attachments.show_entity(request)));
    END IF;
    RETURN attachments.ok(attachments.show_thing(known.name, request ->> 'entity_id'));
EXCEPTION
    WHEN insufficient_privilege OR no_data_found THEN
        RETURN attachments.fail('not_found', format('There is no %s that you may rename.', attachments.show_entity(request)));
    WHEN unique_violation OR exclusion_violation THEN
        RETURN attachments.fail('name_taken', format(
            'Another %s is called “%s” already. Choose another name, or rename that one first.', known.name, request ->> 'label'));
    WHEN integrity_constraint_violation OR data_exception OR raise_exception OR generated_always OR object_not_in_prerequisite_state THEN
        RETURN attachments.fail('invalid_field', format('The application does not allow this label for a %s. Choose another.', known.name));
END
$$;

SELECT attachments.publish(ARRAY['list_entities', 'get_entity', 'rename_entity']);

-- 14_conflicts.sql ---------------------------------------------

-- Conflicts of a restore, explained for a person.

-- The table of a conflict's holder: that of the row itself, or of its deleted parent.
CREATE FUNCTION attachments.holder_table(conflict jsonb, item jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN conflict ? 'holder_table' THEN conflict ->> 'holder_table'
           WHEN conflict ->> 'kind' <> 'parent_deleted' THEN conflict ->> 'table'
           WHEN item ->> 'kind' = 'attachment' THEN (
               SELECT e.relation::text FROM attachments.entity_type e WHERE e.name = item ->> 'entity_type')
           ELSE (SELECT min(c.confrelid::regclass::text) FROM pg_constraint c
                 WHERE c.contype = 'f' AND c.conrelid::regclass::text = conflict ->> 'table' AND c.conname = conflict ->> 'constraint') END
$$;

CREATE FUNCTION attachments.conflict_in_words(conflict jsonb, item jsonb, holder jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT upper(left(said, 1)) || substr(said, 2)
    FROM (SELECT format(CASE conflict ->> 'kind'
            WHEN 'parent_deleted' THEN '%s cannot come back, because %s is deleted. Restore that first.'
            WHEN 'parent_missing' THEN '%s cannot come back, because what it belongs to is gone for good. Skip it.'
            WHEN 'not_null' THEN '%s cannot come back, because a column without a value needs one now. Skip it.'
            WHEN 'check' THEN '%s cannot come back, because a rule of its table refuses it now. Skip it.'
            WHEN 'no_partition' THEN '%s cannot come back, because no partition of its table takes it now. Skip it.'
            WHEN 'no_conversion' THEN '%s cannot come back, because a value of it does not fit its column any more. Skip it.'
            ELSE '%s cannot come back, because %s has its place now. Rename one of the two and try again, or skip it.' END,
        coalesce(attachments.in_words(item), format('a row of %s', conflict ->> 'table')),
        coalesce(attachments.in_words(holder), 'something you may not see')) AS said) AS sentence
$$;

-- Conflicts with the items that they are about. The keys of rows that the caller may not see are left out: the application's tables
-- may have no policies.
CREATE FUNCTION attachments.explain_conflicts(conflicts jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(c - 'deletion_id' || jsonb_build_object(
        'item', item, 'holder_item', holder, 'holder_table', holder_table,
        'holder', CASE WHEN holder IS NOT NULL THEN c -> 'holder' END,
        'detail', attachments.conflict_in_words(c, item, holder)) ORDER BY n), '[]')
    FROM jsonb_array_elements(conflicts) WITH ORDINALITY AS l (c, n),
         LATERAL attachments.show_row(c ->> 'table', c -> 'key') AS item,
         LATERAL attachments.holder_table(c, item) AS holder_table,
         LATERAL attachments.show_row(holder_table, c -> 'holder') AS holder
$$;

-- 15_deletions.sql ---------------------------------------------

-- Deleting and restoring attachments and entities, and the bin: deletions that can be restored, what each holds, and what stands
-- in its way.

-- Finding a deletion -------------------------------------------------------------------------------

-- A deletion of the caller's tenant. The API's role reads no registry of its own right.
CREATE FUNCTION attachments.find_deletion(deletion uuid) RETURNS keepsake.deletion
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT d FROM keepsake.deletion d WHERE d.id = deletion AND d.tenant = attachments.tenant());
END
$$;

-- Tells what was purged from what never was: only to the tenant that owned it.
CREATE FUNCTION attachments.missing(relation regclass, key jsonb, detail text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (
        SELECT FROM keepsake.deletion d
        WHERE d.root_table = relation AND d.root_key = key AND d.tenant = attachments.tenant()
          AND d.state IN ('purging', 'purged') AND d.reason IS DISTINCT FROM 'upload not completed')
    THEN attachments.fail('purged', 'It was permanently deleted when its retention ended.')
    ELSE attachments.fail('not_found', detail) END
$$;

REVOKE ALL ON FUNCTION attachments.find_deletion, attachments.missing FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments.find_deletion, attachments.missing TO keepsake_api;

-- Deleting and restoring one row --------------------------------------------------------------------

-- An attachment in the shape of an entity: the same functions delete and restore both.
CREATE FUNCTION attachments.attachment_row(attachment uuid) RETURNS attachments.found_entity
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found attachments.attachment := attachments.find_deletable(attachment);
BEGIN
    RETURN ('attachments.attachment', jsonb_build_object('id', attachment), found.id IS NOT NULL, found.deletion_id)::attachments.found_entity;
END
$$;

-- Deletes a row that was found, and answers with the deletion; one that is deleted already is left as it is.
CREATE FUNCTION attachments.delete_row(target attachments.found_entity, shown text, reason text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    IF target.is_there IS NOT TRUE THEN
        RETURN attachments.missing(target.relation, target.key, format('There is no %s.', shown));
    END IF;
    RETURN attachments.ok(jsonb_build_object(
        'deletion_id', coalesce(target.deletion_id, keepsake.soft_delete(target.relation, target.key, reason)),
        'already', target.deletion_id IS NOT NULL));
EXCEPTION
    WHEN foreign_key_violation OR restrict_violation THEN
        RETURN attachments.fail('delete_blocked', 'Other rows that are not deleted with it still refer to it.');
    WHEN no_data_found THEN
        -- Somebody has deleted it at this very moment.
        known := attachments.entity_of(target.relation::text);
        IF attachments.kept_apart(target.relation) THEN
            target := attachments.find_entity(known.name, target.key ->> known.key_column::text);
        END IF;
        RETURN CASE WHEN target.deletion_id IS NULL THEN attachments.fail('not_found', 'It no longer exists.')
               ELSE attachments.ok(jsonb_build_object('deletion_id', target.deletion_id, 'already', true)) END;
END
$$;

-- Restores a deletion with the caller's rights, and explains the conflicts.
CREATE FUNCTION attachments.undo_deletion(deletion uuid, on_conflict text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    report jsonb;
    sql_state text;
    message text;
    conflicts text;
BEGIN
    report := keepsake.restore(deletion, on_conflict);
    RETURN attachments.ok(report || CASE WHEN report ? 'conflicts'
        THEN jsonb_build_object('conflicts', attachments.explain_conflicts(report -> 'conflicts')) ELSE '{}' END);
EXCEPTION
    -- Races that PostgreSQL itself decided, before the class that they belong to.
    WHEN unique_violation OR exclusion_violation OR foreign_key_violation THEN
        RETURN attachments.fail('restore_conflict',
            'Something took its place at this very moment. Look at it and try again; nothing was changed.',
            '{"conflicts": []}');
    WHEN integrity_constraint_violation THEN
        GET STACKED DIAGNOSTICS sql_state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, conflicts = PG_EXCEPTION_DETAIL;
        IF sql_state <> '23000' OR message NOT LIKE 'cannot restore the deletion: %' THEN
            RETURN attachments.fail('restore_conflict',
                'A rule of the application forbids what would come back; nothing was changed.', '{"conflicts": []}');
        END IF;
        RETURN attachments.fail('restore_conflict',
            'Bringing it back would clash with what is there now. Each conflict is listed; nothing was changed.',
            jsonb_build_object('conflicts', attachments.explain_conflicts(conflicts::jsonb)));
    WHEN insufficient_privilege THEN
        RETURN attachments.fail('restore_conflict', 'Only an operator can restore the rest of it. Nothing was changed.',
            '{"conflicts": []}');
    WHEN object_not_in_prerequisite_state THEN
        RETURN attachments.fail('purged', 'It was permanently deleted when its retention ended.');
    WHEN no_data_found THEN
        RETURN attachments.fail('not_found', 'There is no such deletion.');
END
$$;

-- Undoes the deletion that began with this row. A row that went with another is restored with that one.
CREATE FUNCTION attachments.restore_row(target attachments.found_entity, shown text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    root keepsake.deletion;
    answer jsonb;
BEGIN
    IF target.is_there IS NOT TRUE THEN
        RETURN attachments.missing(target.relation, target.key, format('There is no %s.', shown));
    END IF;
    IF target.deletion_id IS NULL THEN
        RETURN attachments.ok('{"deletion_id": null, "restored": [], "passed": []}');
    END IF;
    root := attachments.find_deletion(target.deletion_id);
    IF root.state IN ('purging', 'purged') THEN
        RETURN attachments.fail('purged', 'It was permanently deleted when its retention ended.');
    END IF;
    IF root.id IS NULL THEN
        -- Deleted by somebody who worked without this tenant's claims.
        RETURN attachments.fail('restore_conflict', 'An operator deleted it. Only an operator can restore it.',
            '{"conflicts": []}');
    END IF;
    IF root.root_table <> target.relation OR root.root_key <> target.key THEN
        RETURN attachments.fail('restore_conflict',
            format('It was deleted together with %s. Restore that deletion instead.', root.root_table),
            jsonb_build_object('conflicts', attachments.explain_conflicts(jsonb_build_array(jsonb_build_object(
                'kind', 'parent_deleted', 'table', target.relation::text, 'key', target.key, 'constraint', NULL,
                'values', '{}'::jsonb, 'holder', root.root_key, 'holder_table', root.root_table::text)))));
    END IF;
    answer := attachments.undo_deletion(target.deletion_id, 'fail');
    IF answer #>> '{error,code}' = 'not_found' THEN
        RETURN attachments.missing(target.relation, target.key, 'It no longer exists.');
    END IF;
    RETURN answer;
END
$$;

CREATE FUNCTION attachments_api.delete_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    attachment uuid := (request ->> 'attachment_id')::uuid;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN coalesce(
        attachments.refuse_file_change(attachment),
        attachments.delete_row(attachments.attachment_row(attachment), 'such attachment', request ->> 'reason'));
END
$$;

CREATE FUNCTION attachments_api.restore_attachment(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    attachment uuid := (request ->> 'attachment_id')::uuid;
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN coalesce(
        attachments.refuse_file_change(attachment),
        attachments.restore_row(attachments.attachment_row(attachment), 'such attachment'));
END
$$;

CREATE FUNCTION attachments_api.delete_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN attachments.delete_row(attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id'), attachments.show_entity(request), request ->> 'reason');
END
$$;

CREATE FUNCTION attachments_api.restore_entity(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', claims::text, true);
    PERFORM attachments.enter_tenant(attachments.tenant());
    RETURN attachments.restore_row(attachments.find_entity(request ->> 'entity_type', request ->> 'entity_id'), attachments.show_entity(request));
END
$$;

-- What a deletion holds ----------------------------------------------------------------------------
-- With the rights of who migrates, as the registry is not the API's to read; asked of deletions that the caller sees already.

-- The tenant's deletions that can be restored, after one of them, newest first. Whether the caller may see their roots is not asked
-- here.
CREATE FUNCTION attachments.deletions_behind(after uuid, at_most integer) RETURNS SETOF keepsake.deletion
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.* FROM keepsake.deletion d
    WHERE d.tenant = attachments.tenant() AND d.state = 'deleted'
      AND d.id < coalesce(after, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      AND d.root_table IN (SELECT 'attachments.attachment'::regclass UNION ALL SELECT e.relation FROM attachments.entity_type e)
    ORDER BY d.id DESC LIMIT at_most
$$;

-- The tables that a deletion holds rows of.
CREATE FUNCTION attachments.tables_of_deletion(deletion uuid) RETURNS SETOF regclass
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = deletion AND t.row_count > t.purged
$$;

-- The rows that a deletion holds still, as it counts them itself.
CREATE FUNCTION attachments.rows_of_deletion(deletion uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(sum(t.row_count - t.purged), 0)::bigint FROM keepsake.deletion_table t WHERE t.deletion_id = deletion
$$;

-- Which of these deletions a legal hold keeps: on them, their tenant, or a row in them.
CREATE FUNCTION attachments.held_deletions(deletions uuid[]) RETURNS uuid[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held uuid[];
    of_rows record;
    by_row uuid[];
BEGIN
    held := ARRAY(
        SELECT h.deletion_id FROM keepsake.hold h WHERE h.released_at IS NULL AND h.deletion_id = ANY (deletions)
        UNION ALL
        SELECT d.id FROM keepsake.deletion d JOIN keepsake.hold h ON h.tenant = d.tenant AND h.released_at IS NULL
        WHERE d.id = ANY (deletions));
    FOR of_rows IN
        SELECT h.relation, array_agg(h.row_key) AS keys
        FROM keepsake.hold h
        WHERE h.released_at IS NULL AND h.relation IN (
            SELECT t.relation FROM keepsake.deletion_table t WHERE t.deletion_id = ANY (deletions))
        GROUP BY h.relation
    LOOP
        IF attachments.kept_apart(of_rows.relation) THEN
            EXECUTE format('SELECT array_agg(DISTINCT d.deletion_id) FROM unnest($2) AS held (key), keepsake.deleted_rows(NULL::%s, NULL, held.key) AS d
                            WHERE d.deletion_id = ANY ($1)', of_rows.relation)
            INTO by_row USING deletions, of_rows.keys;
            held := held || by_row;
            CONTINUE;
        END IF;
        EXECUTE (
            SELECT format('SELECT array_agg(DISTINCT t.deletion_id) FROM unnest($2) AS held (key) JOIN %s AS t ON %s WHERE t.deletion_id = ANY ($1)',
                          of_rows.relation,
                          string_agg(format('t.%I = (held.key ->> %L)::%s', a.attname, a.attname, format_type(a.atttypid, a.atttypmod)), ' AND '))
            FROM jsonb_object_keys(of_rows.keys[1]) AS name
            JOIN pg_attribute a ON a.attrelid = of_rows.relation AND a.attname = name AND NOT a.attisdropped)
        INTO by_row USING deletions, of_rows.keys;
        held := held || by_row;
    END LOOP;
    RETURN held;
END
$$;

REVOKE ALL ON FUNCTION
    attachments.deletions_behind, attachments.tables_of_deletion, attachments.rows_of_deletion, attachments.held_deletions
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments.deletions_behind, attachments.tables_of_deletion, attachments.rows_of_deletion, attachments.held_deletions
TO keepsake_api;

-- What was asked to be deleted, as an item; NULL when the caller may not see it. Of several rows that one statement deleted: the kind
-- alone, if the caller sees one of them.
CREATE FUNCTION attachments.show_root(deletion keepsake.deletion) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type := attachments.entity_of(deletion.root_table::text);
    sees_one boolean;
BEGIN
    -- Its key may be that of a live row by now.
    IF deletion.root_key IS NOT NULL AND deletion.state <> 'restored' AND attachments.kept_apart(deletion.root_table)
       AND deletion.root_table IN (SELECT attachments.tables_of_deletion(deletion.id)) THEN
        RETURN attachments.show_deleted_thing(known, deletion.root_key ->> known.key_column::text, deletion.id);
    ELSIF deletion.root_key IS NOT NULL THEN
        RETURN attachments.show_row(deletion.root_table::text, deletion.root_key);
    ELSIF deletion.root_table = 'attachments.attachment'::regclass THEN
        sees_one := EXISTS (
            SELECT FROM attachments.attachment a
            WHERE a.deletion_id = deletion.id AND attachments.show_file(a.id) IS NOT NULL);
        RETURN CASE WHEN sees_one THEN '{"kind": "attachment", "entity_type": "attachments", "id": null, "label": null}'::jsonb END;
    ELSIF known.name IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE t.%I::text = attachments.tenant())',
                       attachments.deleted_sql(known, '$1'), known.tenant_column)
        INTO sees_one USING deletion.id;
        RETURN CASE WHEN sees_one THEN attachments.thing_item(known.name, NULL, NULL) END;
    END IF;
    RETURN NULL;
END
$$;

-- What a deletion holds that the caller may see, by kind; of each kind 1000 are counted at most.
CREATE FUNCTION attachments.count_deleted(deletion uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant integer := 1000;
    known attachments.entity_type;
    files record;
    counted bigint;
    entities jsonb := '[]';
    files_counted bigint := 0;
    capped boolean := false;
BEGIN
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE e.relation IN (SELECT attachments.tables_of_deletion(deletion)) ORDER BY e.name
    LOOP
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE t.%I::text = attachments.tenant() LIMIT $2) AS few',
                       attachments.deleted_sql(known, '$1'), known.tenant_column)
        INTO counted USING deletion, at_most + 1;
        capped := capped OR counted > at_most;
        IF counted > 0 THEN
            entities := entities || jsonb_build_object('entity_type', known.name, 'count', least(counted, at_most));
        END IF;
    END LOOP;
    FOR files IN
        SELECT few.entity_type, array_agg(few.entity_id) AS ids, sum(count(*)) OVER () > at_most AS more
        FROM (SELECT a.entity_type, a.entity_id FROM attachments.attachment a
              WHERE a.deletion_id = deletion AND a.state IN ('available', 'quarantined') LIMIT at_most + 1) AS few
        GROUP BY few.entity_type
    LOOP
        SELECT * INTO known FROM attachments.entity_type e WHERE e.name = files.entity_type;
        -- Mostly the entity is in the same deletion; or it is live, or was deleted apart.
        EXECUTE format('SELECT count(*) FROM unnest($1) AS of_file (id)
                        WHERE of_file.id IN (SELECT t.%I::text FROM %s WHERE t.%I::text = attachments.tenant())
                           OR (attachments.find_entity($3, of_file.id)).is_there',
                       known.key_column, attachments.deleted_sql(known, '$2'), known.tenant_column)
        INTO counted USING files.ids, deletion, known.name;
        files_counted := files_counted + counted;
        capped := capped OR files.more;
    END LOOP;
    RETURN jsonb_build_object('entities', entities, 'attachments', least(files_counted, at_most), 'capped', capped);
END
$$;

CREATE FUNCTION attachments.describe_deletion(deletion keepsake.deletion, root jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'id', deletion.id, 'root', root, 'actor', deletion.actor, 'reason', deletion.reason, 'deleted_at', deletion.deleted_at,
        'expires_at', CASE WHEN isfinite(deletion.expires_at) THEN deletion.expires_at END,
        'days_left', attachments.days_until(deletion.expires_at), 'state', deletion.state,
        'counts', attachments.count_deleted(deletion.id))
$$;

-- The tree of a deletion ---------------------------------------------------------------------------

-- What a deletion holds that the caller may see: entities before attachments. `ref` names a node, `parents` the entities it refers to.
CREATE FUNCTION attachments.nodes_of_deletion(deletion uuid, at_most integer)
RETURNS TABLE (node jsonb, ref text, parents text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    room integer := at_most;
    taken integer;
BEGIN
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE e.relation IN (SELECT attachments.tables_of_deletion(deletion)) ORDER BY e.name
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT attachments.thing_item(%L, t.%I::text, %s), %L || t.%I::text, ARRAY[%s]::text[]
             FROM %s WHERE t.%I::text = $3 ORDER BY t.%I LIMIT $2',
            known.name, known.key_column, attachments.label_sql(known), known.name || '/', known.key_column,
            (SELECT string_agg(format('%L || t.%I::text', p.parent_type || '/', p.child_column), ', ') FROM attachments.parent_kinds(known) AS p),
            attachments.deleted_sql(known, '$1'), known.tenant_column, known.key_column)
        USING deletion, room, attachments.tenant();
        GET DIAGNOSTICS taken = ROW_COUNT;
        room := room - taken;
    END LOOP;
    RETURN QUERY
        SELECT attachments.show_file(a.id) || jsonb_build_object('size', a.byte_size, 'media_type', a.media_type),
               a.id::text, ARRAY[a.entity_type || '/' || a.entity_id]
        FROM attachments.attachment a
        WHERE a.deletion_id = deletion AND a.state IN ('available', 'quarantined')
          AND (attachments.find_entity(a.entity_type, a.entity_id)).is_there
        ORDER BY a.id LIMIT room;
END
$$;

-- The first nodes as trees, and whether there are more. A node hangs on the first entity it refers to that is among them; the root on
-- nothing.
CREATE FUNCTION attachments.tree_of_deletion(deletion uuid, root_ref text, at_most integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    nodes jsonb[];
    refs text[];
    parents jsonb[];
    place jsonb;
    truncated boolean;
    parent integer[] := '{}';
    depth integer[] := '{}';
    children jsonb[] := '{}';
    above integer;
    next integer;
    top jsonb := '[]';
BEGIN
    SELECT array_agg(n.node ORDER BY n.place) FILTER (WHERE n.place <= at_most), array_agg(n.ref ORDER BY n.place),
           array_agg(to_jsonb(n.parents) ORDER BY n.place), jsonb_object_agg(n.ref, n.place) FILTER (WHERE n.place <= at_most),
           count(*) > at_most
    INTO nodes, refs, parents, place, truncated
    FROM attachments.nodes_of_deletion(deletion, at_most + 1) WITH ORDINALITY AS n (node, ref, parents, place);
    FOR i IN 1 .. coalesce(cardinality(nodes), 0) LOOP
        parent[i] := CASE WHEN refs[i] = root_ref THEN 0 ELSE coalesce((
            SELECT (place ->> p.ref)::integer FROM jsonb_array_elements_text(parents[i]) WITH ORDINALITY AS p (ref, n)
            WHERE place ? p.ref ORDER BY p.n LIMIT 1), 0) END;
    END LOOP;
    FOR i IN 1 .. coalesce(cardinality(nodes), 0) LOOP
        above := parent[i];
        depth[i] := 0;
        WHILE above <> 0 LOOP
            depth[i] := depth[i] + 1;
            above := parent[above];
            IF above = i OR depth[i] > at_most THEN
                -- Entities that refer to each other in a ring: it is opened here.
                parent[i] := 0;
                depth[i] := 0;
                EXIT;
            END IF;
        END LOOP;
    END LOOP;
    FOR next IN SELECT n FROM unnest(depth) WITH ORDINALITY AS d (depth, n) ORDER BY d.depth DESC, n LOOP
        nodes[next] := nodes[next] || jsonb_build_object('children', coalesce(children[next], '[]'));
        IF parent[next] = 0 THEN
            top := top || nodes[next];
        ELSE
            children[parent[next]] := coalesce(children[parent[next]], '[]') || nodes[next];
        END IF;
    END LOOP;
    RETURN jsonb_build_object('tree', top, 'truncated', truncated);
END
$$;

-- The bin ----------------------------------------------------------------------------------------

-- The bin, newest first.
CREATE FUNCTION attachments_api.list_deletions(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Deletions that are looked at for one page: those whose roots the caller may not see are skipped.
    at_most constant integer := 1000;
    size integer := (request ->> 'limit')::integer;
    one keepsake.deletion;
    root jsonb;
    items jsonb := '[]';
    looked_at integer := 0;
    last uuid;
    next_cursor uuid;
    held uuid[];
BEGIN
    PERFORM attachments.begin_recovery(claims);
    FOR one IN SELECT * FROM attachments.deletions_behind((request ->> 'cursor')::uuid, at_most) LOOP
        looked_at := looked_at + 1;
        root := attachments.show_root(one);
        IF root IS NOT NULL THEN
            IF jsonb_array_length(items) = size THEN
                next_cursor := last;
                EXIT;
            END IF;
            items := items || attachments.describe_deletion(one, root);
        END IF;
        last := one.id;
    END LOOP;
    IF looked_at = at_most THEN
        next_cursor := last;
    END IF;
    held := attachments.held_deletions(ARRAY(SELECT (item ->> 'id')::uuid FROM jsonb_array_elements(items) AS item));
    RETURN attachments.ok(jsonb_build_object(
        'items', (
            SELECT coalesce(jsonb_agg(item || jsonb_build_object('held', (item ->> 'id')::uuid = ANY (held)) ORDER BY n), '[]')
            FROM jsonb_array_elements(items) WITH ORDINALITY AS l (item, n)),
        'next_cursor', next_cursor));
END
$$;

-- What a restore would meet now: the first hundred, and how many there are.
CREATE FUNCTION attachments.conflicts_of(deletion uuid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant integer := 100;
    conflicts jsonb;
    counted bigint;
BEGIN
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'kind', c.kind, 'table', c.table_name, 'key', c.key, 'constraint', c.constraint_name,
               'values', c.key_values, 'holder', c.holder) ORDER BY c.ordinality) FILTER (WHERE c.ordinality <= at_most), '[]'),
           count(*)
    INTO conflicts, counted
    FROM keepsake.restore_conflicts(deletion) WITH ORDINALITY AS c;
    RETURN jsonb_build_object('conflicts', attachments.explain_conflicts(conflicts), 'conflict_count', counted);
EXCEPTION WHEN no_data_found OR insufficient_privilege OR object_not_in_prerequisite_state THEN
    -- Settled at this very moment, or only an operator may restore it.
    RETURN '{"conflicts": [], "conflict_count": 0}';
END
$$;

-- Why a deletion cannot be shown; NULL when it can. Of what was purged no row is left to ask: its tenant gets the answer.
CREATE FUNCTION attachments.refuse_deletion(deletion keepsake.deletion, root jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN deletion.state IN ('purging', 'purged') AND deletion.reason IS DISTINCT FROM 'upload not completed'
                THEN attachments.fail('purged', 'It was permanently deleted when its retention ended.')
                WHEN root IS NULL THEN attachments.fail('not_found', 'There is no such deletion.') END
$$;

-- What a restore would meet is looked for row by row: of a large deletion that takes longer than a person waits. Unasked, it is looked for in
-- deletions of 10,000 rows and fewer, within half a second; in larger ones where the request says so.
CREATE FUNCTION attachments_api.get_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant bigint := 10000;
    one keepsake.deletion;
    root jsonb;
    refused jsonb;
    is_searched boolean;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    root := attachments.show_root(one);
    refused := attachments.refuse_deletion(one, root);
    IF refused IS NOT NULL THEN
        RETURN refused;
    END IF;
    is_searched := request ->> 'conflicts' = 'all' OR attachments.rows_of_deletion(one.id) <= at_most;
    RETURN attachments.ok(
        attachments.describe_deletion(one, root)
        || attachments.tree_of_deletion(one.id, CASE root ->> 'kind'
            WHEN 'entity' THEN concat_ws('/', root ->> 'entity_type', root ->> 'id') ELSE root ->> 'id' END, 500)
        || jsonb_build_object(
            'held', one.id = ANY (attachments.held_deletions(ARRAY[one.id])),
            'conflicts_checked', is_searched)
        || CASE WHEN one.state = 'deleted' AND is_searched THEN attachments.conflicts_of(one.id)
                ELSE '{"conflicts": [], "conflict_count": 0}' END);
END
$$;

-- Several files that one SQL statement deleted have no one root: whoever restores them must be allowed to change the files of each
-- entity, as for one.
CREATE FUNCTION attachments.refuse_restore(one keepsake.deletion) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    entity record;
    refusal jsonb;
BEGIN
    -- An entity is restored by the rights that the extension asks for.
    IF one.root_table <> 'attachments.attachment'::regclass THEN
        RETURN NULL;
    END IF;
    FOR entity IN
        SELECT DISTINCT a.entity_type, a.entity_id FROM attachments.attachment a WHERE a.deletion_id = one.id ORDER BY 1, 2
    LOOP
        refusal := attachments.refuse_change(entity.entity_type, entity.entity_id);
        EXIT WHEN refusal IS NOT NULL;
    END LOOP;
    RETURN refusal;
END
$$;

CREATE FUNCTION attachments_api.restore_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one keepsake.deletion;
BEGIN
    PERFORM attachments.begin_recovery(claims);
    PERFORM attachments.enter_tenant(attachments.tenant());
    one := attachments.find_deletion((request ->> 'deletion_id')::uuid);
    RETURN coalesce(
        attachments.refuse_restore(one),
        -- Rows that one statement deleted no longer say so once they are restored: its tenant may ask again.
        attachments.refuse_deletion(one, CASE
            WHEN one.state = 'restored' AND one.root_key IS NULL THEN '{}' ELSE attachments.show_root(one) END),
        attachments.undo_deletion(one.id, request ->> 'on_conflict'));
END
$$;

SELECT attachments.publish(ARRAY[
    'delete_attachment', 'restore_attachment', 'delete_entity', 'restore_entity',
    'list_deletions', 'get_deletion', 'restore_deletion']);

-- 16_events.sql ---------------------------------------------

-- Events: what happened to attachments, for who wants to be told. Each is written in the transaction in which it happened, and delivered by
-- the worker's schedule: at least once, and of one attachment in the order in which it happened.
--
--     happened            delivered
--    ──────────▶ waiting ───────────▶ gone
--                  ▲  │ 14 attempts failed
--      retried by  │  ▼
--     an operator  dead               lets later events of its attachment pass; removed after 30 days
--
-- Tenants take turns: one that has many events to tell delays no other.

CREATE TABLE attachments.event (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What a receiver knows it by, however often it arrives.
    id              uuid NOT NULL DEFAULT keepsake.uuid_v7() UNIQUE,
    type            text NOT NULL CHECK (type IN (
                        'attachment.available', 'attachment.rejected', 'attachment.quarantined',
                        'attachment.replaced', 'attachment.deleted', 'attachment.restored', 'attachment.purged')),
    tenant_id       text NOT NULL,
    attachment_id   uuid NOT NULL,
    entity_type     text NOT NULL,
    entity_id       text NOT NULL,
    deletion_id     uuid,
    happened_at     timestamptz NOT NULL DEFAULT now(),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    lease           uuid,
    leased_until    timestamptz,
    last_error      text,
    dead_at         timestamptz
);
CREATE INDEX event_order ON attachments.event (attachment_id, seq) WHERE dead_at IS NULL;
CREATE INDEX event_due ON attachments.event (tenant_id, next_attempt_at, seq) WHERE dead_at IS NULL;
CREATE INDEX event_dead ON attachments.event (seq) WHERE dead_at IS NOT NULL;
CREATE INDEX event_dead_since ON attachments.event (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX event_age ON attachments.event (happened_at) WHERE dead_at IS NULL;
COMMENT ON TABLE attachments.event IS
    'What happened to attachments and has not been delivered yet. Written while a worker that delivers events runs, and for 7 days after.';

-- Events are kept for a worker that delivers them: its schedule says so, and nothing is written where none does.
CREATE TABLE attachments.event_recording (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    until   timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO attachments.event_recording DEFAULT VALUES;

-- Writing ----------------------------------------------------------------------------------------

-- AFTER UPDATE. What never became visible is neither deleted nor restored for anybody outside.
CREATE FUNCTION attachments.record_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT r.until <= now() FROM attachments.event_recording r) THEN
        RETURN NULL;
    END IF;
    INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, deletion_id)
    SELECT 'attachment.' || changed.what, changed.tenant_id, changed.id, changed.entity_type, changed.entity_id, changed.of_deletion
    FROM (SELECT a.*, coalesce(a.deletion_id, b.deletion_id) AS of_deletion,
                 CASE WHEN a.state <> b.state AND a.state IN ('available', 'rejected', 'quarantined') THEN a.state
                      WHEN a.state NOT IN ('available', 'quarantined') THEN NULL
                      WHEN a.version <> b.version THEN 'replaced'
                      WHEN b.deleted_at IS NULL AND a.deleted_at IS NOT NULL THEN 'deleted'
                      WHEN b.deleted_at IS NOT NULL AND a.deleted_at IS NULL THEN 'restored' END AS what
          FROM after_it a JOIN before_it b ON b.id = a.id) AS changed
    WHERE changed.what IS NOT NULL;
    RETURN NULL;
END
$$;

-- AFTER DELETE, which is the purge.
CREATE FUNCTION attachments.record_purges() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT r.until <= now() FROM attachments.event_recording r) THEN
        RETURN NULL;
    END IF;
    INSERT INTO attachments.event (type, tenant_id, attachment_id, entity_type, entity_id, deletion_id)
    SELECT 'attachment.purged', g.tenant_id, g.id, g.entity_type, g.entity_id, g.deletion_id
    FROM gone g WHERE g.state IN ('available', 'quarantined');
    RETURN NULL;
END
$$;

CREATE TRIGGER record_changes AFTER UPDATE ON attachments.attachment
    REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it FOR EACH STATEMENT EXECUTE FUNCTION attachments.record_changes();
CREATE TRIGGER record_purges AFTER DELETE ON attachments.attachment
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION attachments.record_purges();

-- Delivering -------------------------------------------------------------------------------------

-- What is sent, letter for letter the same at each attempt. It names nobody: who may know more asks the API.
CREATE FUNCTION attachments.event_body(e attachments.event) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'type', e.type, 'timestamp', to_char(e.happened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', jsonb_build_object(
            'tenant', e.tenant_id, 'attachment_id', e.attachment_id, 'entity_type', e.entity_type, 'entity_id', e.entity_id,
            'deletion_id', e.deletion_id))::text
$$;

-- Tenants of which events wait; each is found by one step in the index, however many it has.
CREATE FUNCTION attachments.tenants_to_tell() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE tenant (id) AS (
        (SELECT e.tenant_id FROM attachments.event e WHERE e.dead_at IS NULL ORDER BY e.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.tenant_id FROM attachments.event e WHERE e.dead_at IS NULL AND e.tenant_id > t.id ORDER BY e.tenant_id LIMIT 1)
        FROM tenant t WHERE t.id IS NOT NULL)
    SELECT t.id FROM tenant t WHERE t.id IS NOT NULL
$$;

-- Due events, of each attachment the first that is not delivered: the next waits for it. Tenants take turns: each has its first one told
-- before another has its second; whose turn comes first is by chance.
CREATE FUNCTION attachments_api.lease_events(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    this_lease uuid := keepsake.uuid_v7();
    leased jsonb;
BEGIN
    UPDATE attachments.event_recording r SET until = now() + interval '7 days' WHERE r.until < now() + interval '6 days';
    WITH chosen AS MATERIALIZED (
        SELECT first.seq
        FROM attachments.tenants_to_tell() AS tenant (id), LATERAL (
            SELECT e.seq, row_number() OVER (ORDER BY e.next_attempt_at, e.seq) AS turn
            FROM attachments.event e
            WHERE e.tenant_id = tenant.id AND e.dead_at IS NULL AND e.next_attempt_at <= now()
              AND (e.leased_until IS NULL OR e.leased_until <= now())
              AND NOT EXISTS (
                  SELECT FROM attachments.event earlier
                  WHERE earlier.attachment_id = e.attachment_id AND earlier.seq < e.seq AND earlier.dead_at IS NULL)
            ORDER BY e.next_attempt_at, e.seq
            LIMIT size) AS first
        ORDER BY first.turn, random()
        LIMIT size
    ), due AS (
        -- Another run may have taken them meanwhile.
        SELECT e.seq FROM attachments.event e
        WHERE e.seq IN (SELECT c.seq FROM chosen c)
          AND e.dead_at IS NULL AND e.next_attempt_at <= now() AND (e.leased_until IS NULL OR e.leased_until <= now())
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE attachments.event e
        SET lease = this_lease, leased_until = now() + make_interval(secs => (request ->> 'lease_seconds')::double precision)
        FROM due WHERE e.seq = due.seq
        RETURNING e.seq, jsonb_build_object('id', e.id, 'body', attachments.event_body(e)) AS event
    )
    SELECT jsonb_agg(t.event ORDER BY t.seq) INTO leased FROM taken t;
    RETURN attachments.ok(jsonb_build_object('lease', this_lease, 'events', coalesce(leased, '[]')));
END
$$;

-- A receiver that was down for half a day misses nothing: 14 attempts take 17 hours.
CREATE FUNCTION attachments_api.settle_events(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM attachments.event e
    WHERE e.lease = (request ->> 'lease')::uuid AND e.id = ANY (ARRAY(SELECT jsonb_array_elements_text(request -> 'delivered')::uuid));
    UPDATE attachments.event e
    SET lease = NULL, leased_until = NULL, attempts = e.attempts + 1, last_error = left(f ->> 'error', 500),
        next_attempt_at = now() + least(interval '10 seconds' * (2 ^ e.attempts), interval '6 hours'),
        dead_at = CASE WHEN e.attempts + 1 >= 14 THEN now() END
    FROM jsonb_array_elements(request -> 'failed') AS f
    WHERE e.lease = (request ->> 'lease')::uuid AND e.id = (f ->> 'id')::uuid;
    RETURN attachments.ok('{}');
END
$$;

-- Removes events that have been dead for 30 days and, where no worker delivers any more, those that are 30 days old; how many. While one
-- does, an event is removed only after it has been tried.
CREATE FUNCTION attachments.forget_events(at_most integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dead bigint;
    untold bigint := 0;
BEGIN
    DELETE FROM attachments.event WHERE seq = ANY (ARRAY(
        SELECT e.seq FROM attachments.event e WHERE e.dead_at < now() - interval '30 days' ORDER BY e.dead_at LIMIT at_most));
    GET DIAGNOSTICS dead = ROW_COUNT;
    IF (SELECT r.until <= now() FROM attachments.event_recording r) THEN
        DELETE FROM attachments.event WHERE seq = ANY (ARRAY(
            SELECT e.seq FROM attachments.event e
            WHERE e.dead_at IS NULL AND e.happened_at < now() - interval '30 days' ORDER BY e.happened_at LIMIT at_most));
        GET DIAGNOSTICS untold = ROW_COUNT;
    END IF;
    RETURN dead + untold;
END
$$;

-- For an operator --------------------------------------------------------------------------------

CREATE FUNCTION attachments_api.list_events(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    entries jsonb;
BEGIN
    -- The condition is written out, so that the dead are found by their own index.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(jsonb_build_object(
             ''id'', e.seq, ''event_id'', e.id, ''type'', e.type, ''attachment_id'', e.attachment_id, ''happened_at'', e.happened_at,
             ''attempts'', e.attempts, ''next_attempt_at'', e.next_attempt_at, ''last_error'', e.last_error, ''dead_at'', e.dead_at)
             ORDER BY e.seq), ''[]'')
         FROM (SELECT * FROM attachments.event WHERE dead_at %s AND seq > $1 ORDER BY seq LIMIT $2) AS e',
        CASE WHEN request ->> 'state' = 'dead' THEN 'IS NOT NULL' ELSE 'IS NULL' END)
    INTO entries USING coalesce((request ->> 'cursor')::bigint, 0), size + 1;
    RETURN attachments.cut_page(entries, size, 'id');
END
$$;

CREATE FUNCTION attachments_api.retry_event(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM attachments.event e WHERE e.seq = (request ->> 'id')::bigint) THEN
        RETURN attachments.fail('not_found', 'There is no such event. It may have been delivered in the meantime.');
    END IF;
    UPDATE attachments.event e SET dead_at = NULL, attempts = 0, next_attempt_at = now()
    WHERE e.seq = (request ->> 'id')::bigint AND (e.leased_until > now()) IS NOT TRUE;
    RETURN attachments.ok('{}');
END
$$;

REVOKE ALL ON FUNCTION
    attachments.record_changes, attachments.record_purges, attachments.event_body, attachments.tenants_to_tell, attachments.forget_events
FROM PUBLIC;
REVOKE ALL ON FUNCTION
    attachments_api.lease_events, attachments_api.settle_events, attachments_api.list_events, attachments_api.retry_event
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.lease_events, attachments_api.settle_events, attachments_api.list_events, attachments_api.retry_event
TO keepsake_worker;

-- 17_schedule.sql ---------------------------------------------

-- The worker's schedule: purging, how long bytes stay after it, draining the outbox, and what each run did. These cross tenants, so they run with the rights of
-- who migrates.

CREATE TABLE attachments.run (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    step        text NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('done', 'failed')),
    -- What was done, by name.
    counts      jsonb,
    -- Why it failed.
    error       text
);
CREATE INDEX run_age ON attachments.run (finished_at);
CREATE INDEX run_failed ON attachments.run (id) WHERE outcome = 'failed';
COMMENT ON TABLE attachments.run IS 'Each step of each scheduled run, kept for 30 days. Runs that were interrupted are missing.';

-- The row that a server locks while it does the scheduled work. Not an advisory lock, which any role that may connect can take.
CREATE TABLE attachments.schedule (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only)
);
COMMENT ON TABLE attachments.schedule IS 'One row, which is locked by the server that does the scheduled work.';
INSERT INTO attachments.schedule DEFAULT VALUES;

-- Bytes after the purge ----------------------------------------------------------------------------

-- How long the bytes of purged files stay, so that a database that is restored to a moment before the purge finds them.
CREATE TABLE attachments.object_grace (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    grace   interval NOT NULL DEFAULT '7 days' CHECK (grace >= '0')
);
COMMENT ON TABLE attachments.object_grace IS
    'How long the bytes of purged files stay in the bucket. Set it to how far back the database can be restored.';
INSERT INTO attachments.object_grace DEFAULT VALUES;

-- AFTER DELETE, which is the purge, behind the trigger that enters the objects (triggers fire by name). What was never visible is
-- missed by no earlier moment; what is erased is gone at once.
CREATE FUNCTION attachments.wait_for_backups() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept interval := (SELECT g.grace FROM attachments.object_grace g);
BEGIN
    IF kept > '0' AND current_setting('attachments.erasing', true) IS DISTINCT FROM 'on' THEN
        UPDATE keepsake.outbox o SET next_attempt_at = now() + kept
        FROM gone g
        WHERE o.object_key = g.object_key AND g.state IN ('available', 'quarantined', 'former') AND o.attempts = 0 AND o.lease IS NULL;
    END IF;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION attachments.wait_for_backups FROM PUBLIC;
CREATE TRIGGER wait_for_backups AFTER DELETE ON attachments.attachment
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION attachments.wait_for_backups();

-- The schedule's calls -----------------------------------------------------------------------------

CREATE FUNCTION attachments_api.ping() RETURNS jsonb
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT '{"ok": {}}'::jsonb
$$;

-- Whether the caller does the scheduled work: as long as its transaction lives, and nobody else meanwhile. Without the row (after a
-- TRUNCATE, or a restore of the schema alone) nobody could, and everybody would take it for locked.
CREATE FUNCTION attachments_api.lead_schedule(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM attachments.schedule FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        RETURN attachments.ok('{"leads": true}');
    END IF;
    IF NOT EXISTS (SELECT FROM attachments.schedule) THEN
        RAISE 'attachments.schedule has lost its row, so that no server can do the scheduled work'
            USING ERRCODE = 'no_data_found', HINT = 'INSERT INTO attachments.schedule DEFAULT VALUES';
    END IF;
    RETURN attachments.ok('{"leads": false}');
END
$$;

CREATE FUNCTION attachments_api.purge(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    report jsonb := keepsake.purge_batch((request ->> 'limit')::integer, whole_months => true);
BEGIN
    RETURN attachments.ok(jsonb_build_object(
        'purged', report -> 'rows', 'failed', report -> 'failed', 'tables', report -> 'tables', 'more', report -> 'more'));
END
$$;

CREATE FUNCTION attachments_api.lease_objects(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    leased jsonb;
BEGIN
    SELECT jsonb_build_object(
        'lease', min(o.lease::text),
        'objects', coalesce(jsonb_agg(jsonb_build_object('id', o.id, 'object_key', o.object_key) ORDER BY o.id), '[]'))
    INTO leased
    FROM keepsake.lease_objects(
        (request ->> 'limit')::integer, make_interval(secs => (request ->> 'lease_seconds')::double precision)) AS o;
    RETURN attachments.ok(leased);
END
$$;

CREATE FUNCTION attachments_api.settle_objects(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lease uuid := (request ->> 'lease')::uuid;
    failure record;
BEGIN
    PERFORM keepsake.ack_objects(lease, ARRAY(SELECT jsonb_array_elements_text(request -> 'deleted')::bigint));
    FOR failure IN
        SELECT f ->> 'error' AS error, array_agg((f ->> 'id')::bigint) AS ids
        FROM jsonb_array_elements(request -> 'failed') AS f GROUP BY 1
    LOOP
        PERFORM keepsake.nack_objects(lease, failure.ids, coalesce(failure.error, 'unknown'));
    END LOOP;
    RETURN attachments.ok('{}');
END
$$;

CREATE FUNCTION attachments_api.record_run(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO attachments.run (step, started_at, finished_at, outcome, counts, error)
    SELECT r.step, to_timestamp(r.started), to_timestamp(r.finished),
           CASE WHEN r.error IS NULL AND coalesce((r.counts ->> 'failed')::bigint, 0) = 0 THEN 'done' ELSE 'failed' END,
           r.counts, r.error
    FROM jsonb_to_recordset(request -> 'steps') AS r (step text, started bigint, finished bigint, counts jsonb, error text);
    DELETE FROM attachments.run WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM attachments.run r WHERE r.finished_at < now() - interval '30 days' ORDER BY r.finished_at LIMIT 1000));
    RETURN attachments.ok('{}');
END
$$;

-- Newest first, all or those that failed, and how the audit stands. No key and no tenant is named.
CREATE FUNCTION attachments_api.list_runs(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    runs jsonb;
BEGIN
    EXECUTE format('SELECT coalesce(jsonb_agg(to_jsonb(r) - ''id'' ORDER BY r.id DESC), ''[]'')
                    FROM (SELECT * FROM attachments.run WHERE %s ORDER BY id DESC LIMIT $1) AS r',
                   CASE WHEN request ->> 'outcome' = 'failed' THEN 'outcome = ''failed''' ELSE 'true' END)
    INTO runs USING (request ->> 'limit')::integer;
    RETURN attachments.ok(jsonb_build_object('items', runs, 'audit', (
        SELECT jsonb_build_object(
            'pass', a.pass, 'pass_finished_at', a.pass_finished_at,
            'orphans', count(*) FILTER (WHERE f.kind = 'orphan'), 'missing', count(*) FILTER (WHERE f.kind = 'missing'))
        FROM attachments.audit a LEFT JOIN attachments.audit_finding f ON true GROUP BY a.is_only)));
END
$$;

REVOKE ALL ON FUNCTION
    attachments_api.ping, attachments_api.lead_schedule, attachments_api.purge, attachments_api.lease_objects, attachments_api.settle_objects,
    attachments_api.record_run, attachments_api.list_runs
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.ping, attachments_api.lead_schedule, attachments_api.purge, attachments_api.lease_objects, attachments_api.settle_objects,
    attachments_api.record_run, attachments_api.list_runs
TO keepsake_worker;

-- 18_audit.sql ---------------------------------------------

-- The audit: whether bucket and database still agree. The bucket is walked in the order of its keys, a page with each run, over and
-- over. A page is a range of keys: what the bucket has in it and no row names is an orphan, what a row names and the bucket has not
-- is missing.

CREATE TABLE attachments.audit (
    is_only          boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    -- The next page begins after this key.
    after            text NOT NULL DEFAULT '' COLLATE "C",
    -- How many times the bucket was walked, this time included.
    pass             bigint NOT NULL DEFAULT 1,
    pass_finished_at timestamptz,
    grace            interval DEFAULT '7 days' CHECK (grace >= '1 hour')
);
COMMENT ON COLUMN attachments.audit.grace IS
    'How long an orphan must be known before it is deleted. NULL: orphans are only reported.';
INSERT INTO attachments.audit DEFAULT VALUES;

CREATE TABLE attachments.audit_finding (
    object_key text COLLATE "C" PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('orphan', 'missing')),
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    -- In which pass it was seen last, and in how many.
    pass       bigint NOT NULL,
    times      integer NOT NULL DEFAULT 1
);
COMMENT ON TABLE attachments.audit_finding IS
    'Objects that no row names (orphan), and rows whose object is not in the bucket (missing). The next audit removes findings that are fixed.';

-- Keys of a page that no row names and the outbox does not know: it deletes its own. Rows are there before their objects, and a key is
-- never used again.
CREATE FUNCTION attachments.orphans(keys text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(key), '{}') FROM unnest(keys) AS key
    WHERE NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.object_key = key)
      AND NOT EXISTS (SELECT FROM keepsake.outbox o WHERE o.object_key = key)
$$;

-- Keys that rows name in a range and that are not among those of the bucket, the first 1000. What became available a moment ago may be
-- younger than the page.
CREATE FUNCTION attachments.missing_objects(lower_key text, upper_key text, keys text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT a.object_key FROM attachments.attachment a
        WHERE a.state IN ('available', 'quarantined', 'former') AND a.available_at < now() - interval '1 hour'
          AND a.object_key COLLATE "C" > lower_key AND (upper_key IS NULL OR a.object_key COLLATE "C" <= upper_key)
          AND NOT EXISTS (SELECT FROM unnest(keys) AS there WHERE there = a.object_key)
        ORDER BY a.object_key COLLATE "C" LIMIT 1000)
$$;

-- A finding keeps when it was first seen, and in how many passes.
CREATE FUNCTION attachments.note_findings(this_pass bigint, found_kind text, keys text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO attachments.audit_finding AS f (object_key, kind, pass)
    SELECT key, found_kind, this_pass FROM unnest(keys) AS key
    ON CONFLICT (object_key) DO UPDATE
    SET kind = excluded.kind, pass = excluded.pass, last_seen = now(),
        first_seen = CASE WHEN f.kind = excluded.kind THEN f.first_seen ELSE now() END,
        times = CASE WHEN f.kind = excluded.kind THEN f.times + (f.pass <> excluded.pass)::integer ELSE 1 END
$$;

REVOKE ALL ON FUNCTION attachments.orphans, attachments.missing_objects, attachments.note_findings FROM PUBLIC;

CREATE FUNCTION attachments_api.audit_place(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_build_object('after', a.after)) FROM attachments.audit a
$$;

-- Compares a page of the bucket, its keys after `after` in order, with the rows; answers with the orphans that may go now: seen in two
-- passes at least, for the time of grace, with a key of the form ours have.
CREATE FUNCTION attachments_api.audit_objects(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place attachments.audit;
    keys text[] := ARRAY(SELECT jsonb_array_elements_text(request -> 'keys'));
    -- NULL: to the end.
    upto text COLLATE "C" := CASE WHEN (request ->> 'more')::boolean THEN keys[cardinality(keys)] END;
    missing text[];
    orphans text[];
    remove text[];
BEGIN
    SELECT * INTO place FROM attachments.audit FOR UPDATE;
    IF place.after <> request ->> 'after' OR ((request ->> 'more')::boolean AND upto IS NULL) THEN
        -- Another run did this page meanwhile, or the store listed nothing.
        RETURN attachments.ok('{"checked": 0, "orphans": 0, "missing": 0, "remove": []}');
    END IF;
    missing := attachments.missing_objects(place.after, upto, keys);
    IF cardinality(missing) = 1000 THEN
        -- So many that the page ends here.
        upto := missing[1000];
        keys := ARRAY(SELECT key FROM unnest(keys) AS key WHERE key COLLATE "C" <= upto);
    END IF;
    orphans := attachments.orphans(keys);
    PERFORM attachments.note_findings(place.pass, 'orphan', orphans), attachments.note_findings(place.pass, 'missing', missing);
    DELETE FROM attachments.audit_finding f
    WHERE f.object_key > place.after AND (upto IS NULL OR f.object_key <= upto) AND f.pass <> place.pass;
    remove := ARRAY(
        SELECT f.object_key FROM attachments.audit_finding f
        WHERE f.object_key = ANY (orphans) AND f.kind = 'orphan' AND f.times >= 2
          AND f.first_seen <= now() - place.grace AND keepsake.parse_object_key(f.object_key) IS NOT NULL);
    UPDATE attachments.audit a
    SET after = coalesce(upto, ''), pass = a.pass + (upto IS NULL)::integer,
        pass_finished_at = CASE WHEN upto IS NULL THEN now() ELSE a.pass_finished_at END;
    RETURN attachments.ok(jsonb_build_object(
        'checked', cardinality(keys), 'orphans', cardinality(orphans), 'missing', cardinality(missing), 'remove', to_jsonb(remove)));
END
$$;

CREATE FUNCTION attachments_api.list_findings(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
BEGIN
    RETURN attachments.cut_page((
        SELECT coalesce(jsonb_agg(to_jsonb(page) - 'pass' ORDER BY page.object_key), '[]')
        FROM (SELECT f.* FROM attachments.audit_finding f
              WHERE f.object_key > coalesce(request ->> 'cursor', '')
              ORDER BY f.object_key LIMIT size + 1) AS page), size, 'object_key');
END
$$;

REVOKE ALL ON FUNCTION attachments_api.audit_place, attachments_api.audit_objects, attachments_api.list_findings FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.audit_place, attachments_api.audit_objects, attachments_api.list_findings TO keepsake_worker;

-- After a restore ----------------------------------------------------------------------------------
-- A database that was restored to an earlier moment has rows that had been purged since, and lacks those of uploads made since. The bucket
-- is as it is now.

-- To be called once on a restored database, before a worker runs on it: nothing that came back is purged for a week, no orphan is
-- deleted, and the audit begins anew.
CREATE FUNCTION attachments.after_restore() RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept bigint;
BEGIN
    UPDATE keepsake.deletion d SET expires_at = now() + interval '7 days'
    WHERE d.state IN ('deleted', 'purging') AND d.expires_at < now() + interval '7 days';
    GET DIAGNOSTICS kept = ROW_COUNT;
    UPDATE attachments.audit SET grace = NULL, after = '', pass = pass + 1, pass_finished_at = NULL;
    TRUNCATE attachments.audit_finding;
    RETURN jsonb_build_object('deletions_kept', kept);
END
$$;
COMMENT ON FUNCTION attachments.after_restore IS
    'Call it on a restored database before a worker runs on it: purges nothing for 7 days, deletes no orphan, and starts the audit again.';

-- What the audit found since, once its pass has finished: each file, or former version of an attachment, that came back out of retention with its bytes, each whose bytes are gone,
-- and each object whose row is gone, because it was uploaded later.
CREATE FUNCTION attachments.restore_report()
RETURNS TABLE (outcome text, attachment_id uuid, tenant_id text, file_name text, deletion_id uuid, object_key text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT a.pass_finished_at IS NULL FROM attachments.audit a) THEN
        RAISE EXCEPTION 'the audit has not walked the whole bucket yet'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Let the schedule run until attachments.audit.pass_finished_at is set.';
    END IF;
    RETURN QUERY
        SELECT 'came back', coalesce(a.version_of, a.id), a.tenant_id, a.file_name, a.deletion_id, a.object_key
        FROM attachments.attachment a JOIN keepsake.deletion d ON d.id = a.deletion_id
        JOIN keepsake.managed_table m ON m.relation = d.root_table
        WHERE a.state IN ('available', 'quarantined', 'former') AND keepsake.expiry(d.deleted_at, coalesce(d.retention, m.retention)) <= now()
          AND NOT EXISTS (SELECT FROM attachments.audit_finding f WHERE f.object_key = a.object_key)
        UNION ALL
        SELECT 'bytes are gone', coalesce(a.version_of, a.id), a.tenant_id, a.file_name, a.deletion_id, a.object_key
        FROM attachments.audit_finding f JOIN attachments.attachment a ON a.object_key = f.object_key WHERE f.kind = 'missing'
        UNION ALL
        SELECT 'row is gone', (k.key ->> 'attachment_id')::uuid, k.key ->> 'tenant', NULL, NULL, f.object_key::text
        FROM attachments.audit_finding f, LATERAL keepsake.parse_object_key(f.object_key) AS k (key) WHERE f.kind = 'orphan'
        ORDER BY 1, 3, 6;
END
$$;
COMMENT ON FUNCTION attachments.restore_report IS
    'What a restore to an earlier moment brought back, and what is gone, by the audit that after_restore() started.';

REVOKE ALL ON FUNCTION attachments.after_restore, attachments.restore_report FROM PUBLIC;

-- 19_metrics.sql ---------------------------------------------

-- Numbers for an operator, of all tenants together: now, and sampled over time.

-- One number a line, as keepsake.metrics has them. What is purged is counted in no state.
CREATE VIEW attachments.metrics (metric, labels, value) AS
WITH files AS MATERIALIZED (
    SELECT CASE WHEN a.deleted_at IS NOT NULL THEN 'deleted' ELSE a.state END AS state,
           pg_catalog.count(*) AS files, pg_catalog.sum(a.byte_size) AS bytes
    FROM attachments.attachment a
    GROUP BY 1),
uploads AS MATERIALIZED (
    SELECT pg_catalog.count(*) AS pending,
           pg_catalog.count(*) FILTER (WHERE s.expires_at < pg_catalog.now()) AS overdue
    FROM attachments.upload_set s
    WHERE s.state = 'pending'),
states (state) AS (
    VALUES ('pending'), ('uploaded'), ('scanning'), ('available'), ('rejected'), ('quarantined'), ('former'), ('deleted'))
SELECT 'keepsake_attachments', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.files, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_attachment_bytes', pg_catalog.jsonb_build_object('state', s.state), coalesce(f.bytes, 0)::double precision
FROM states s LEFT JOIN files f ON f.state = s.state
UNION ALL
SELECT 'keepsake_uploads_pending', '{}', pending::double precision FROM uploads
UNION ALL
SELECT 'keepsake_uploads_overdue', '{}', overdue::double precision FROM uploads
UNION ALL
SELECT 'keepsake_events', pg_catalog.jsonb_build_object('state', s.state), (
    SELECT pg_catalog.count(*) FROM attachments.event e WHERE (e.dead_at IS NOT NULL) = (s.state = 'dead'))::double precision
FROM (VALUES ('waiting'), ('dead')) AS s (state);
COMMENT ON VIEW attachments.metrics IS 'Metrics of attachments and their bytes by state, and of open uploads, one value per row, as in a Prometheus exposition.';

CREATE TABLE attachments.sample (
    taken_at          timestamptz PRIMARY KEY DEFAULT now(),
    -- Attachments and their bytes, by state.
    files             jsonb NOT NULL,
    bytes             jsonb NOT NULL,
    open_deletions    bigint NOT NULL,
    held_deletions    bigint NOT NULL,
    failed_deletions  bigint NOT NULL,
    expired_rows      bigint NOT NULL,
    outbox_waiting    bigint NOT NULL,
    outbox_dead       bigint NOT NULL,
    uploads_pending   bigint NOT NULL
);
COMMENT ON TABLE attachments.sample IS
    'Metrics that scheduled runs recorded: all of the last two days, one per hour for 30 days, one per day for two years; about 2000 rows in all.';

CREATE FUNCTION attachments_api.metrics() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_agg(
        jsonb_build_object('metric', m.metric, 'labels', m.labels, 'value', m.value) ORDER BY m.metric, m.labels))
    FROM (TABLE keepsake.metrics UNION ALL TABLE attachments.metrics) AS m (metric, labels, value)
    WHERE m.value IS NOT NULL
$$;

-- Keeps of old samples the first of each hour, of older ones the first of each day.
CREATE FUNCTION attachments.thin_samples() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM attachments.sample s USING (
        SELECT taken_at, row_number() OVER (
            PARTITION BY date_trunc(CASE WHEN taken_at < now() - interval '30 days' THEN 'day' ELSE 'hour' END, taken_at)
            ORDER BY taken_at) AS place
        FROM attachments.sample WHERE taken_at < now() - interval '2 days') AS old
    WHERE s.taken_at = old.taken_at AND (old.place > 1 OR old.taken_at < now() - interval '2 years')
$$;

REVOKE ALL ON FUNCTION attachments.thin_samples FROM PUBLIC;

-- Counting walks through all attachments, so runs that follow each other closely skip it.
CREATE FUNCTION attachments_api.take_sample(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM attachments.sample s WHERE s.taken_at > now() - interval '4 minutes') THEN
        RETURN attachments.ok('{"taken": 0}');
    END IF;
    INSERT INTO attachments.sample
    SELECT now(),
           jsonb_object_agg(m.labels ->> 'state', m.value::bigint) FILTER (WHERE m.metric = 'keepsake_attachments'),
           jsonb_object_agg(m.labels ->> 'state', m.value::bigint) FILTER (WHERE m.metric = 'keepsake_attachment_bytes'),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_open_deletions'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_held_deletions'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_failed_deletions'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_expired_rows'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_outbox_objects' AND m.labels ->> 'state' <> 'dead'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_outbox_objects' AND m.labels ->> 'state' = 'dead'), 0),
           coalesce(sum(m.value) FILTER (WHERE m.metric = 'keepsake_uploads_pending'), 0)
    FROM (TABLE keepsake.metrics UNION ALL TABLE attachments.metrics) AS m (metric, labels, value)
    ON CONFLICT DO NOTHING;
    PERFORM attachments.thin_samples();
    RETURN attachments.ok('{"taken": 1}');
END
$$;

-- At most 500 of the samples between two moments: the last of each stretch.
CREATE FUNCTION attachments_api.get_history(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    upto timestamptz := coalesce((request ->> 'to')::timestamptz, now());
    since timestamptz := coalesce((request ->> 'from')::timestamptz, upto - interval '7 days');
BEGIN
    IF since >= upto THEN
        RETURN attachments.fail('invalid_field', 'The field from must be a time before to.');
    END IF;
    RETURN attachments.ok(jsonb_build_object('from', since, 'to', upto, 'items', (
        SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.taken_at), '[]')
        FROM attachments.sample s
        WHERE s.taken_at IN (
            SELECT max(in_time.taken_at)
            FROM attachments.sample in_time
            WHERE in_time.taken_at BETWEEN since AND upto
            GROUP BY width_bucket(extract(epoch FROM in_time.taken_at)::double precision,
                                  extract(epoch FROM since)::double precision, extract(epoch FROM upto)::double precision, 499)))));
END
$$;

REVOKE ALL ON FUNCTION attachments_api.metrics, attachments_api.take_sample, attachments_api.get_history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.metrics, attachments_api.take_sample, attachments_api.get_history TO keepsake_worker;

-- 20_operator.sql ---------------------------------------------

-- What an operator asks for and does, of all tenants together: the dry run of a purge, the outbox, and legal holds. These cross tenants,
-- so they run with the rights of who migrates.

-- The dry run ------------------------------------------------------------------------------------

CREATE FUNCTION attachments_api.get_purge_plan(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := coalesce((request ->> 'at')::timestamptz, now());
BEGIN
    RETURN attachments.ok(jsonb_build_object(
        'as_of', moment,
        'due', (SELECT count(*) FROM keepsake.deletion d WHERE d.state IN ('deleted', 'purging') AND d.expires_at <= moment),
        'next_expiry', (SELECT min(d.expires_at) FROM keepsake.deletion d
                        WHERE d.state IN ('deleted', 'purging') AND d.expires_at > moment AND d.expires_at < 'infinity'),
        'lines', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', p.table_name, 'outcome', p.outcome, 'rows', p.rows)
                                            ORDER BY p.table_name, p.outcome), '[]')
                  FROM keepsake.purge_plan(moment) AS p)));
END
$$;

-- The outbox -------------------------------------------------------------------------------------

CREATE FUNCTION attachments_api.list_outbox(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
    after bigint := coalesce((request ->> 'cursor')::bigint, 0);
    entries jsonb;
BEGIN
    -- The condition is written out, so that the dead are found by their own index.
    EXECUTE format(
        'SELECT coalesce(jsonb_agg(jsonb_build_object(
             ''id'', o.id, ''object_key'', o.object_key, ''attempts'', o.attempts, ''enqueued_at'', o.enqueued_at,
             ''next_attempt_at'', o.next_attempt_at, ''last_error'', o.last_error, ''dead_at'', o.dead_at,
             ''state'', CASE WHEN o.dead_at IS NOT NULL THEN ''dead'' WHEN o.leased_until > now() THEN ''leased'' ELSE ''waiting'' END)
             ORDER BY o.id), ''[]'')
         FROM (SELECT * FROM keepsake.outbox WHERE dead_at %s AND id > $1 ORDER BY id LIMIT $2) AS o',
        CASE WHEN request ->> 'state' = 'dead' THEN 'IS NOT NULL' ELSE 'IS NULL' END)
    INTO entries USING after, size + 1;
    RETURN attachments.cut_page(entries, size, 'id');
END
$$;

CREATE FUNCTION attachments_api.retry_object(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM keepsake.outbox o WHERE o.id = (request ->> 'id')::bigint) THEN
        RETURN attachments.fail('not_found', 'There is no such object in the outbox. It may have been deleted in the meantime.');
    END IF;
    PERFORM keepsake.retry_objects(ARRAY[(request ->> 'id')::bigint]);
    RETURN attachments.ok('{}');
END
$$;

-- Legal holds ------------------------------------------------------------------------------------

-- Why holds were released. The extension keeps who and when.
CREATE TABLE attachments.hold_release (
    hold_id bigint PRIMARY KEY,
    reason  text NOT NULL
);

CREATE FUNCTION attachments.describe_hold(h keepsake.hold) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type := attachments.entity_of(h.relation::text);
    is_file boolean := coalesce(h.relation = to_regclass('attachments.attachment'), false);
    target text := coalesce(h.deletion_id::text, h.tenant, h.row_key ->> known.key_column::text, h.row_key ->> 'id', h.row_key::text);
    label text;
BEGIN
    IF is_file THEN
        label := (SELECT a.file_name FROM attachments.attachment a WHERE a.id = target::uuid);
    ELSIF known.name IS NOT NULL THEN
        EXECUTE format('SELECT %s FROM %s AS t WHERE t.%I = $1::%s',
                       attachments.label_sql(known), known.relation, known.key_column, known.key_type)
        INTO label USING target;
        IF label IS NULL AND attachments.kept_apart(known.relation) THEN
            EXECUTE format('SELECT %s FROM %s ORDER BY t.deletion_id DESC LIMIT 1',
                           attachments.label_sql(known), attachments.deleted_sql(known, NULL, '$1'))
            INTO label USING target;
        END IF;
    ELSIF h.relation IS NOT NULL THEN
        target := h.row_key::text;
        label := h.relation::text;
    END IF;
    RETURN jsonb_build_object(
        'id', h.id,
        'kind', CASE WHEN h.deletion_id IS NOT NULL THEN 'deletion' WHEN h.tenant IS NOT NULL THEN 'tenant'
                     WHEN is_file THEN 'attachment' WHEN known.name IS NOT NULL THEN 'entity' ELSE 'row' END,
        'entity_type', known.name, 'target', target, 'label', label,
        'reason', h.reason, 'actor', h.actor, 'held_at', h.held_at, 'released_at', h.released_at, 'released_by', h.released_by,
        'release_reason', (SELECT r.reason FROM attachments.hold_release r WHERE r.hold_id = h.id));
END
$$;

REVOKE ALL ON FUNCTION attachments.describe_hold FROM PUBLIC;

CREATE FUNCTION attachments_api.list_holds(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
BEGIN
    RETURN attachments.cut_page((
        SELECT coalesce(jsonb_agg(attachments.describe_hold(page) ORDER BY page.id DESC), '[]')
        FROM (SELECT h.* FROM keepsake.hold h
              WHERE (h.released_at IS NOT NULL) = (request ->> 'state' = 'released')
                AND h.id < coalesce((request ->> 'cursor')::bigint, 9223372036854775807)
              ORDER BY h.id DESC LIMIT size + 1) AS page), size, 'id');
END
$$;

CREATE FUNCTION attachments_api.place_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target text := request ->> 'id';
    why text := request ->> 'reason';
    relation regclass;
    made bigint;
BEGIN
    PERFORM set_config('keepsake.actor', request ->> 'actor', true);
    CASE request ->> 'kind'
        WHEN 'deletion' THEN
            IF EXISTS (SELECT FROM keepsake.deletion d WHERE d.id = target::uuid AND d.state IN ('purging', 'purged')) THEN
                RETURN attachments.fail('purged', 'It was purged, so there is nothing left to hold.');
            END IF;
            made := keepsake.hold(target::uuid, why);
        WHEN 'tenant' THEN made := keepsake.hold_tenant(target, why);
        WHEN 'attachment' THEN made := keepsake.hold('attachments.attachment'::regclass, target::uuid::text, why);
        ELSE
            relation := (SELECT e.relation FROM attachments.entity_type e WHERE e.name = request ->> 'entity_type');
            IF relation IS NULL THEN
                RETURN attachments.fail('not_found', format('There is no entity type %s.', request ->> 'entity_type'));
            END IF;
            made := keepsake.hold(relation, target, why);
    END CASE;
    RETURN attachments.ok((SELECT attachments.describe_hold(h) FROM keepsake.hold h WHERE h.id = made));
EXCEPTION
    WHEN no_data_found OR data_exception THEN
        RETURN attachments.fail('not_found', format('There is no such %s to hold.', request ->> 'kind'));
    WHEN object_not_in_prerequisite_state THEN
        RETURN attachments.fail('purged', 'It was purged, so there is nothing left to hold.');
END
$$;

CREATE FUNCTION attachments_api.release_hold(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hold bigint := (request ->> 'id')::bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM keepsake.hold h WHERE h.id = hold) THEN
        RETURN attachments.fail('not_found', 'There is no such hold.');
    END IF;
    PERFORM set_config('keepsake.actor', request ->> 'actor', true);
    IF keepsake.release(hold) THEN
        INSERT INTO attachments.hold_release VALUES (hold, request ->> 'reason') ON CONFLICT DO NOTHING;
    END IF;
    RETURN attachments.ok((SELECT attachments.describe_hold(h) FROM keepsake.hold h WHERE h.id = hold));
END
$$;

REVOKE ALL ON FUNCTION
    attachments_api.get_purge_plan, attachments_api.list_outbox, attachments_api.retry_object,
    attachments_api.list_holds, attachments_api.place_hold, attachments_api.release_hold
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    attachments_api.get_purge_plan, attachments_api.list_outbox, attachments_api.retry_object,
    attachments_api.list_holds, attachments_api.place_hold, attachments_api.release_hold
TO keepsake_worker;

-- 21_erasure.sql ---------------------------------------------

-- Erasure: all that names a tenant, or one person in a tenant, is removed now and not when its retention ends. What a legal hold covers
-- stays, and is told. tests/tests/e2e/erasure.rs walks the catalog: a new column that could name somebody has to be dealt with here.
--
-- Bytes go through the outbox at once, without the grace that purged ones have: until the worker has deleted them, their keys are there.

CREATE TABLE attachments.erasure (
    id           uuid PRIMARY KEY DEFAULT keepsake.uuid_v7(),
    scope        text NOT NULL CHECK (scope IN ('tenant', 'subject')),
    -- Whether the files that a person uploaded stayed, without the name.
    kept_files   boolean NOT NULL,
    reason       text NOT NULL,
    -- Who asked for it, as the application says, and as the database knows it.
    actor        text NOT NULL,
    role         name NOT NULL,
    session_role name NOT NULL,
    erased_at    timestamptz NOT NULL DEFAULT now(),
    -- Rows by table: those that are gone, and those that no longer have the name.
    removed      jsonb NOT NULL,
    renamed      jsonb NOT NULL,
    -- Objects that were handed to the outbox.
    objects      bigint NOT NULL,
    -- What stayed: table, rows, why, and the holds.
    kept         jsonb NOT NULL
);
COMMENT ON TABLE attachments.erasure IS
    'Certificates of erasures: who erased what kind of data when, how many rows of each table, and what stayed and why. They do not say of whom.';

-- What stands where a name was.
CREATE FUNCTION attachments.erased_name() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT '(erased)'
$$;

-- Adds rows of a table to such counts as a certificate has.
CREATE FUNCTION attachments.add_count(counts jsonb, table_name text, rows bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN rows = 0 THEN counts
           ELSE counts || jsonb_build_object(table_name, coalesce((counts ->> table_name)::bigint, 0) + rows) END
$$;

-- Adds what a purge reports.
CREATE FUNCTION attachments.add_report(counts jsonb, report jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    line jsonb;
BEGIN
    FOR line IN SELECT * FROM jsonb_array_elements(report -> 'tables') LOOP
        counts := attachments.add_count(counts, line ->> 'table', (line ->> 'rows')::bigint);
    END LOOP;
    RETURN counts;
END
$$;

-- Tables of the application -----------------------------------------------------------------------
-- What follows reads them as whoever erases, mostly a superuser. Their owners are not trusted with that: a value of a type of their own is
-- read by their code.

-- A column that is read by no code but PostgreSQL's.
CREATE FUNCTION attachments.check_column(of_relation regclass, column_name name, wanted regtype DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    type regtype := (SELECT a.atttypid FROM pg_attribute a
                     WHERE a.attrelid = of_relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped);
BEGIN
    IF type IS NULL OR type <> coalesce(wanted, type) OR NOT EXISTS (
        SELECT FROM pg_type t
        WHERE t.oid = type AND t.typtype = 'b' AND t.typelem = 0 AND t.typnamespace = 'pg_catalog'::regnamespace) THEN
        RAISE EXCEPTION 'cannot erase rows of table %: the type of its column % is %', of_relation, column_name, coalesce(type::text, 'unknown')
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'Values of a type that is not PostgreSQL''s are read by the code of its owner, who would get the rights of whoever erases.',
                  HINT = format('Give the column the type %s.', coalesce(wanted::text, 'text, uuid or bigint'));
    END IF;
END
$$;

-- Locks the tables of entities, so that nobody changes them until the transaction ends, and refuses those that cannot be read safely.
CREATE FUNCTION attachments.check_entity_tables() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'cannot erase in a transaction that is %', current_setting('transaction_isolation')
            USING ERRCODE = 'feature_not_supported', DETAIL = 'It would not see what has been committed since it began.',
                  HINT = 'Erase in a transaction with the isolation level READ COMMITTED.';
    END IF;
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        IF EXISTS (SELECT FROM pg_class c WHERE c.oid = known.relation) THEN
            EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', known.relation);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = known.relation AND c.relkind IN ('r', 'p'))
           OR NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = known.relation) THEN
            RAISE EXCEPTION 'cannot erase entities of type %: % is no managed table any more', known.name, known.relation
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Manage the table again with keepsake.manage(), or remove the entity type.';
        END IF;
        PERFORM attachments.check_column(known.relation, known.tenant_column),
                attachments.check_column(known.relation, known.key_column, known.key_type);
        IF NOT attachments.kept_apart(known.relation) THEN
            PERFORM attachments.check_column(known.relation, 'deletion_id', 'uuid');
        END IF;
    END LOOP;
END
$$;

-- Holds ------------------------------------------------------------------------------------------
-- All of this runs under the claims of the tenant alone, so that an entity is found only there.

-- The holds, released or not, on the tenant, its deletions, and rows of its own.
CREATE FUNCTION attachments.holds_of(tenant text) RETURNS SETOF keepsake.hold
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.* FROM keepsake.hold h
    WHERE h.tenant = holds_of.tenant
       OR h.deletion_id IN (SELECT d.id FROM keepsake.deletion d WHERE d.tenant = holds_of.tenant)
       OR h.relation = 'attachments.attachment'::regclass AND EXISTS (
           SELECT FROM attachments.attachment a WHERE a.id::text = h.row_key ->> 'id' AND a.tenant_id = holds_of.tenant)
       OR EXISTS (
           SELECT FROM attachments.entity_type e
           WHERE e.relation = h.relation AND (attachments.find_entity(e.name, h.row_key ->> e.key_column::text)).is_there)
$$;

-- The holds in force that keep a file: on it, its entity, its deletion, or another row of that.
CREATE FUNCTION attachments.holds_on_file(a attachments.attachment) RETURNS bigint[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT h.id FROM keepsake.hold h
        WHERE h.released_at IS NULL AND (
            h.tenant = a.tenant_id
            OR h.deletion_id = a.deletion_id
            OR h.relation = 'attachments.attachment'::regclass AND h.row_key ->> 'id' IN (a.id::text, a.version_of::text)
            OR EXISTS (SELECT FROM attachments.entity_type e
                       WHERE e.name = a.entity_type AND e.relation = h.relation AND h.row_key ->> e.key_column::text = a.entity_id))
        ORDER BY h.id)
$$;

-- Rows -------------------------------------------------------------------------------------------

-- Files of the tenant, or of one who uploaded them, that no hold covers: the live ones (`deleted` false), or those in the bin. An attachment goes
-- with all its versions.
CREATE FUNCTION attachments.erasable_files(tenant text, subject text, deleted boolean) RETURNS SETOF uuid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.id FROM attachments.attachment a
    WHERE a.tenant_id = tenant AND (a.deletion_id IS NOT NULL) = deleted
      AND (subject IS NULL OR a.uploaded_by = subject OR EXISTS (
          SELECT FROM attachments.attachment current WHERE current.id = a.version_of AND current.uploaded_by = subject))
      AND attachments.holds_on_file(a) = '{}'
    ORDER BY a.id
$$;

-- Whether what is left of a deletion is the tenant's alone: then it can be purged whole. Of tables that are neither registered nor that of
-- the attachments, nobody knows whose a row is: they belong to the rows from which they went; where they are themselves what was deleted,
-- to the tenant of the deletion, if it has one.
CREATE FUNCTION attachments.is_all_of(deletion uuid, tenant text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    has_others boolean;
BEGIN
    IF NOT EXISTS (
        SELECT FROM keepsake.deletion d WHERE d.id = deletion AND (d.tenant = is_all_of.tenant OR d.tenant IS NULL AND (
            d.root_table = 'attachments.attachment'::regclass
            OR EXISTS (SELECT FROM attachments.entity_type e WHERE e.relation = d.root_table)))) THEN
        RETURN false;
    ELSIF EXISTS (SELECT FROM attachments.attachment a WHERE a.deletion_id = deletion AND a.tenant_id <> is_all_of.tenant) THEN
        RETURN false;
    END IF;
    FOR known IN
        SELECT e.* FROM attachments.entity_type e
        WHERE EXISTS (SELECT FROM attachments.tables_of_deletion(deletion) AS t (relation)
                      WHERE e.relation IN (t.relation, pg_partition_root(t.relation)))
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE t.%I::text IS DISTINCT FROM $2)',
                       attachments.deleted_sql(known, '$1'), known.tenant_column)
        INTO has_others USING deletion, tenant;
        IF has_others THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$$;

-- Deletes a row and whatever cascades from it. One that something refers to stays, as does one from which rows of another tenant would
-- go, and one that is gone by now.
CREATE FUNCTION attachments.delete_for_erasure(relation regclass, key jsonb, tenant text) RETURNS uuid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made uuid;
BEGIN
    made := keepsake.soft_delete(relation, key, 'erasure');
    IF NOT attachments.is_all_of(made, tenant) THEN
        RAISE integrity_constraint_violation;
    END IF;
    RETURN made;
EXCEPTION WHEN integrity_constraint_violation OR no_data_found THEN
    RETURN NULL;
END
$$;

-- Purges a deletion, if nothing holds it, and adds what went with it.
CREATE FUNCTION attachments.purge_for_erasure(deletion uuid, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.add_report(counts, keepsake.purge_deletion(deletion));
EXCEPTION WHEN object_not_in_prerequisite_state OR no_data_found OR integrity_constraint_violation THEN
    RETURN counts;
END
$$;

-- Purges rows that a table keeps in place by their keys, a thousand at a time; other rows of their deletions can still be restored.
CREATE FUNCTION attachments.purge_rows(relation regclass, keys jsonb[], counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR place IN 1 .. cardinality(keys) BY 1000 LOOP
        counts := attachments.add_report(counts, keepsake.purge_rows(relation, to_jsonb(keys[place : place + 999])));
    END LOOP;
    RETURN counts;
END
$$;

-- Makes a former version current, whatever name it had: where another file has that by now, it gets a number.
CREATE FUNCTION attachments.make_current_again(attachment uuid, other attachments.attachment) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := 1;
BEGIN
    LOOP
        BEGIN
            PERFORM attachments.exchange_contents(attachment, other.id, other.version);
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            IF number = 1000 THEN
                RAISE;
            END IF;
            number := number + 1;
        END;
        -- Of at most 255 bytes, with its extension.
        UPDATE attachments.attachment a
        SET file_name = keepsake.sanitize_filename(format('%s (%s).%s',
            left(regexp_replace(other.file_name, '\.[^.]*$', ''), 50), number, keepsake.parse_object_key(a.object_key) ->> 'extension'))
        WHERE a.id = other.id;
    END LOOP;
END
$$;

-- Where what a person uploaded is the current version of a live attachment, the newest that somebody else uploaded becomes current: that
-- person's versions then go, and nobody else's.
CREATE FUNCTION attachments.keep_versions_of_others(tenant text, subject text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    file record;
BEGIN
    FOR file IN
        SELECT a.id, other.version AS other
        FROM attachments.attachment a, LATERAL (
            SELECT v FROM attachments.attachment v
            WHERE v.version_of = a.id AND v.state = 'former' AND v.deletion_id IS NULL AND v.uploaded_by <> subject
              AND v.scan_verdict IS DISTINCT FROM 'infected' AND NOT attachments.is_version_held(v)
            ORDER BY v.version DESC LIMIT 1) AS other (version)
        WHERE a.tenant_id = keep_versions_of_others.tenant AND a.uploaded_by = subject AND a.state = 'available' AND a.deletion_id IS NULL
          AND attachments.holds_on_file(a) = '{}'
    LOOP
        PERFORM attachments.make_current_again(file.id, file.other);
    END LOOP;
END
$$;

CREATE FUNCTION attachments.erase_files(tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.keep_versions_of_others(tenant, subject);
    PERFORM attachments.delete_for_erasure('attachments.attachment', jsonb_build_object('id', live.id), tenant)
    FROM attachments.erasable_files(tenant, subject, false) AS live (id);
    RETURN attachments.purge_rows('attachments.attachment', ARRAY(
        SELECT jsonb_build_object('id', file.id) FROM attachments.erasable_files(tenant, subject, true) AS file (id)), counts);
END
$$;

-- The keys of a tenant's entities of one type that no hold covers: the live ones, or those that are kept deleted in their table.
CREATE FUNCTION attachments.erasable_entities(known attachments.entity_type, tenant text, deleted boolean) RETURNS jsonb[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    apart boolean := attachments.kept_apart(known.relation);
    keys jsonb[];
BEGIN
    IF apart AND deleted THEN
        RETURN '{}';
    END IF;
    EXECUTE format(
        'SELECT ARRAY(SELECT jsonb_build_object(%1$L, t.%1$I) FROM %2$s AS t
                      WHERE t.%3$I::text = $1 AND %4$s AND NOT EXISTS (
                          SELECT FROM keepsake.hold h
                          WHERE h.released_at IS NULL AND h.relation = $2 AND h.row_key ->> %1$L = t.%1$I::text)
                      ORDER BY t.%1$I DESC)',
        known.key_column, known.relation, known.tenant_column,
        CASE WHEN apart THEN 'true' WHEN deleted THEN 't.deletion_id IS NOT NULL' ELSE 't.deletion_id IS NULL' END)
    INTO keys USING tenant, known.relation;
    RETURN keys;
END
$$;

-- Deletions that hold something of the tenant's, or that are its own.
CREATE FUNCTION attachments.deletions_of(tenant text) RETURNS uuid[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    of_entities uuid[];
    found uuid[] := ARRAY(
        SELECT d.id FROM keepsake.deletion d WHERE d.tenant = deletions_of.tenant AND d.state IN ('deleted', 'purging')
        UNION ALL
        SELECT a.deletion_id FROM attachments.attachment a WHERE a.tenant_id = deletions_of.tenant AND a.deletion_id IS NOT NULL);
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        EXECUTE format('SELECT ARRAY(SELECT t.deletion_id FROM %s WHERE t.%I::text = $1)',
                       attachments.deleted_sql(known, NULL), known.tenant_column)
        INTO of_entities USING tenant;
        found := found || of_entities;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT f.id FROM unnest(found) AS f (id) ORDER BY f.id);
END
$$;

-- Soft-deletes what is live of the tenant's; how many rows.
CREATE FUNCTION attachments.delete_entities(tenant text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    deleted bigint := 0;
BEGIN
    FOR known IN SELECT e.* FROM attachments.entity_type e ORDER BY e.name LOOP
        deleted := deleted + (
            SELECT count(attachments.delete_for_erasure(known.relation, live.key, tenant))
            FROM unnest(attachments.erasable_entities(known, tenant, false)) AS live (key));
    END LOOP;
    RETURN deleted;
END
$$;

-- Purges deletions that are all the tenant's whole, and out of others its rows that are kept in their tables.
CREATE FUNCTION attachments.purge_entities(tenant text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known attachments.entity_type;
    deletion uuid;
BEGIN
    FOREACH deletion IN ARRAY attachments.deletions_of(tenant) LOOP
        IF attachments.is_all_of(deletion, tenant) THEN
            counts := attachments.purge_for_erasure(deletion, counts);
        END IF;
    END LOOP;
    FOR known IN SELECT e.* FROM attachments.entity_type e WHERE NOT attachments.kept_apart(e.relation) ORDER BY e.name LOOP
        counts := attachments.purge_rows(known.relation, attachments.erasable_entities(known, tenant, true), counts);
    END LOOP;
    RETURN counts;
END
$$;

-- Files and entities of the tenant, with what cascades from them, and its deletions. What refers to a row goes before it: each pass may free
-- rows for the next. A trigger of the application's that writes rows again comes to an end as well.
CREATE FUNCTION attachments.erase_entities(tenant text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_most constant integer := 1000;
    before jsonb;
    deleted bigint;
BEGIN
    FOR pass IN 1 .. at_most LOOP
        before := counts;
        counts := attachments.erase_files(tenant, NULL, counts);
        deleted := attachments.delete_entities(tenant);
        counts := attachments.purge_entities(tenant, counts);
        EXIT WHEN deleted = 0 AND counts = before;
    END LOOP;
    RETURN counts;
END
$$;

-- Names ------------------------------------------------------------------------------------------

-- Upload sets of a tenant, or of one who declared them, of which no file is left. One whose parts the store still holds stays until they
-- are given up, and names nobody.
CREATE FUNCTION attachments.erase_uploads(of_tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM attachments.upload_set s
    WHERE s.tenant_id = of_tenant AND (subject IS NULL OR s.created_by = subject)
      AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.upload_set_id = s.id)
      AND NOT EXISTS (SELECT FROM attachments.multipart m WHERE m.upload_set_id = s.id);
    GET DIAGNOSTICS gone = ROW_COUNT;
    WITH nameless AS (
        UPDATE attachments.upload_set s
        SET tenant_id = '', created_by = attachments.erased_name(), files = NULL, report = NULL,
            state = CASE s.state WHEN 'pending' THEN 'aborted' ELSE s.state END, settled_at = coalesce(s.settled_at, now())
        WHERE s.tenant_id = of_tenant AND (subject IS NULL OR s.created_by = subject)
          AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.upload_set_id = s.id)
        RETURNING s.id)
    UPDATE attachments.multipart m SET tenant_id = '' FROM nameless n WHERE m.upload_set_id = n.id;
    RETURN attachments.add_count(counts, 'attachments.upload_set', gone);
END
$$;

-- Rows of one table; `condition` is SQL over `$1`, the tenant, and `$2`, the subject.
CREATE FUNCTION attachments.erase_rows(table_name text, condition text, tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    EXECUTE format('DELETE FROM %s AS t WHERE %s', table_name::regclass, condition) USING tenant, subject;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN attachments.add_count(counts, table_name, gone);
END
$$;

-- The same for one column that names the subject.
CREATE FUNCTION attachments.rename_rows(table_name text, column_name name, condition text, tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed bigint;
BEGIN
    EXECUTE format('UPDATE %s AS t SET %2$I = attachments.erased_name() WHERE t.%2$I = $2 AND %3$s', table_name::regclass, column_name, condition)
    USING tenant, subject;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN attachments.add_count(counts, table_name, changed);
END
$$;

-- What else names a tenant. Its last events are delivered, and gone then. Its holds, and the deletions that were all its own, are those that
-- were found before its rows went; holds in force stay, with what they are on, and so does what the tenant holds as long as it holds anything.
CREATE FUNCTION attachments.erase_tenant_names(tenant text, holds bigint[], deletions uuid[], counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    released bigint[] := ARRAY(SELECT h.id FROM keepsake.hold h WHERE h.id = ANY (holds) AND h.released_at IS NOT NULL);
    gone bigint;
    line record;
BEGIN
    counts := attachments.erase_uploads(tenant, NULL, counts);
    DELETE FROM attachments.hold_release r WHERE r.hold_id = ANY (released);
    DELETE FROM keepsake.hold h WHERE h.id = ANY (released);
    counts := attachments.add_count(counts, 'keepsake.hold', coalesce(cardinality(released), 0));
    DELETE FROM keepsake.archive_undo u USING keepsake.deletion d
    WHERE d.id = u.deletion_id AND (d.tenant = erase_tenant_names.tenant OR d.id = ANY (deletions)) AND d.state IN ('purged', 'restored');
    GET DIAGNOSTICS gone = ROW_COUNT;
    counts := attachments.add_count(counts, 'keepsake.archive_undo', gone);
    -- Those that were made without claims.
    DELETE FROM keepsake.deletion d WHERE d.id = ANY (deletions) AND d.tenant IS NULL AND d.state IN ('purged', 'restored');
    GET DIAGNOSTICS gone = ROW_COUNT;
    counts := attachments.add_count(counts, 'keepsake.deletion', gone);
    FOR line IN SELECT * FROM (VALUES
        ('keepsake.deletion', 't.tenant = $1 AND t.state IN (''purged'', ''restored'')'),
        ('attachments.idempotency', 't.tenant_id = $1'),
        ('attachments.event', 't.tenant_id = $1 AND t.dead_at IS NOT NULL'),
        ('attachments.quota', 't.tenant_id = $1'),
        ('attachments.file_type_rule', 't.tenant_id = $1'),
        ('attachments.version_limit', 't.tenant_id = $1'),
        ('attachments.scan_policy', 't.tenant_id = $1'),
        ('attachments.audit_finding', 'keepsake.parse_object_key(t.object_key) ->> ''tenant'' = $1'),
        ('attachments.usage_release', 't.tenant_id = $1 AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = $1)'),
        ('attachments.usage', 't.tenant_id = $1 AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = $1)')
    ) AS l (table_name, condition) LOOP
        counts := attachments.erase_rows(line.table_name, line.condition, tenant, NULL, counts);
    END LOOP;
    RETURN counts;
END
$$;

-- What a person holds counts for nobody by name from here on.
CREATE FUNCTION attachments.erase_usage(of_tenant text, who text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE attachments.usage_release r SET subject = attachments.erased_name() WHERE r.tenant_id = of_tenant AND r.subject = who;
    INSERT INTO attachments.usage AS u (tenant_id, subject, bytes, files)
    SELECT s.tenant_id, attachments.erased_name(), s.bytes, s.files FROM attachments.usage s WHERE s.tenant_id = of_tenant AND s.subject = who
    ON CONFLICT (tenant_id, subject) DO UPDATE SET bytes = u.bytes + excluded.bytes, files = u.files + excluded.files;
    DELETE FROM attachments.usage u WHERE u.tenant_id = of_tenant AND u.subject = who;
END
$$;

-- Deletions of a person that are held: evidence, which stays as it is.
CREATE FUNCTION attachments.held_deletions_of(of_tenant text, who text) RETURNS uuid[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT DISTINCT h.id FROM unnest(attachments.held_deletions(ARRAY(
        SELECT d.id FROM keepsake.deletion d
        WHERE d.tenant = of_tenant AND d.actor = who AND d.state IN ('deleted', 'purging')))) AS h (id) WHERE h.id IS NOT NULL)
$$;

-- Takes the name off the files that a person uploaded, but for those that are held, and off their sets.
CREATE FUNCTION attachments.rename_files(tenant text, subject text, counts jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Of a set whose file still has the name, nothing is changed.
    without_held constant text :=
        't.tenant_id = $1 AND NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.upload_set_id = t.id AND a.uploaded_by = $2)';
BEGIN
    counts := attachments.rename_rows('attachments.attachment', 'uploaded_by',
        't.tenant_id = $1 AND attachments.holds_on_file(t) = ''{}''
         AND (t.deletion_id = ANY (attachments.held_deletions(ARRAY[t.deletion_id]))) IS NOT TRUE', tenant, subject, counts);
    EXECUTE 'UPDATE attachments.upload_set AS t SET files = NULL, report = NULL
             WHERE t.created_by = $2 AND t.state <> ''completed'' AND ' || without_held
    USING tenant, subject;
    RETURN attachments.rename_rows('attachments.upload_set', 'created_by', without_held, tenant, subject, counts);
END
$$;

-- What else names a person in a tenant; the rows that have the name no longer. A file that is held keeps the name of who uploaded it,
-- and what is needed to count it; a deletion that is held the name of who made it, and why.
CREATE FUNCTION attachments.rename_subject(tenant text, subject text, holds bigint[], kept_files boolean) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counts jsonb := '{}';
    held text := format('t.id = ANY (%L::bigint[])', holds);
    held_deletions uuid[] := attachments.held_deletions_of(tenant, subject);
BEGIN
    IF kept_files THEN
        counts := attachments.rename_files(tenant, subject, counts);
    END IF;
    IF NOT EXISTS (SELECT FROM attachments.attachment a WHERE a.tenant_id = rename_subject.tenant AND a.uploaded_by = subject) THEN
        PERFORM attachments.erase_usage(tenant, subject);
    END IF;
    -- The reason is what that person wrote.
    UPDATE keepsake.deletion d SET reason = NULL
    WHERE d.tenant = rename_subject.tenant AND d.actor = subject AND d.id <> ALL (held_deletions);
    counts := attachments.rename_rows('keepsake.deletion', 'actor',
        format('t.tenant = $1 AND t.id <> ALL (%L::uuid[])', held_deletions), tenant, subject, counts);
    counts := attachments.rename_rows('keepsake.hold', 'actor', held, tenant, subject, counts);
    RETURN attachments.rename_rows('keepsake.hold', 'released_by', held, tenant, subject, counts);
END
$$;

-- The erasure ------------------------------------------------------------------------------------

-- Files that stayed, by what keeps them.
CREATE FUNCTION attachments.kept_files(tenant text, subject text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH kept AS (
        SELECT attachments.holds_on_file(a) AS holds, a.deletion_id = ANY (attachments.held_deletions(ARRAY[a.deletion_id])) AS in_held
        FROM attachments.attachment a WHERE a.tenant_id = tenant AND (subject IS NULL OR a.uploaded_by = subject)),
    told AS (
        SELECT CASE WHEN holds <> '{}' OR in_held THEN 'held' ELSE 'referenced' END AS why, holds FROM kept)
    SELECT coalesce(jsonb_agg(jsonb_build_object('table', 'attachments.attachment', 'rows', rows, 'why', why, 'holds', holds) ORDER BY why), '[]')
    FROM (SELECT t.why, count(DISTINCT t.n) AS rows, coalesce(jsonb_agg(DISTINCT h.id) FILTER (WHERE h.id IS NOT NULL), '[]') AS holds
          FROM (SELECT row_number() OVER () AS n, * FROM told) AS t LEFT JOIN LATERAL unnest(t.holds) AS h (id) ON true
          GROUP BY t.why) AS by_reason
$$;

-- Deletions of a person that stayed as they were, because they are held.
CREATE FUNCTION attachments.kept_deletions(tenant text, subject text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE held WHEN '{}' THEN '[]'::jsonb ELSE jsonb_build_array(jsonb_build_object(
        'table', 'keepsake.deletion', 'rows', cardinality(held), 'why', 'held', 'holds', (
            SELECT coalesce(jsonb_agg(h.id ORDER BY h.id), '[]') FROM keepsake.hold h
            WHERE h.released_at IS NULL AND h.deletion_id = ANY (held)))) END
    FROM attachments.held_deletions_of(tenant, subject) AS held
$$;

-- Entities of one type that stayed, live ones (deletion NULL) and by deletion.
CREATE FUNCTION attachments.left_entities(known attachments.entity_type, tenant text) RETURNS TABLE (deletion_id uuid, rows bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT NULL::uuid, count(*) FROM %s AS t WHERE t.%I::text = $1%s HAVING count(*) > 0
         UNION ALL
         SELECT t.deletion_id, count(*) FROM %s WHERE t.%2$I::text = $1 GROUP BY 1',
        known.relation, known.tenant_column, CASE WHEN NOT attachments.kept_apart(known.relation) THEN ' AND t.deletion_id IS NULL' END,
        attachments.deleted_sql(known, NULL))
    USING tenant;
END
$$;

-- Entities that stayed, and why: in a deletion that another tenant has rows in; or held, or in a deletion that is; or a row refers to them.
CREATE FUNCTION attachments.kept_entities(tenant text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holds jsonb := (SELECT coalesce(jsonb_agg(h.id ORDER BY h.id), '[]') FROM attachments.holds_of(tenant) AS h WHERE h.released_at IS NULL);
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'table', w.relation, 'rows', w.rows, 'why', w.why, 'holds', CASE w.why WHEN 'held' THEN holds ELSE '[]' END)
            ORDER BY w.name, w.why), '[]')
        FROM (
            SELECT e.name, e.relation::text AS relation, sum(l.rows)::bigint AS rows,
                   CASE WHEN l.deletion_id IS NOT NULL AND NOT attachments.is_all_of(l.deletion_id, tenant) THEN 'shared'
                        WHEN holds <> '[]' THEN 'held' ELSE 'referenced' END AS why
            FROM attachments.entity_type e, attachments.left_entities(e, tenant) AS l
            GROUP BY 1, 2, 4) AS w);
END
$$;

-- Lets the bytes of what the tenant had purged earlier go at once as well. Whose file an object was nobody knows any more: what a person had
-- purged goes when its grace is over.
CREATE FUNCTION attachments.hurry_objects(tenant text, subject text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE keepsake.outbox o SET next_attempt_at = now()
    WHERE subject IS NULL AND o.attempts = 0 AND o.next_attempt_at > now()
      AND keepsake.parse_object_key(o.object_key) ->> 'tenant' = tenant
$$;

-- Refuses by KS004 what a hold on the whole tenant forbids: its DETAIL is the hold.
CREATE FUNCTION attachments.refuse_held_tenant(tenant text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held_by bigint := (SELECT h.id FROM keepsake.hold h WHERE h.tenant = refuse_held_tenant.tenant AND h.released_at IS NULL);
BEGIN
    IF held_by IS NOT NULL THEN
        RAISE EXCEPTION 'cannot erase data of a tenant that is held'
            USING ERRCODE = 'KS004', DETAIL = held_by::text,
                  HINT = 'Release the hold with this number when the law allows it, then repeat the erasure.';
    END IF;
END
$$;

-- Erases a tenant, or what one person (`subject`) did there: the files that they uploaded, or, with keep_files, only the name. One
-- transaction; whoever changes something of the tenant waits for it. Repeating it removes what came since, and what was held then.
CREATE FUNCTION attachments.erase(tenant text, subject text DEFAULT NULL, reason text DEFAULT '', keep_files boolean DEFAULT false)
RETURNS attachments.erasure
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done attachments.erasure;
    asked_by text := coalesce(nullif(current_setting('keepsake.actor', true), ''), session_user);
    claims text := coalesce(current_setting('request.jwt.claims', true), '');
    shows_deleted text := coalesce(current_setting('keepsake.include_deleted', true), '');
    holds bigint[];
    deletions uuid[];
    removed jsonb := '{}';
    renamed jsonb := '{}';
    kept jsonb;
BEGIN
    IF coalesce(tenant, '') = '' OR subject = '' THEN
        RAISE EXCEPTION 'whom to erase is not given' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass a tenant, and for one person also the subject of their tokens.';
    ELSIF keep_files AND subject IS NULL THEN
        RAISE EXCEPTION 'files of a tenant cannot be kept without their tenant' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'keep_files is for the erasure of one person.';
    END IF;
    PERFORM attachments.begin_recovery(jsonb_build_object('tenant', tenant)), set_config('attachments.erasing', 'on', true);
    -- The tables are locked before anything else, so that their owners can change nothing while they are read.
    PERFORM attachments.check_entity_tables();
    PERFORM pg_advisory_xact_lock(attachments.tenant_lock(tenant));
    PERFORM attachments.refuse_held_tenant(tenant);
    holds := ARRAY(SELECT h.id FROM attachments.holds_of(tenant) AS h);
    IF subject IS NULL THEN
        deletions := ARRAY(SELECT d.id FROM unnest(attachments.deletions_of(tenant)) AS d (id) WHERE attachments.is_all_of(d.id, tenant));
        removed := attachments.erase_entities(tenant, removed);
        kept := attachments.kept_files(tenant, NULL) || attachments.kept_entities(tenant);
        removed := attachments.erase_tenant_names(tenant, holds, deletions, removed);
    ELSE
        IF NOT keep_files THEN
            removed := attachments.erase_files(tenant, subject, removed);
        END IF;
        removed := attachments.erase_uploads(tenant, subject, removed);
        removed := attachments.erase_rows('attachments.idempotency', 't.tenant_id = $1 AND t.subject = $2', tenant, subject, removed);
        removed := attachments.erase_rows('attachments.quota', 't.tenant_id = $1 AND t.subject = $2', tenant, subject, removed);
        PERFORM attachments.settle_usage(tenant);
        renamed := attachments.rename_subject(tenant, subject, holds, keep_files);
        -- With keep_files, those that have the name still are held.
        kept := attachments.kept_files(tenant, subject) || attachments.kept_deletions(tenant, subject);
    END IF;
    INSERT INTO attachments.erasure AS e (scope, kept_files, reason, actor, role, session_role, removed, renamed, objects, kept)
    VALUES (CASE WHEN subject IS NULL THEN 'tenant' ELSE 'subject' END, keep_files, reason, asked_by, current_user, session_user,
            removed, renamed, coalesce((removed ->> 'attachments.attachment')::bigint, 0), kept)
    RETURNING e.* INTO done;
    PERFORM attachments.hurry_objects(tenant, subject), set_config('attachments.erasing', '', true);
    PERFORM set_config('request.jwt.claims', claims, true), set_config('keepsake.include_deleted', shows_deleted, true);
    RETURN done;
END
$$;

COMMENT ON FUNCTION attachments.erase IS
    'Erases everything of a tenant, or everything that one person in it uploaded (with keep_files only the name), whatever its retention, except what is held. Returns the certificate.';

REVOKE ALL ON FUNCTION
    attachments.erased_name, attachments.add_count, attachments.add_report, attachments.check_column, attachments.check_entity_tables,
    attachments.holds_of, attachments.holds_on_file, attachments.erasable_files, attachments.is_all_of, attachments.delete_for_erasure,
    attachments.purge_for_erasure, attachments.purge_rows, attachments.make_current_again, attachments.keep_versions_of_others, attachments.erase_files, attachments.erasable_entities, attachments.deletions_of,
    attachments.delete_entities, attachments.purge_entities, attachments.erase_entities, attachments.erase_uploads,
    attachments.erase_rows, attachments.rename_rows, attachments.erase_tenant_names, attachments.erase_usage, attachments.held_deletions_of,
    attachments.rename_files, attachments.rename_subject, attachments.kept_files, attachments.kept_deletions, attachments.left_entities,
    attachments.kept_entities, attachments.hurry_objects, attachments.refuse_held_tenant, attachments.erase
FROM PUBLIC;

-- Over HTTP, for an operator -------------------------------------------------------------------------

CREATE FUNCTION attachments.describe_erasure(e attachments.erasure) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_jsonb(e) - 'role' - 'session_role'
$$;

CREATE FUNCTION attachments_api.erase(request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    holds text;
BEGIN
    PERFORM set_config('keepsake.actor', request ->> 'actor', true);
    RETURN attachments.ok(attachments.describe_erasure(attachments.erase(
        request ->> 'tenant', request ->> 'subject', request ->> 'reason', (request ->> 'keep_files')::boolean)));
EXCEPTION WHEN SQLSTATE 'KS004' THEN
    GET STACKED DIAGNOSTICS holds = PG_EXCEPTION_DETAIL;
    RETURN attachments.fail('held', format('Hold %s is on the whole tenant. Release it first; nothing was changed.', holds));
END
$$;

-- Newest first.
CREATE FUNCTION attachments_api.list_erasures(request jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := (request ->> 'limit')::integer;
BEGIN
    RETURN attachments.cut_page((
        SELECT coalesce(jsonb_agg(attachments.describe_erasure(page) ORDER BY page.id DESC), '[]')
        FROM (SELECT e.* FROM attachments.erasure e
              WHERE e.id < coalesce((request ->> 'cursor')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
              ORDER BY e.id DESC LIMIT size + 1) AS page), size, 'id');
END
$$;

REVOKE ALL ON FUNCTION attachments.describe_erasure, attachments_api.erase, attachments_api.list_erasures FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.erase, attachments_api.list_erasures TO keepsake_worker;

-- 22_version.sql ---------------------------------------------

-- Which version of this schema a database has: the number of the newest migration. The worker and `keepsake doctor` compare it
-- with the one they need.

CREATE FUNCTION attachments.schema_version() RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 1;
END
$$;

-- Asked by every call of the worker.
CREATE FUNCTION attachments_api.schema_version() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN attachments.ok(jsonb_build_object('version', attachments.schema_version()));
END
$$;
COMMENT ON FUNCTION attachments_api.schema_version IS 'The number of the newest migration that was applied, as an answer: {"ok": {"version": …}}.';

REVOKE ALL ON FUNCTION attachments_api.schema_version FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.schema_version TO keepsake_worker;

-- 23_worker_role.sql ---------------------------------------------

-- What the worker's role may do beyond executing the functions of attachments_api. Nothing, as this schema and the extension leave
-- it; but PUBLIC may have been granted more by others, and what PUBLIC has every role has. `keepsake doctor` reports each row.

CREATE FUNCTION attachments.worker_rights() RETURNS TABLE (what text, object text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH worker AS (SELECT r.* FROM pg_roles r WHERE r.rolname = 'keepsake_worker'),
-- Schemas in which it finds anything, those that every role reads apart.
schema AS (
    SELECT n.oid, n.nspname, has_schema_privilege(w.oid, n.oid, 'CREATE') AS may_create
    FROM pg_namespace n, worker w
    WHERE n.nspname <> ALL ('{pg_catalog,information_schema,pg_toast}'::name[])
      AND (has_schema_privilege(w.oid, n.oid, 'USAGE') OR has_schema_privilege(w.oid, n.oid, 'CREATE')))

SELECT 'execute function', p.oid::regprocedure::text
FROM pg_proc p JOIN schema s ON s.oid = p.pronamespace, worker w
WHERE s.nspname <> 'attachments_api' AND has_function_privilege(w.oid, p.oid, 'EXECUTE')
UNION ALL
SELECT 'use relation', c.oid::regclass::text
FROM pg_class c JOIN schema s ON s.oid = c.relnamespace, worker w
WHERE c.relkind = ANY ('{r,p,v,m,f}'::"char"[])
  AND (has_table_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege(w.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
   OR c.relkind = 'S' AND has_sequence_privilege(w.oid, c.oid, 'USAGE, SELECT, UPDATE')
UNION ALL
SELECT 'create in schema', s.nspname FROM schema s WHERE s.may_create
UNION ALL
SELECT 'create in database', current_database() FROM worker w WHERE has_database_privilege(w.oid, current_database(), 'CREATE')
UNION ALL
SELECT 'make temporary tables in database', current_database()
FROM worker w WHERE has_database_privilege(w.oid, current_database(), 'TEMPORARY')
UNION ALL
SELECT 'create in tablespace', t.spcname FROM pg_tablespace t, worker w WHERE has_tablespace_privilege(w.oid, t.oid, 'CREATE')
UNION ALL
SELECT 'use untrusted language', l.lanname
FROM pg_language l, worker w WHERE l.lanispl AND NOT l.lanpltrusted AND has_language_privilege(w.oid, l.oid, 'USAGE')
UNION ALL
SELECT 'use foreign server', f.srvname FROM pg_foreign_server f, worker w WHERE has_server_privilege(w.oid, f.oid, 'USAGE')
UNION ALL
SELECT 'use large object', o.oid::text
FROM pg_largeobject_metadata o, worker w
WHERE o.lomowner = w.oid OR EXISTS (SELECT FROM aclexplode(o.lomacl) a WHERE a.grantee IN (0, w.oid))
UNION ALL
SELECT 'act as role', m.roleid::regrole::text FROM pg_auth_members m JOIN worker w ON w.oid = m.member
UNION ALL
SELECT 'own', pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_shdepend d JOIN worker w ON w.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o'
  AND d.dbid IN (0, (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()))
UNION ALL
SELECT 'has the attribute', attribute
FROM worker w, LATERAL (VALUES ('SUPERUSER', w.rolsuper), ('CREATEROLE', w.rolcreaterole), ('CREATEDB', w.rolcreatedb),
                               ('REPLICATION', w.rolreplication), ('BYPASSRLS', w.rolbypassrls)) AS has (attribute, yes)
WHERE yes
$$;
COMMENT ON FUNCTION attachments.worker_rights IS
    'Rights of keepsake_worker beyond executing the functions of attachments_api. No row: it has no others.';
REVOKE ALL ON FUNCTION attachments.worker_rights FROM PUBLIC;

-- 24_versions.sql ---------------------------------------------

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
