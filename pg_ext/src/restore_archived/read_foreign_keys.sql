-- The foreign keys and declared references of tables that are to get rows; foreign keys as far as they are enforced.
SELECT con.oid,
       con.conname::text AS name,
       con.conrelid AS child,
       con.confrelid AS parent,
       con.confdeltype = 'c' AS cascades,
       con.confmatchtype = 'f' AS match_full,
       -- Known from PostgreSQL 18 on.
       coalesce((to_jsonb(con) ->> 'conperiod')::boolean, false) AS has_period,
       columns.child AS child_columns,
       columns.parent AS parent_columns,
       columns.operators,
       -- The copies that partitions of the referring table have, and those for partitions of the referred one.
       ARRAY(WITH RECURSIVE below (oid) AS (
                 SELECT con.oid
                 UNION ALL SELECT c.oid FROM below, LATERAL (
                     -- Nearly all have no parent, so the planner would go through all of them. OFFSET has it look up each.
                     SELECT p.oid FROM pg_constraint p WHERE p.conparentid = below.oid OFFSET 0) c)
             SELECT oid FROM below) AS copies,
       p.oid::regclass::text AS parent_shown,
       pn.nspname::text AS parent_schema,
       p.relname::text AS parent_name,
       p.relowner AS parent_owner,
       p.relkind = 'p' AS parent_partitioned,
       m.keep AS parent_keep,
       NULL::text AS type_column,
       NULL::text AS type_value,
       NULL::text AS parent_type
FROM pg_constraint con
JOIN pg_class p ON p.oid = con.confrelid
JOIN pg_namespace pn ON pn.oid = p.relnamespace
LEFT JOIN keepsake.managed_table m ON m.relation = con.confrelid
CROSS JOIN LATERAL (
    SELECT array_agg(ca.attname::text ORDER BY k.n) AS child,
           array_agg(pa.attname::text ORDER BY k.n) AS parent,
           array_agg(format('OPERATOR(%I.%s)', opn.nspname, op.oprname) ORDER BY k.n) AS operators
    FROM unnest(con.conkey, con.confkey, con.conpfeqop) WITH ORDINALITY AS k (child, parent, operator, n)
    JOIN pg_attribute ca ON ca.attrelid = con.conrelid AND ca.attnum = k.child
    JOIN pg_attribute pa ON pa.attrelid = con.confrelid AND pa.attnum = k.parent
    JOIN pg_operator op ON op.oid = k.operator
    JOIN pg_namespace opn ON opn.oid = op.oprnamespace
) columns
WHERE con.contype = 'f' AND con.conparentid = 0 AND con.conrelid = ANY ($1)
  AND coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
UNION ALL
SELECT NULL, format('%s.%s=%s', d.type_column, d.id_column, d.type_value), d.child, d.parent, true, false, false,
       ARRAY[d.id_column::text], ARRAY[a.attname::text], ARRAY[format('OPERATOR(%I.%s)', opn.nspname, op.oprname)], '{}',
       p.oid::regclass::text, pn.nspname::text, p.relname::text, p.relowner, p.relkind = 'p', m.keep,
       d.type_column::text, d.type_value, CASE WHEN id.atttypid <> k.oid THEN format('%I.%I', kn.nspname, k.typname) END
FROM keepsake.declared_reference d
JOIN pg_class p ON p.oid = d.parent
JOIN pg_namespace pn ON pn.oid = p.relnamespace
JOIN keepsake.managed_table m ON m.relation = d.parent
-- What of one is lost refers to nothing; doctor() tells.
JOIN pg_attribute type ON type.attrelid = d.child AND type.attname = d.type_column AND NOT type.attisdropped
JOIN pg_attribute id ON id.attrelid = d.child AND id.attname = d.id_column AND NOT id.attisdropped
JOIN pg_index i ON i.indrelid = d.parent AND i.indisprimary
JOIN pg_attribute a ON a.attrelid = d.parent AND a.attnum = i.indkey[0]
JOIN pg_type k ON k.oid = a.atttypid
JOIN pg_namespace kn ON kn.oid = k.typnamespace
JOIN pg_opclass oc ON oc.oid = i.indclass[0]
JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3 AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
JOIN pg_operator op ON op.oid = am.amopopr
JOIN pg_namespace opn ON opn.oid = op.oprnamespace
WHERE d.child::oid = ANY ($1)
ORDER BY child, name
