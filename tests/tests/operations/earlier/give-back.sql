-- The update from the version that take-away.sql makes up: what pg_ext/sql/<earlier>--<this>.sql is for a released one. It is
-- followed by pg_ext/sql/metrics.sql, which makes the view.
CREATE FUNCTION keepsake.sanitize_filename(name text) RETURNS text
IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'sanitize_filename_wrapper';
CREATE INDEX deletion_bin ON keepsake.deletion (tenant, id) WHERE state = 'deleted' AND tenant IS NOT NULL;
REVOKE EXECUTE ON FUNCTION keepsake.doctor() FROM PUBLIC;
