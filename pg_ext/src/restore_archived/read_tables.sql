-- Tables whose rows are archived, those with these OIDs, and their archives.
SELECT c.oid,
       c.oid::regclass::text AS shown,
       n.nspname::text AS schema,
       c.relname::text AS name,
       c.relowner AS owner,
       c.relkind = 'p' AS partitioned,
       m.after_triggers = 'fire' AS fires,
       EXISTS (SELECT FROM pg_index i WHERE NOT i.indimmediate
               AND (i.indrelid = c.oid OR i.indrelid IN (SELECT relid FROM pg_partition_tree(c.oid)))) AS defers,
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
LEFT JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY part.n) AS names,
           array_agg(format('%I.%I', base.schema, base.name) ORDER BY part.n) AS types,
           array_agg(base.oid ORDER BY part.n) AS type_oids,
           array_agg(a.atttypid ORDER BY part.n) AS declared_types,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY part.n) AS operators
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS part (attnum, opclass, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
    -- The type itself, or what a domain is over.
    JOIN LATERAL (
        WITH RECURSIVE over (oid, name, namespace, kind, base) AS (
            SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
            UNION ALL
            SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype
            FROM over JOIN pg_type t ON t.oid = over.base WHERE over.kind = 'd')
        SELECT over.oid, over.name, tn.nspname AS schema
        FROM over JOIN pg_namespace tn ON tn.oid = over.namespace WHERE over.kind <> 'd'
    ) base ON true
    JOIN pg_opclass oc ON oc.oid = part.opclass
    LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conexclop IS NOT NULL
    LEFT JOIN pg_amop am ON con.oid IS NULL AND am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                        AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
    JOIN pg_operator op ON op.oid = coalesce(con.conexclop[part.n], am.amopopr)
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    WHERE i.indrelid = c.oid AND i.indisprimary AND part.n <= i.indnkeyatts
) k ON true
WHERE t.relation::oid = ANY ($1)
ORDER BY c.oid
