-- What else a row must satisfy to come back: CHECK constraints of tables and of the domains of their columns, and a
-- partition to go to. Each condition is one on a row of the table; that of a domain reads the column as VALUE.
SELECT con.conrelid AS relation,
       con.conname::text AS name,
       'check' AS kind,
       NULL::text AS column_name,
       pg_get_expr(con.conbin, con.conrelid) AS condition
FROM pg_constraint con
WHERE con.contype = 'c' AND con.conrelid = ANY ($1)
  AND coalesce((to_jsonb(con) ->> 'conenforced')::boolean, true)
UNION ALL
SELECT a.attrelid, con.conname::text, 'check', a.attname::text, pg_get_expr(con.conbin, 0)
FROM pg_attribute a
JOIN LATERAL (
    WITH RECURSIVE over (oid, kind, base) AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype FROM over JOIN pg_type t ON t.oid = over.base WHERE over.kind = 'd')
    SELECT oid FROM over WHERE kind = 'd'
) domain ON true
JOIN pg_constraint con ON con.contypid = domain.oid AND con.contype = 'c'
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT root, root::regclass::text, 'no_partition', NULL,
       string_agg('(' || coalesce(pg_get_partition_constraintdef(tree.relid), 'true') || ')', ' OR ')
FROM unnest($1::oid[]) AS root
JOIN pg_class c ON c.oid = root AND c.relkind = 'p'
CROSS JOIN keepsake.partition_tree(root) AS tree
WHERE tree.isleaf AND tree.level > 0
GROUP BY root
ORDER BY 1, 2
