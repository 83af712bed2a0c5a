-- The foreign keys of tables that are to get rows, as far as they are enforced and PostgreSQL's own check of a new row can
-- be done for many rows at once. Not those with PERIOD, whose check is another.
SELECT con.oid,
       con.conname::text AS name,
       con.conrelid AS child,
       con.confrelid AS parent,
       con.confdeltype = 'c' AS cascades,
       con.confmatchtype = 'f' AS match_full,
       columns.child AS child_columns,
       columns.parent AS parent_columns,
       columns.operators,
       -- The copies that partitions of the referring table have, and those for partitions of the referred one.
       ARRAY(WITH RECURSIVE below (oid) AS (
                 SELECT con.oid
                 UNION ALL SELECT c.oid FROM below JOIN pg_constraint c ON c.conparentid = below.oid)
             SELECT oid FROM below) AS copies,
       p.oid::regclass::text AS parent_shown,
       pn.nspname::text AS parent_schema,
       p.relname::text AS parent_name,
       p.relowner AS parent_owner,
       p.relkind = 'p' AS parent_partitioned,
       m.keep AS parent_keep
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
  -- Columns of newer releases.
  AND coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
  AND NOT coalesce((to_jsonb(con) ->> 'conperiod')::boolean, false)
ORDER BY con.conrelid, con.conname
