-- What must be known of a table whose rows are to be archived. As whoever calls, who may have no right in the schema keepsake: its partitions are found without
-- keepsake.partition_tree().
WITH RECURSIVE part (relid) AS (SELECT $1::oid UNION ALL SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.relid AND NOT i.inhdetachpending)
SELECT c.oid::regclass::text AS shown,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       c.relispartition AS is_partition,
       c.relowner AS owner,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       n.nspname ~ '^(pg_|information_schema$|keepsake$)' OR EXISTS (
           SELECT FROM keepsake.archive_table a WHERE a.archive = c.oid OR a.archive IN (SELECT h.inhparent FROM pg_inherits h WHERE h.inhrelid = c.oid)) AS is_system,
       c.relrowsecurity AS has_rls,
       (SELECT m.keep FROM keepsake.managed_table m WHERE m.relation = c.oid) AS keep,
       (SELECT min(part.relid::regclass::text) FROM part JOIN pg_class pc ON pc.oid = part.relid
        WHERE c.relkind = 'p' AND pc.relkind = 'f') AS foreign_part,
       (SELECT a.archive::oid FROM keepsake.archive_table a WHERE a.relation = c.oid) AS archive
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1
