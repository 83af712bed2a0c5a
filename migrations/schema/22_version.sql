-- Which version of this schema a database has: the number of the newest migration. The worker and `keepsake doctor` compare it
-- with the one they need.

CREATE FUNCTION attachments.schema_version() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 1
$$;

CREATE FUNCTION attachments_api.schema_version() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT attachments.ok(jsonb_build_object('version', attachments.schema_version()))
$$;
COMMENT ON FUNCTION attachments_api.schema_version IS 'The number of the newest migration that was applied, as an answer: {"ok": {"version": …}}.';

REVOKE ALL ON FUNCTION attachments_api.schema_version FROM PUBLIC;
GRANT EXECUTE ON FUNCTION attachments_api.schema_version TO keepsake_worker;
