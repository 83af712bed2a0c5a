-- What policies hide deleted rows in a table and its partitions, and what stands in the way of those that are missing. As whoever calls, who may
-- have no right in the schema keepsake.
WITH RECURSIVE part (relid) AS (
    SELECT c.oid FROM pg_class c WHERE c.oid = $1 AND (c.relkind = 'p' OR c.relispartition)
    UNION ALL SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.relid AND NOT i.inhdetachpending)
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.oid::regclass::text AS shown, c.relispartition AS is_partition,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_own,
       c.relispartition AND c.relowner <> (SELECT whole.relowner FROM pg_class whole WHERE whole.oid = pg_partition_root(c.oid)) AS has_other_owner,
       c.relrowsecurity AS has_rls, c.relforcerowsecurity AS is_forced,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname <> ALL (own.names)) AS has_policies,
       ARRAY(SELECT p.polname::text FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = ANY (own.names)) AS own_policies
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN (SELECT $2::text[]::name[] AS names) AS own
WHERE c.oid = $1 OR c.oid IN (SELECT part.relid FROM part)
ORDER BY c.oid <> $1, c.oid
