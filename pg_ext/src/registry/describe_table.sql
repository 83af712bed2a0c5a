-- What manage() must know of a table before it takes it on.
SELECT c.oid,
       c.oid::regclass::text AS shown,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       c.relispartition AS is_partition,
       c.relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)) AS inherits,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
       (SELECT min(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
        WHERE i.indrelid = c.oid AND i.indisprimary AND a.attgenerated <> '') AS generated_key,
       n.nspname ~ '^(pg_|information_schema$|keepsake$)' AS is_system,
       (SELECT array_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attname)
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('deleted_at', 'deletion_id')) AS state_columns,
       EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = c.oid) AS managed,
       -- A parent that refers back cannot be managed first; who refers to whom is only asked of parents that are not managed.
       (SELECT min(format('%s (constraint %s)', con.confrelid::regclass, con.conname))
        FROM (SELECT con.confrelid, con.conname FROM pg_constraint con
              WHERE con.contype = 'f' AND con.conrelid = c.oid AND con.conparentid = 0 AND con.confdeltype = 'c' AND con.confrelid <> c.oid
                AND NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = con.confrelid)
              OFFSET 0) AS con
        WHERE NOT EXISTS (
            WITH RECURSIVE below (oid) AS (
                SELECT c.oid
                UNION SELECT con.conrelid FROM pg_constraint con JOIN below ON con.confrelid = below.oid WHERE con.contype = 'f')
            SELECT FROM below WHERE below.oid = con.confrelid)) AS cascading_parent,
       (SELECT coalesce(
                   'Its partition ' || min(part.relid::regclass::text) FILTER (WHERE pc.relkind = 'f') || ' is a foreign table.',
                   'The partition ' || min(part.relid::regclass::text) FILTER (WHERE con.oid IS NOT NULL) || ' has a foreign key of its own.',
                   CASE WHEN pg_get_partkeydef(c.oid) ~ E'\\y(deleted_at|deletion_id)\\y'
                        THEN 'Its partition key reads deleted_at or deletion_id.' END)
        FROM pg_partition_tree(c.oid) AS part
        JOIN pg_class pc ON pc.oid = part.relid
        LEFT JOIN pg_constraint con ON con.contype = 'f' AND con.conparentid = 0 AND part.level > 0
                                   AND part.relid IN (con.conrelid, con.confrelid)
        WHERE c.relkind = 'p') AS partition_trouble,
       (SELECT min(con.confrelid::regclass::text)
        FROM pg_constraint con
        WHERE con.contype = 'f' AND con.conrelid = c.oid AND con.conparentid = 0
          AND pg_partition_root(con.confrelid) <> con.confrelid
          AND pg_partition_root(con.confrelid) IN (SELECT relation FROM keepsake.kept_in_place)) AS refers_to_partition
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1
