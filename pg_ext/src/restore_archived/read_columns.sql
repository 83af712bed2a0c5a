-- The columns that tables have now. Types are named so that they mean the same under any search_path; of a domain also
-- what it is over, with the length that it gives.
SELECT a.attrelid AS relation,
       a.attnum,
       a.attname::text AS name,
       a.atttypid AS type,
       format('%I.%I', tn.nspname, t.typname) AS type_sql,
       base.oid AS base,
       format('%I.%I', base.schema, base.name) AS base_sql,
       base.typmod,
       a.attcollation AS "collation",
       CASE WHEN l.oid IS NOT NULL THEN format(' COLLATE %I.%I', ln.nspname, l.collname) END AS collate_sql,
       a.attnotnull OR t.typnotnull AS not_null,
       -- What rows show that were there before the column; gone once the table is rewritten.
       (a.attmissingval::text::text[])[1] AS missing,
       CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS expression
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_namespace tn ON tn.oid = t.typnamespace
JOIN LATERAL (
    WITH RECURSIVE over (oid, name, namespace, kind, base, inner_typmod, typmod) AS (
        SELECT t.oid, t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod
        UNION ALL
        SELECT b.oid, b.typname, b.typnamespace, b.typtype, b.typbasetype, b.typtypmod, over.inner_typmod
        FROM over JOIN pg_type b ON b.oid = over.base WHERE over.kind = 'd')
    SELECT over.oid, over.name, bn.nspname AS schema, over.typmod
    FROM over JOIN pg_namespace bn ON bn.oid = over.namespace WHERE over.kind <> 'd'
) base ON true
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
