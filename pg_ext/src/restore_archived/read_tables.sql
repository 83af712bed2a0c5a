-- Tables whose rows are archived, those with these OIDs, and their archives.
SELECT c.oid,
       c.oid::regclass::text AS shown,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relowner AS owner,
       c.relkind = 'p' AS partitioned,
       m.after_triggers = 'fire' AS fires,
       EXISTS (SELECT FROM pg_index i WHERE NOT i.indimmediate
               AND (i.indrelid = c.oid OR i.indrelid IN (SELECT relid FROM keepsake.partition_tree(c.oid)))) AS defers,
       ac.oid AS archive,
       an.nspname::text AS archive_schema,
       ac.relname::text AS archive_name,
       coalesce(k.names, '{}') AS key_names,
       coalesce(k.types, '{}') AS key_types,
       coalesce(k.type_oids, '{}') AS key_type_oids,
       coalesce(k.declared_types, '{}') AS key_declared_types,
       coalesce(k.operators, '{}') AS key_operators
FROM keepsake.archive_table t
JOIN keepsake.managed_table m ON m.relation = t.relation
JOIN pg_class c ON c.oid = t.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class ac ON ac.oid = t.archive
JOIN pg_namespace an ON an.oid = ac.relnamespace
JOIN_KEY
WHERE t.relation::oid = ANY ($1)
ORDER BY c.oid
