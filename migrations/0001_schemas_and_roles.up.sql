-- The attachment domain: tables in `attachments`, what the worker may call in `attachments_api`.
--
-- keepsake_api     owns the functions the worker calls and works under row-level security
-- keepsake_worker  is whom the worker connects as: it executes those functions and touches no table
--
-- Run as a superuser: the extension needs one, and the functions change owner.

CREATE EXTENSION IF NOT EXISTS keepsake;

DO $$
DECLARE
    role text;
BEGIN
    -- Roles belong to the whole cluster and may be there from another database.
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

-- The caller's claims, as PostgREST and Supabase set them: policies written for those work here.
CREATE FUNCTION attachments.claim(name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> name
$$;
COMMENT ON FUNCTION attachments.claim IS 'A claim of the caller''s token, set for the transaction.';

CREATE FUNCTION attachments.tenant() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.claim('tenant')
$$;
COMMENT ON FUNCTION attachments.tenant IS 'The caller''s tenant; NULL without claims, and then nothing is visible.';

-- Answers are values: {"ok": …} or {"error": {"code", "detail", …}}. The codes and their HTTP
-- statuses are the table of keepsake-shared.
CREATE FUNCTION attachments.ok(body jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('ok', body)
$$;

CREATE FUNCTION attachments.fail(code text, detail text, more jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('error', jsonb_build_object('code', code, 'detail', detail) || more)
$$;

-- Hands functions of the API to the role they run as, and to the worker alone.
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
