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
