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
