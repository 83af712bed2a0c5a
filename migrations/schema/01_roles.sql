-- Roles, schemas, and how a function is handed to the role that may call it.
--
-- keepsake_api     owns the functions that the worker calls for a user, and works under row-level security
-- keepsake_worker  is whom the worker connects as: it executes the functions of attachments_api and nothing else
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
