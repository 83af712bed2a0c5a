-- What is known of each table of `concerned`.
SELECT c.oid,
       c.oid::regclass::text AS shown,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relowner AS owner,
       EXISTS (SELECT FROM keepsake.kept_in_place m WHERE m.relation = c.oid) AS managed,
       (SELECT m.on_delete FROM keepsake.kept_in_place m WHERE m.relation = c.oid) AS on_plain_delete,
       EXISTS (SELECT FROM keepsake.managed_table m WHERE m.relation = c.oid AND m.keep = 'archive') AS archived,
       c.relkind = 'p' AS partitioned,
       c.relispartition AS is_partition,
       marks.columns AS mark_columns,
       (SELECT i.indexrelid
        FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] AND a.attname = 'deletion_id' AND a.atttypid = 'uuid'::regtype
        WHERE i.indrelid = c.oid AND c.relkind = 'r' AND i.indisvalid AND i.indnatts = 1 AND am.amname = 'btree'
          -- Its predicate, which to print would wait for whoever has locked the table: deletion_id IS NOT NULL.
          AND i.indpred::text ~ format('^\(?\{NULLTEST :arg \{VAR :varno 1 :varattno %s [^{}]*\} :nulltesttype 1 [^{}]*\}\)?$', a.attnum)
        ORDER BY i.indexrelid LIMIT 1) AS deletion_index,
       parts.oids AS partition_oids,
       parts.mark_columns AS partition_mark_columns,
       parts.schemas AS partition_schemas,
       parts.names AS partition_names,
       -- tgtype: 1 for each row, 2 before, 16 update (src/include/catalog/pg_trigger.h).
       EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
               WHERE t.tgrelid = c.oid AND t.tgtype & 19 = 19 AND NOT t.tgisinternal
                 AND p.pronamespace <> 'keepsake'::regnamespace) AS may_prevent_update,
       NOT EXISTS (
           SELECT FROM unnest(parts.oids || c.oid) AS r (oid)
           JOIN keepsake.own_triggers() w ON w.carried_by = 'referring' OR w.carried_by = 'referring partitioned' AND c.relkind = 'p'
           WHERE NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                             WHERE t.tgrelid = r.oid AND t.tgname = w.name AND t.tgenabled IN ('O', 'A')
                               AND p.proname = w.function AND p.pronamespace = 'keepsake'::regnamespace
                               AND t.tgtype = w.tgtype AND t.tgqual IS NULL AND t.tgattr::text = '' AND NOT t.tgdeferrable)) AS guards_stand,
       EXISTS (SELECT FROM pg_trigger t JOIN pg_index i ON i.indrelid = t.tgrelid AND i.indisprimary
               WHERE t.tgrelid = c.oid AND t.tgattr::int2[] && i.indkey::int2[]) AS key_is_watched,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
       coalesce(k.names, '{}') AS key_names,
       coalesce(k.types, '{}') AS key_types,
       coalesce(k.type_oids, '{}') AS key_type_oids,
       coalesce(k.declared_types, '{}') AS key_declared_types,
       coalesce(k.operators, '{}') AS key_operators
FROM concerned
JOIN pg_class c ON c.oid = concerned.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN_KEY
CROSS JOIN LATERAL (
    SELECT string_agg(a.attnum::text, ' ' ORDER BY a.attname) AS columns FROM pg_attribute a
    WHERE a.attrelid = c.oid AND (a.attname, a.atttypid) IN (('deleted_at', 'timestamptz'::regtype), ('deletion_id', 'uuid'::regtype))
      AND a.attgenerated = '' AND NOT a.attisdropped
) marks
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(leaf.oid ORDER BY leaf.oid), '{}') AS oids,
           coalesce(array_agg(ln.nspname::text ORDER BY leaf.oid), '{}') AS schemas,
           coalesce(array_agg(leaf.relname::text ORDER BY leaf.oid), '{}') AS names,
           coalesce(array_agg((
               SELECT string_agg(a.attnum::text, ' ' ORDER BY a.attname) FROM pg_attribute a
               WHERE a.attrelid = leaf.oid AND (a.attname, a.atttypid) IN (('deleted_at', 'timestamptz'::regtype), ('deletion_id', 'uuid'::regtype))
                 AND a.attgenerated = '' AND NOT a.attisdropped) ORDER BY leaf.oid), '{}') AS mark_columns
    FROM keepsake.partition_tree(c.oid) AS tree
    JOIN pg_class leaf ON leaf.oid = tree.relid
    JOIN pg_namespace ln ON ln.oid = leaf.relnamespace
    WHERE c.relkind = 'p' AND tree.level > 0
) parts
ORDER BY n.nspname, c.relname
