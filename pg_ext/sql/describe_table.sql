-- What manage() must know of a table before it takes it on.
SELECT c.oid,
       c.oid::regclass::text AS shown,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       c.relispartition AS is_partition,
       EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)) AS inherits,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
       n.nspname ~ '^(pg_|information_schema$|keepsake$)' AS is_system,
       (SELECT array_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attname)
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('deleted_at', 'deletion_id')) AS state_columns,
       EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = c.oid) AS managed,
       (SELECT min(format('%s (constraint %s)', con.confrelid::regclass, con.conname))
        FROM pg_constraint con
        WHERE con.contype = 'f' AND con.conrelid = c.oid AND con.confrelid <> c.oid AND con.confdeltype = 'c'
          AND NOT EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = con.confrelid)) AS cascading_parent,
       (SELECT min(r.oid::regclass::text)
        FROM pg_constraint con JOIN pg_class r ON r.oid = con.conrelid
        WHERE con.contype = 'f' AND con.confrelid = c.oid AND con.conparentid = 0 AND r.relkind <> 'r') AS partitioned_child
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1
